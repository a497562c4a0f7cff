"""What the hyper-parameters of criteria may be."""

from __future__ import annotations

import math
import numbers

from pruneinit.errors import InputError


def positive(name: str, value: float) -> None:
    """See that a hyper-parameter is a finite number above 0.

    Raises:
        InputError: It is not.

    Example:
        >>> positive("temperature", 0)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: temperature must be a number above 0, got 0
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InputError(f"{name} must be a number above 0, got {value!r}")


def at_least_one(name: str, value: int) -> None:
    """See that a hyper-parameter is a whole number of at least 1.

    Raises:
        InputError: It is not.

    Example:
        >>> at_least_one("rounds", 2.5)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: rounds must be a whole number, at least 1, got 2.5
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number, at least 1, got {value!r}")
