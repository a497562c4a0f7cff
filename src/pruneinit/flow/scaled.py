"""Tensors with a power of two beside them: the value is `tensor * 2^exponent`, and multiplying by it is exact."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pruneinit.errors import InputError

# A tensor whose largest element is between 2^-20 and 2^20 is left alone: any one product of two such fits float32.
ROOM = 20
# What is this much smaller than its neighbours is lost to rounding in any dtype, and 0 without it.
_LOST = 2000


class Scale(NamedTuple):
    """What is known of a tensor.

    Attributes:
        exponent: Its values are the tensor's elements times 2 to this power.
        signal: Whether it depends on the input; else it is made of weights alone.
    """

    exponent: int = 0
    signal: bool = False


class Scales:
    """The scales of tensors, kept storage by storage, so that views need no care. They go when the storage goes."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.UntypedStorage], Scale]] = {}

    def of(self, tensor: Any) -> Scale | None:
        """The scale of a tensor; None for a constant of the model."""
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            return None
        found = self._known.get(id(tensor.untyped_storage()))
        return found[1] if found else None

    def note(self, tensor: Tensor, scale: Scale) -> None:
        """Set the scale of a tensor and of all that shares its storage."""
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            key, known = id(storage), self._known
            known[key] = weakref.ref(storage, lambda _: known.pop(key, None)), scale


def times(tensor: Tensor, power: int) -> Tensor:
    """A tensor times 2^power, exact but for underflow.

    Example:
        >>> times(torch.ones(1), -3), times(torch.full((1,), 2.0**-140), 139)
        (tensor([0.1250]), tensor([0.5000]))
    """
    power = max(power, -_LOST)
    while abs(power) > 100:  # 2^power itself must be a number of the dtype
        step = math.copysign(100, power)
        tensor, power = tensor * 2.0**step, power - int(step)
    return tensor * 2.0**power if power else tensor


def excess(top: float) -> int:
    """The power of two by which to divide what has this largest element; 0 where it can stay as it is.

    Example:
        >>> excess(3.0), excess(2.0**30), excess(0.0)
        (0, 31, 0)
    """
    return 0 if top <= 0 or -ROOM <= (power := math.frexp(top)[1]) <= ROOM else power


def settled(tensor: Tensor, scale: Scale, name: str, read: Callable[[Tensor], float] = float) -> tuple[Tensor, Scale]:
    """The same values in elements that are neither large nor small; `read` reads the largest.

    Raises:
        InputError: They are not finite; `name` is the operation whose result they are.
    """
    if not tensor.numel() or not tensor.is_floating_point():
        return tensor, scale
    top = read(tensor.detach().amax())  # -inf marks what attention may not see
    if math.isnan(top) or top == math.inf:
        raise InputError(
            f"the flow is {top} after {name!r}: check the weights for NaN and inf, and whether the model divides by 0"
        )
    power = excess(top)
    if not power:
        return tensor, scale
    return times(tensor, -power), Scale(scale.exponent + power, scale.signal)


def true(tensor: Tensor, exponent: int, name: str) -> Tensor:
    """The values themselves, for an operation that needs them.

    Raises:
        InputError: They are too large or too small for the dtype.
    """
    if not exponent:
        return tensor
    limit = math.frexp(torch.finfo(tensor.dtype).max)[1] - 2 * ROOM
    if abs(exponent) > limit:
        raise InputError(
            f"the flow has grown to about 2^{exponent} before {name!r}, which has no rule that works at any scale: "
            "take the model in float64, or let it use layers and functions of torch.nn"
        )
    return times(tensor, exponent)
