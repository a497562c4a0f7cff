"""One call of an operation as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pruneinit.batch import mapped
from pruneinit.flow.scaled import Scale, Scales, times

# A constant that is added and as negative as this is no bias but hides a place from attention.
_HIDDEN = -1e3


class Call:
    """One call of an operation. There is one for each operation of a pass, so it is made as cheaply as can be.

    Attributes:
        name: Its name without underscores: `"add"` for `torch.add`, `Tensor.add_` and `Tensor.__iadd__`.
        func: The operation in the form that changes no argument.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        scales: What is known of tensors.
        in_place: Whether the result is to replace the first argument.
        followed: The arguments that depend on the input or on weights.
        others: The other tensors among them: constants.
    """

    __slots__ = ("args", "followed", "func", "in_place", "kwargs", "name", "others", "scales")

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scales: Scales,
        in_place: bool = False,
    ) -> None:
        self.name, self.func, self.args, self.kwargs, self.scales, self.in_place = (
            name, func, args, kwargs, scales, in_place
        )  # fmt: skip
        self.followed: list[tuple[Tensor, Scale]] = []
        self.others: list[Tensor] = []
        for tensor in arguments(args, kwargs):
            if (scale := scales.of(tensor)) is None:
                self.others.append(tensor)
            else:
                self.followed.append((tensor, scale))

    def given(self, position: int, word: str, default: Any = None) -> Any:
        """An argument, by position or keyword."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(word, default)

    @property
    def count(self) -> int:
        """How many tensors it is given."""
        return len(self.followed) + len(self.others)

    @property
    def signal(self) -> bool:
        """Whether the result depends on the input."""
        return any(scale.signal for _, scale in self.followed)

    def source(self) -> tuple[Tensor, Scale]:
        """The first argument that depends on the input, or else on weights."""
        return next((found for found in self.followed if found[1].signal), self.followed[0])

    def factor(self, value: Any) -> tuple[Any, Scale]:
        """A factor of a product; a constant counts by its absolute value."""
        scale = self.scales.of(value)
        if scale is not None:
            return value, scale
        if isinstance(value, Tensor):
            return value if value.dtype == torch.bool else self._plain(value).abs(), Scale()
        return abs(value), Scale()

    def term(self, value: Any, exponent: int) -> Any:
        """A term of a sum, in units of 2^exponent; a constant counts by its absolute value, unless it hides."""
        scale = self.scales.of(value)
        if scale is not None:
            return times(value, scale.exponent - exponent) if value.is_floating_point() else value
        if isinstance(value, Tensor):
            if value.dtype == torch.bool or not value.numel():
                return value
            hidden = value < _HIDDEN
            shifted = times(self._plain(value).abs(), -exponent)
            return shifted.masked_fill(hidden, -torch.inf) if bool(hidden.any()) else shifted
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        return -torch.inf if value < _HIDDEN else abs(value) * 2.0 ** max(-exponent, -1000)

    def aligned(
        self, values: Iterable[int] = (), words: Iterable[str] = ()
    ) -> tuple[tuple[Any, ...], dict[str, Any], int]:
        """The arguments in units of one power of two, and its exponent.

        Args:
            values: The positions of numbers that are values too, and not sizes or dimensions.
            words: The same by keyword.
        """
        exponent = max(scale.exponent for _, scale in self.followed)
        if exponent < 0:  # then a constant may be what is large
            numbers = [self.args[i] for i in values if i < len(self.args)]
            numbers += [a for word, a in self.kwargs.items() if word in words]
            if any(self._counts(leaf) for leaf in (*numbers, *self.others)):
                exponent = 0

        def tensors(leaf: Any) -> Any:
            return self.term(leaf, exponent) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

        def argument(value: Any, counts: bool) -> Any:
            if counts:
                return self.term(value, exponent)
            return mapped(tensors, value) if isinstance(value, (tuple, list)) else tensors(value)

        args = tuple(argument(value, i in values) for i, value in enumerate(self.args))
        kwargs = {word: argument(value, word in words) for word, value in self.kwargs.items() if word != "out"}
        return args, kwargs, exponent

    def mapped(self, function: Callable[[Tensor, Scale], Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with a function of the followed tensors and their scales applied to these."""

        def argument(leaf: Any) -> Any:
            scale = self.scales.of(leaf)
            return leaf if scale is None else function(leaf, scale)

        kwargs = {word: mapped(argument, value) for word, value in self.kwargs.items() if word != "out"}
        return mapped(argument, self.args), kwargs

    def _counts(self, value: Any) -> bool:
        """Whether a constant adds anything."""
        if isinstance(value, Tensor):
            plain = value.is_floating_point() and self.scales.of(value) is None
            return plain and bool(((value != 0) & (value >= _HIDDEN)).any())
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value != 0 and value >= _HIDDEN

    def _plain(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.followed[0][0].dtype) if tensor.is_floating_point() else tensor


def arguments(args: Iterable[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among the arguments of an operation; faster than to take a tree apart."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += arguments(value, {})
    return found
