"""How long a command may work, as people write it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

from pruneinit.errors import InputError

_SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}
_NUMBER = r"(\d+(?:\.\d+)?)"
_PARTS = re.compile(" ?".join(f"(?:{_NUMBER} ?{unit})?" for unit in _SECONDS))


def parse_budget(text: str) -> float:
    """Seconds of a budget: numbers with d, h, min or s, the larger unit first; 0 is none at all, `unlimited` no end.

    Raises:
        InputError: It is nothing of that.

    Example:
        >>> parse_budget("20min"), parse_budget("1.5h"), parse_budget("2h30min"), parse_budget("0")
        (1200.0, 5400.0, 9000.0, 0.0)
    """
    given = text.strip()
    if given == "unlimited":
        return math.inf
    bare = re.fullmatch(_NUMBER, given)
    if bare and float(given) == 0:
        return 0.0
    found = _PARTS.fullmatch(given)
    if not given or found is None:
        hint = f"; did you mean {given}min?" if bare else ""
        raise InputError(
            f"budget must be a time as 90s, 20min or 2h30min, the larger unit first, 0 or unlimited, got {text!r}{hint}"
        )
    return sum(float(number or 0) * seconds for number, seconds in zip(found.groups(), _SECONDS.values(), strict=True))


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

    def left(self) -> float:
        """Seconds; below 0 where the time is over."""
        return self.seconds - (self._clock() - self._begun)

    def over(self) -> bool:
        """Whether the time is over."""
        return self.left() <= 0
