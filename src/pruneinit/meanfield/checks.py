"""What may be given to the theory of networks: widths, scales, shares, numbers of examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.gaussian import check_number

_LEAST, _WIDEST = 1e-100, 10**9


def check_widths(widths: Iterable[int]) -> list[int]:
    """Return the widths of a network, inputs and at least one layer, as a list.

    Raises:
        InputError: They are no such widths.

    Example:
        >>> check_widths(np.array([3, 200, 10], dtype=np.uint8))  # products of Python's numbers do not overflow
        [3, 200, 10]
    """
    if not isinstance(widths, Iterable) or isinstance(widths, (str, bytes, Mapping, Set)):
        raise InputError(f"widths must be a list, the inputs and at least one layer, got {widths!r}")
    given = list(widths)
    whole = all(isinstance(width, (int, np.integer)) and 1 <= width <= _WIDEST for width in given)
    if len(given) < 2 or not whole:
        some = f"{given[:6]}"[:-1] + ", ...]" if len(given) > 6 else given
        raise InputError(f"widths must be the inputs and at least one layer, each from 1 to {_WIDEST:.0e}, got {some}")
    return [int(width) for width in given]


def check_scale(name: str, value: float) -> float:
    """Return `value` if it is 0 or a number whose square float64 can hold.

    Raises:
        InputError: It is not.
    """
    number = check_number(name, value)
    if number and not _LEAST <= number <= 1 / _LEAST:
        raise InputError(f"{name} must be 0 or between {_LEAST:g} and {1 / _LEAST:g}, got {number:g}")
    return number


def check_share(name: str, value: float) -> float:
    """Return `value` if it is a number in [0, 1].

    Raises:
        InputError: It is not.
    """
    number = check_number(name, value) if not isinstance(value, (int, float)) or value >= 0 else -1.0
    if not 0 <= number <= 1:
        raise InputError(f"{name} must be in [0, 1], got {value!r}")
    return number


def check_examples(examples: int) -> int:
    """Return `examples` if it is a whole number, at least 1.

    Raises:
        InputError: It is not.
    """
    if isinstance(examples, bool) or not isinstance(examples, (int, np.integer)) or examples < 1:
        raise InputError(f"examples must be a whole number, at least 1, got {examples!r}")
    return int(examples)
