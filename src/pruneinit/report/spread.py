"""How far repetitions lie apart: mean, standard deviation, and a confidence interval of the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

LEAST = 3
"""From how many values on an interval is given: of two it would be 18 standard deviations wide, and tell nothing."""


@dataclass(frozen=True)
class Spread:
    """Some values, summed up.

    Attributes:
        count: How many there are, at least one.
        mean: Their mean.
        deviation: Their standard deviation (n - 1 in the denominator); None of one value.
        interval: The 95 % t-interval of the mean; None of fewer than three values.
    """

    count: int
    mean: float
    deviation: float | None
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread | None:
    """Sum up values; None where there are none.

    Example:
        >>> found = spread([0.90, 0.92, 0.94])
        >>> round(found.mean, 3), round(found.deviation, 3), [round(end, 3) for end in found.interval]
        (0.92, 0.02, [0.87, 0.97])
    """
    count = len(values)
    if not count:
        return None
    mean = math.fsum(values) / count
    if count == 1:
        return Spread(1, mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = t_quantile(count - 1) * deviation / math.sqrt(count)
    return Spread(count, mean, deviation, (mean - half, mean + half) if count >= LEAST else None)


@cache
def t_quantile(freedom: int, level: float = 0.95) -> float:
    """How many standard errors around the mean hold `level` of Student's t distribution.

    Args:
        freedom: Degrees of freedom, a whole number of at least 1.
        level: In (0, 1).

    Example:
        >>> round(t_quantile(2), 3), round(t_quantile(30), 3)
        (4.303, 2.042)
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _inside(angle: float, freedom: int) -> float:
    """The probability of |t| < √freedom · tan(angle): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    odd = freedom % 2
    cosine, total = math.cos(angle), 0.0
    term = cosine if odd else 1.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * power / (power + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
