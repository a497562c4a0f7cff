"""How far a run is and how long it will take, for a log in which nothing else appears for minutes."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Makes a line of a step, where none has been due for a while.

    The time left is that of the steps still to come at the mean pace of those seen; an evaluation is part of it from
    the second epoch on.

    Args:
        epochs: How many the run has.
        every: Seconds between two lines, and between the first step of an epoch and its first line: the end of an
            epoch has a line of its own.
        clock: Seconds since whenever.

    Example:
        >>> now = iter([0.0, 20.0, 40.0])
        >>> pace = Pace(2, clock=lambda: next(now))
        >>> pace(1, 5, 100), pace(1, 10, 100), pace(1, 15, 100)
        (None, None, 'epoch 1/2, 15 % of it done, about 12 min to the end of the run')
    """

    def __init__(self, epochs: int, *, every: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.epochs = epochs
        self.every = every
        self.clock = clock
        self._first: tuple[float, int] | None = None
        self._line = 0.0
        self._epoch = 0

    def __call__(self, epoch: int, step: int, steps: int) -> str | None:
        """The line of this step, or None.

        Args:
            epoch: Counted from 1.
            step: How many steps of it are done.
            steps: How many it has.
        """
        now, done = self.clock(), (epoch - 1) * steps + step
        if self._first is None:
            self._first = now, done
        if epoch != self._epoch:
            self._epoch, self._line = epoch, now
        start, before = self._first
        if now - self._line < self.every or done == before:
            return None
        self._line = now
        left = (now - start) / (done - before) * (self.epochs * steps - done)
        share = int(100 * step / steps)
        return f"epoch {epoch}/{self.epochs}, {share} % of it done, about {duration(left)} to the end of the run"


def duration(seconds: float) -> str:
    """A length of time in words, in two units at most.

    Example:
        >>> duration(45), duration(740), duration(7_500), duration(200_000)
        ('45 s', '12 min', '2 h 5 min', '2 d 8 h')
    """
    minutes = round(seconds / 60)
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
