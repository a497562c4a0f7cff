"""A pass written down operation by operation, to be run again on other weights without the model's Python.

What the operations are depends on Python code, which may look at numbers; what it saw is written down too, and a
program says when it no longer holds. Then the pass has to be run, and can be written down, anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pruneinit.calls import address
from pruneinit.flow.scaled import ROOM, excess

# How far a magnitude may go from where it was in the pass that was written down: 2 to this power, up or down.
_SWAY = 2 * ROOM

_READ = torch.ops.aten._local_scalar_dense.default
_SAME = torch.ops.aten.detach.default
# What gives something else each time, and what gives Python, or a shape, something of the numbers.
_RANDOM = torch.Tag.nondeterministic_seeded
_INDEXED = torch.ops.aten.index.Tensor  # its shape tells of the indices, which come second
_TELLING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


@dataclass(frozen=True)
class Slot:
    """A tensor of the pass, by number."""

    number: int


@dataclass
class Step:
    """One operation.

    Attributes:
        func: What is run.
        args: Its arguments, with a `Slot` for each tensor.
        kwargs: The same by keyword.
        takes: The numbers of these tensors.
        gives: The numbers of the results.
        writes: Whether it changes an argument.
        tells: Those of `takes` of which Python may see the elements, or a shape that depends on them.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    takes: list[int]
    gives: list[int]
    writes: bool
    tells: list[int]


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
        self._tops: list[tuple[int, float]] = []
        self._answers: list[tuple[int, Any]] = []
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
        held, words = _replaced((args, kwargs), lambda tensor: Slot(self._taken(tensor, takes)))
        result = func(*args, **kwargs)
        if func is _READ:
            (self._tops if self._reading else self._answers).append((takes[0], result))
        elif func is _SAME:
            self._know(result, takes[0])
        else:
            self.possible &= _RANDOM not in func.tags
            written = {address(tensor) for tensor in _written(func, args, kwargs)} - {0}
            self.possible &= written <= self._made
            self._written |= written
            gives = [self._number(tensor) for tensor in _tensors(result)]
            self._made |= {address(self._tensors[number]) for number in gives} - self._outside(takes)
            tells = [] if _TELLING.isdisjoint(func.tags) else takes[1:] if func is _INDEXED else takes
            self._steps.append(Step(func, held, words, takes, gives, func._schema.is_mutable, tells))
        return result

    def program(self, results: Sequence[Tensor | None]) -> Program | None:
        """What was written down, as a way to these results; None where it cannot be repeated."""
        if not all(result is None or id(result) in self._numbers for result in results):
            return None
        changing = set(self._inputs)
        steps = []
        for step in self._steps:
            if step.writes or changing.intersection(step.takes) or self._written.intersection(self._storages(step)):
                changing.update(step.gives)
                steps.append(step)
        tops = [(number, value) for number, value in self._tops if number in changing]
        answers = [(number, value) for number, value in self._answers if number in changing]
        kinds = {(self._tensors[number].dtype, self._tensors[number].device) for number, _ in tops}
        if not self.possible or len(kinds) > 1 or any(changing.intersection(step.tells) for step in steps):
            return None
        wanted = [None if result is None else self._numbers[id(result)] for result in results]
        needed = {number for number in wanted if number is not None} | {n for n, _ in (*tops, *answers)}
        kept = []
        for step in reversed(steps):
            if step.writes or needed.intersection(step.gives):
                needed.update(step.takes)
                kept.append(step)
        constants = {number: self._tensors[number] for number in needed - changing}
        return Program(kept[::-1], self._inputs, constants, wanted, tops, answers)

    def _storages(self, step: Step) -> Iterator[int]:
        return (address(self._tensors[number]) for number in step.gives)

    def _outside(self, takes: Sequence[int]) -> set[int]:
        """The storages of arguments that were not computed here, as a view of them is not; and that of nothing."""
        return {0, *(address(self._tensors[number]) for number in takes)} - self._made

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


class Program:
    """A pass that was written down by a `Recorder`.

    Args:
        steps: The operations, in order.
        inputs: The numbers of the tensors it is given.
        constants: Tensors that are the same each time, by number.
        results: The numbers of what it gives.
        tops: Numbers that were looked at for their magnitude, and what they were.
        answers: Numbers that were looked at for themselves, and what they were.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[int],
        constants: dict[int, Tensor],
        results: Sequence[int | None],
        tops: Sequence[tuple[int, float]],
        answers: Sequence[tuple[int, Any]],
    ) -> None:
        self._inputs, self._constants, self._results, self._answers = inputs, constants, results, answers
        self._tops = [number for number, _ in tops]
        # About the power of two by which the pass that was written down has then divided.
        powers = [excess(top) for _, top in tops]
        self._range = [(2.0 ** (power - _SWAY), 2.0 ** min(power + _SWAY, 1023)) for power in powers]
        self._steps = _with_ends(steps, {n for n in (*results, *self._tops, *(n for n, _ in answers)) if n is not None})

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor | None] | None:
        """The results for other inputs; None where the pass has to be run by the model."""
        known = self._constants | dict(zip(self._inputs, inputs, strict=True))
        with torch.inference_mode(False), torch.no_grad():
            for step, places, words, ended in self._steps:
                args: Sequence[Any] = step.args
                if places:
                    args = list(args)
                    for place in places:
                        args[place] = _filled(args[place], known)
                kwargs = step.kwargs
                if words:
                    kwargs = kwargs | {word: _filled(kwargs[word], known) for word in words}
                result = step.func(*args, **kwargs)
                if isinstance(result, Tensor):
                    known[step.gives[0]] = result
                else:
                    known.update(zip(step.gives, _tensors(result), strict=True))
                for number in ended:
                    del known[number]
        return [None if n is None else known[n] for n in self._results] if self._holds(known) else None

    def _holds(self, known: dict[int, Tensor]) -> bool:
        """Whether the model, had it run, would have done the same."""
        if not all(known[number].item() == value for number, value in self._answers):
            return False
        tops = torch.stack([known[number] for number in self._tops]).tolist() if self._tops else []
        return all(top <= 0 or low <= top <= high for top, (low, high) in zip(tops, self._range, strict=True))


def _with_ends(steps: Sequence[Step], kept: set[int]) -> list[tuple[Step, list[int], list[str], list[int]]]:
    """Each step with where in its arguments there are tensors, and which tensors nothing needs after it."""
    found, seen = [], set(kept)
    made = {number for step in steps for number in step.gives}
    for step in reversed(steps):
        places = [place for place, value in enumerate(step.args) if _slots(value)]
        words = [word for word, value in step.kwargs.items() if _slots(value)]
        ended = [n for n in dict.fromkeys((*step.takes, *step.gives)) if n in made and n not in seen]
        seen.update(ended)
        found.append((step, places, words, ended))
    return found[::-1]


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation changes."""
    if not func._schema.is_mutable:
        return []
    found: list[Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += _tensors(args[place] if place < len(args) else kwargs.get(argument.name))
    return found


def _replaced(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure of tuples, lists and dictionaries with something else for each tensor."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_replaced(part, change) for part in value)
    return {word: _replaced(part, change) for word, part in value.items()} if isinstance(value, dict) else value


def _filled(value: Any, known: dict[int, Tensor]) -> Any:
    if isinstance(value, Slot):
        return known[value.number]
    return [_filled(part, known) for part in value] if isinstance(value, (tuple, list)) else value


def _slots(value: Any) -> bool:
    return isinstance(value, Slot) or (isinstance(value, (tuple, list)) and any(_slots(part) for part in value))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for part in value for t in _tensors(part)] if isinstance(value, (tuple, list)) else []
