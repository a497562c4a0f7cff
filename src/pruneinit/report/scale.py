"""Axes: from values to a place between 0 and 1, and the ticks beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DECADES = (1, 2, 3, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`; for a logarithmic one these are exponents of ten.

    Attributes:
        low: Value (or exponent) at place 0.
        high: Value (or exponent) at place 1.
        ticks: Place in [0, 1] and label of each tick.
        log: Whether the axis is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Where `value` lies, in [0, 1]; values beyond an end are put on it."""
        return _place(math.log10(value) if self.log else value, self.low, self.high)


def linear_scale(
    values: Iterable[float], limits: tuple[float, float] | None = None, about: int = 5, whole: bool = False
) -> Scale:
    """A linear axis over `values`, with ticks at 1, 2 or 5 times a power of ten.

    Args:
        values: Finite values; with none of them the axis runs from 0 to 1.
        limits: Ends to use in place of the smallest and largest value.
        about: How many ticks are wanted, roughly.
        whole: Only whole numbers as ticks (epochs, layers).

    Example:
        >>> [label for _, label in linear_scale([0, 97]).ticks]
        ['0', '20', '40', '60', '80']
    """
    found = list(values) or [0.0, 1.0]
    low, high = limits or (min(found), max(found))
    # Half of the span: the full one may be beyond the largest float.
    half = high / 2 - low / 2
    if half <= 1e-12 * max(abs(low), abs(high)) or half < 1e-300:
        middle = low
        margin = max(abs(middle) * 0.1, 0.5 if whole or middle == 0 else 1e-290)
        low, high = max(middle - margin, -1.7e308), min(middle + margin, 1.7e308)
        half = high / 2 - low / 2
    step = _step(2 * (half / about))
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = (k * step for k in range(first, last + 1))
    return Scale(low, high, tuple((_place(tick, low, high), f"{_clean(tick, step):.6g}") for tick in ticks))


def log_scale(values: Iterable[float], about: int = 6) -> Scale:
    """A logarithmic axis over the positive ones of `values`, from one power of ten to another.

    Example:
        >>> [label for _, label in log_scale([3e-9, 0.2]).ticks]
        ['10⁻⁸', '10⁻⁶', '10⁻⁴', '0.01', '1']
    """
    exponents = [math.log10(value) for value in values if value > 0] or [0.0]
    # Whole decades, at least one: nearly equal values are to look nearly equal.
    low = math.floor(min(exponents) + 1e-9)
    high = max(math.ceil(max(exponents) - 1e-9), low + 1)
    step = next((s for s in _DECADES if (high - low) / s <= about), _DECADES[-1])
    ticks = [(float(k), 1, k) for k in range(low, high + 1) if k % step == 0]
    if high - low <= 2:
        ticks += [(k + math.log10(m), m, k) for k in range(low, high) for m in (2, 5)]
    return Scale(low, high, tuple((_place(at, low, high), _power(m, k)) for at, m, k in sorted(ticks)), log=True)


def named(scale: Scale, values: Sequence[float], names: Sequence[str]) -> Scale:
    """The scale with ticks at some values, by names of theirs.

    Example:
        >>> named(linear_scale([0, 10]), [0, 5], ["none", "half"]).ticks
        ((0.0, 'none'), (0.5, 'half'))
    """
    return replace(scale, ticks=tuple((scale.place(at), name) for at, name in zip(values, names, strict=True)))


def _place(value: float, low: float, high: float) -> float:
    return min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0.0), 1.0)


def _step(raw: float) -> float:
    """The nearest of 1, 2, 5, 10 times a power of ten above `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1, 2, 5) if m * power >= raw * (1 - 1e-9)), 10 * power)


def _clean(tick: float, step: float) -> float:
    """0 instead of the 1e-17 that a sum of steps may leave."""
    return 0.0 if abs(tick) < step * 1e-9 else tick


def _power(mantissa: int, exponent: int) -> str:
    if -3 <= exponent <= 3:
        return f"{mantissa * 10.0**exponent:g}"
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return power if mantissa == 1 else f"{mantissa}·{power}"
