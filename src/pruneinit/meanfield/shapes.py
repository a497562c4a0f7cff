"""What a stack is made of, besides its widths: convolutions, borders, residual branches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pruneinit.errors import InputError, unknown

Padding = Literal["circular", "zeros"]
Residual = Literal["none", "plain", "stable"]


def _whole(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and int(number) >= 1


@dataclass(frozen=True)
class Shape:
    """What a stack is made of, besides its widths.

    Attributes:
        taps: Kernel size along each axis, odd; 1 for fully connected layers.
        size: Positions along each axis, `(28, 28)`; `()` for fully connected layers.
        padding: `"circular"` or `"zeros"`, so that the size stays.
        residual: `"none"`: y^l = W φ(y^{l-1}) + b; `"plain"` adds y^{l-1}; `"stable"` (Stable ResNet) adds it and
            divides the rest by the square root of the number of such layers. The first and the last layer have none.

    Raises:
        InputError: A value is impossible.

    Example:
        >>> Shape(taps=3, size=(28, 28), padding="zeros").positions
        784
    """

    taps: int = 1
    size: tuple[int, ...] = ()
    padding: Padding = "circular"
    residual: Residual = "none"

    def __post_init__(self) -> None:
        for kind, given, known in (("padding", self.padding, Padding), ("residual", self.residual, Residual)):
            if given not in get_args(known):
                raise unknown(kind, str(given), get_args(known))
        if not _whole(self.taps) or self.taps % 2 == 0:
            raise InputError(f"taps must be odd and at least 1, got {self.taps!r}")
        if not isinstance(self.size, (tuple, list)) or not all(map(_whole, self.size)):
            raise InputError(
                f"size must be positive whole numbers, one for each axis, such as (28, 28), got {self.size!r}"
            )
        object.__setattr__(self, "taps", int(self.taps))
        object.__setattr__(self, "size", tuple(map(int, self.size)))
        if self.taps > 1 and not self.size:
            raise InputError(f"taps={self.taps} needs a size, such as (28, 28)")

    @property
    def positions(self) -> int:
        """How many positions there are."""
        return math.prod(self.size)

    @property
    def kernel(self) -> int:
        """How many taps a kernel has in all."""
        return int(self.taps ** len(self.size))
