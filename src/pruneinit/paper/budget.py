"""How long a command may work, as people write it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from pruneinit.errors import InputError

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_budget(text: str) -> float:
    """Seconds of a budget: a number with s, min, h or d; 0 is none at all, `unlimited` is no end.

    Raises:
        InputError: It is nothing of that.

    Example:
        >>> parse_budget("20min"), parse_budget("90s"), parse_budget("1.5h"), parse_budget("0")
        (1200.0, 90.0, 5400.0, 0.0)
    """
    if text == "unlimited":
        return math.inf
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|d)?", text.strip())
    if not found or (found[2] is None and float(found[1]) != 0):
        hint = f"; did you mean {found[1]}min?" if found else ""
        raise InputError(f"budget must be a time as 90s, 20min or 2h, 0 or unlimited, got {text!r}{hint}")
    return float(found[1]) * _UNITS[found[2] or "s"]


class Budget:
    """Counts the time from when it was made.

    Args:
        seconds: How long; infinity is no end.
        clock: Seconds since whenever.

    Example:
        >>> now = iter([100.0, 130.0, 161.0])
        >>> budget = Budget(60, clock=lambda: next(now))
        >>> budget.over(), budget.over()
        (False, True)
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._begun = clock()

    def over(self) -> bool:
        """Whether the time is over."""
        return self._clock() - self._begun >= self.seconds
