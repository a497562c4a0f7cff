"""What each operation of PyTorch does to the reach of its arguments: which results depend on which of them.

A **shadow** stands beside a tensor and has its shape: 1 where an element can depend on what is followed, else 0. A rule
takes the shadows of an operation's arguments to the shadow of its result, by sums and products of numbers that are not
negative, so that nothing cancels and autograd finds the paths back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from pruneinit.batch import tensors


@dataclass(frozen=True)
class Operation:
    """One call of an operation, and one of its results.

    Attributes:
        name: Its name without underscores: `"add"` for `torch.add`, `Tensor.add_` and `Tensor.__iadd__`.
        func: The operation in the form that changes no argument.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        out: The result.
        shadow: The shadow of a tensor, None for what does not depend on what is followed.
        factor: What a tensor or number lets through as a factor of a product: 1 where it is not always zero.
        gate: The shadow of a tensor made of weights alone, else None.
        inner: Whether weights alone are followed, whose products are zero where one factor is.
    """

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Tensor
    shadow: Callable[[Any], Tensor | None]
    factor: Callable[[Any], Tensor]
    gate: Callable[[Any], Tensor | None]
    inner: bool

    def given(self, position: int, word: str, default: Any = None) -> Any:
        """An argument, by position or keyword."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(word, default)

    def shadows(self) -> list[Tensor]:
        """The shadows of all arguments that have one."""
        found = (self.shadow(t) for t in tensors((self.args, self.kwargs)))
        return [shadow for shadow in found if shadow is not None]

    def value(self, argument: Any) -> Any:
        """The shadow of an argument that the result takes elements of; constants are no path, so they are zero."""
        if isinstance(argument, Tensor):
            shadow = self.shadow(argument)
            return torch.zeros(argument.shape, device=argument.device) if shadow is None else shadow
        return 0.0 if isinstance(argument, (int, float, complex)) else argument


Rule = Callable[[Operation], Tensor]


def binary(shadow: Tensor, forward: float = 0.0, backward: float = 0.0) -> Tensor:
    """1 where a shadow is above a cut, and the same for its gradient: counts of paths would overflow."""
    return cast(Tensor, _Binary.apply(shadow, forward, backward))  # type: ignore[no-untyped-call]


class _Binary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shadow: Tensor, forward: float, backward: float) -> Tensor:
        ctx.cut = backward
        return (shadow > forward).to(shadow.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return (gradients[0] > ctx.cut).to(gradients[0].dtype), None, None
