"""A pass written down operation by operation, to be run again on other weights without the model's Python.

What the operations are depends on Python code, which may look at numbers; what it saw is written down too, and a
program says when it no longer holds. Then the pass has to be run, and can be written down, anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pruneinit.calls import address
from pruneinit.flow.program import Program, Slot, Step, as_function

_READ = torch.ops.aten._local_scalar_dense.default
_SAME = torch.ops.aten.detach.default
_COPY = torch.ops.aten.clone.default
_INDEXED = torch.ops.aten.index.Tensor  # its shape tells of the indices, which come second
# What gives something else each time, and what gives Python, or a shape, something of the numbers.
_RANDOM = torch.Tag.nondeterministic_seeded
_TELLING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what PyTorch computes while it is active, the backward pass too.

    It keeps all tensors that it sees, since it knows them by their identity.

    Attributes:
        possible: Whether what was seen can be run again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.possible = True
        self._steps: list[Step] = []
        self._tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}
        self._made: set[int] = set()  # the storages of what was computed here
        self._written: set[int] = set()
        self._tops: dict[int, float] = {}
        self._answers: dict[int, Any] = {}
        self._reading = False
        self._inputs: list[int] = []
        self._changing: set[int] = set()  # the storages of inputs

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler, for seconds, to keep it out of here

    def vary(self, inputs: Iterable[Tensor]) -> None:
        """Say which tensors are to be others when the program runs."""
        for tensor in inputs:
            self._inputs.append(self._number(tensor))
            self._changing |= {address(tensor)} - {0}

    def top(self, tensor: Tensor) -> float:
        """A number that is looked at for its magnitude alone."""
        self._reading = True
        try:
            return float(tensor)
        finally:
            self._reading = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and write it down."""
        with torch._C.DisableTorchFunction():  # in a backward pass a `Flow` would take this for calls of the model
            return self._seen(func, args, kwargs or {})

    def _seen(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        takes: list[int] = []
        held, words = _replaced((args, kwargs), Tensor, lambda tensor: Slot(self._taken(tensor, takes)))
        result = func(*args, **kwargs)
        if func is _READ:
            (self._tops if self._reading else self._answers)[takes[0]] = result
        elif func is _SAME:
            self._know(result, takes[0])
        else:
            self.possible &= _RANDOM not in func.tags
            written = {address(tensor) for tensor in _written(func, args, kwargs)} - {0}
            self.possible &= written <= self._made
            self._written |= written
            # A view of what was not computed here was not either.
            outside = {0, *(address(self._tensors[number]) for number in takes)} - self._made
            several = isinstance(result, (tuple, list))
            results = list(result) if several else [result]
            gives = [self._number(found) if isinstance(found, Tensor) else None for found in results]
            self._made |= {address(found) for found in results} - outside
            tells = [] if _TELLING.isdisjoint(func.tags) else takes[1:] if func is _INDEXED else takes
            self._steps.append(Step(func, held, words, takes, gives, several, tells))
        return result

    def program(self, results: Sequence[Tensor | None]) -> Program | None:
        """What was written down, as a way to these results; None where it cannot be repeated."""
        if not all(result is None or id(result) in self._numbers for result in results):
            return None
        changing, steps = set(self._inputs), []
        for step in self._steps:
            storages = {address(self._tensors[number]) for number in step.gives if number is not None}
            if step.writes or changing.intersection(step.takes) or self._written & storages:
                changing.update(number for number in step.gives if number is not None)
                steps.append(step)
        if not self.possible or any(changing.intersection(step.tells) for step in steps):
            return None
        tops = {number: top for number, top in self._tops.items() if number in changing}
        if len({(self._tensors[number].dtype, self._tensors[number].device) for number in tops}) > 1:
            return None
        answers = {number: answer for number, answer in self._answers.items() if number in changing}
        wanted = [None if result is None else self._numbers[id(result)] for result in results]
        taken = {number for step in steps for number in step.takes} | {n for n in wanted if n is not None}
        constants = {number: self._tensors[number] for number in taken - changing}
        asked = (*wanted, *tops, *answers)
        run = as_function(steps, [*self._inputs, *constants], asked, self._is_plain_copy)
        return Program(run, list(constants.values()), list(tops.values()), list(answers.values()))

    def _is_plain_copy(self, step: Step) -> bool:
        """Whether a step copies what nobody writes to, nor to the copy."""
        if step.func is not _COPY or step.gives[0] is None:
            return False
        before, after = self._tensors[step.takes[0]], self._tensors[step.gives[0]]
        alike = before.stride() == after.stride()
        return alike and self._written.isdisjoint((address(before), address(after)))

    def _taken(self, tensor: Tensor, takes: list[int]) -> int:
        if id(tensor) not in self._numbers and (address(tensor) in self._made or address(tensor) in self._changing):
            self.possible = False  # a view of something that changes, made out of sight
        takes.append(self._number(tensor))
        return takes[-1]

    def _number(self, tensor: Tensor) -> int:
        number = self._numbers.get(id(tensor))
        return self._know(tensor, len(self._tensors)) if number is None else number

    def _know(self, tensor: Tensor, number: int) -> int:
        self._numbers[id(tensor)] = number
        self._tensors.append(tensor)
        return number


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation changes."""
    found: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments if func._schema.is_mutable else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found += [value] if isinstance(value, Tensor) else value or []
    return found


def _replaced(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same structure of tuples, lists and dictionaries with something else for each value of a kind."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_replaced(part, kind, change) for part in value)
    return {word: _replaced(part, kind, change) for word, part in value.items()} if isinstance(value, dict) else value
