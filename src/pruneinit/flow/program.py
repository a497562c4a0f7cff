"""A pass as a program: its operations in order, run again on other weights without the model's Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruneinit.flow.scaled import ROOM, excess

# How far a magnitude may go from where it was in the pass that was written down: 2 to this power, up or down. Products
# then still fit float32, and what is 1e-20 of all flow keeps its digits.
_SWAY = 3 * ROOM


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
        several: Whether it gives a tuple of them, in which there is None for what it does not compute.
        tells: Those of `takes` of which Python may see the elements, or a shape that depends on them.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    takes: list[int]
    gives: list[int | None]
    several: bool
    tells: list[int]

    @property
    def writes(self) -> bool:
        """Whether it changes an argument."""
        return bool(self.func._schema.is_mutable)


class Program:
    """A pass that was written down by a `Recorder`.

    Args:
        run: Takes the inputs and the constants, gives the results, the tensors of `tops` and those of `answers`.
        constants: Tensors that are the same each time.
        tops: Numbers that were looked at for their magnitude.
        answers: Numbers that were looked at for themselves.
    """

    def __init__(
        self,
        run: Callable[..., Sequence[Any]],
        constants: Sequence[Tensor],
        tops: Sequence[float],
        answers: Sequence[Any],
    ) -> None:
        self._run, self._constants, self._answers = run, constants, answers
        # About the power of two by which the pass that was written down has then divided.
        powers = [excess(top) for top in tops]
        self._ranges = [(2.0 ** (power - _SWAY), 2.0 ** min(power + _SWAY, 1023)) for power in powers]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Any] | None:
        """The results for other inputs; None where the pass has to be run by the model."""
        with torch.inference_mode(False), torch.no_grad():
            found = list(self._run(*inputs, *self._constants))
        answers = [found.pop().item() for _ in self._answers][::-1]
        tops = [found.pop() for _ in self._ranges][::-1]
        magnitudes = torch.stack(tops).tolist() if tops else []
        fits = all(top <= 0 or low <= top <= high for top, (low, high) in zip(magnitudes, self._ranges, strict=True))
        return found if fits and answers == self._answers else None


def as_function(
    steps: Sequence[Step], inputs: Sequence[int], results: Sequence[int | None], copies: Callable[[Step], bool]
) -> Callable[..., Sequence[Any]]:
    """Python code that carries out steps, lets go of each tensor after its last use, and leaves out what nobody needs.

    Args:
        steps: In order.
        inputs: The numbers of the tensors that the function takes.
        results: The numbers of those that it gives.
        copies: Whether a step can be left out since it only copies.
    """
    same: dict[int, int] = {}
    for step in steps:
        if copies(step):
            same[step.gives[0]] = same.get(step.takes[0], step.takes[0])  # type: ignore[index]
    values: dict[str, Any] = {}

    def text(value: Any) -> str:
        if isinstance(value, Slot):
            return f"t{same.get(value.number, value.number)}"
        if isinstance(value, (tuple, list)):
            return f"[{', '.join(map(text, value))}]"
        values[f"v{len(values)}"] = value
        return f"v{len(values) - 1}"

    returned = [None if number is None else text(Slot(number)) for number in results]
    alive, lines = {name for name in returned if name}, [f"return [{', '.join(map(str, returned))}]"]
    for step in reversed(steps):
        gives = [text(Slot(number)) if number is not None else "_" for number in step.gives]
        if copies(step) or not (step.writes or alive.intersection(gives)):
            continue
        takes = [text(Slot(number)) for number in step.takes]
        ended = dict.fromkeys(name for name in (*takes, *gives) if name not in alive and name != "_")
        if ended:
            lines.append(f"del {', '.join(ended)}")
        given = [*map(text, step.args), *(f"{word}={text(value)}" for word, value in step.kwargs.items())]
        left = f"[{', '.join(gives)}]" if step.several else gives[0]
        lines.append(f"{left} = {text(step.func)}({', '.join(given)})")
        alive.update(takes)
    taken = ", ".join(text(Slot(number)) for number in inputs)
    exec("\n    ".join([f"def run({taken}):", *reversed(lines)]), values)  # as torch.fx does, in a third of the time
    run: Callable[..., Sequence[Any]] = values["run"]
    return run
