"""What the command line shows of a sweep: a table on a terminal, a line for each result in a log."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pruneinit.experiments import Cell, Result
from pruneinit.experiments.pace import duration
from pruneinit.experiments.progress import Watch
from pruneinit.experiments.sweep import Standing
from pruneinit.screen import open_console, say


@contextmanager
def following(
    name: str, standing: Standing, at_once: int | None, budget: Callable[[], float] = lambda: math.inf
) -> Iterator[Watch]:
    """Show how far a sweep is while the block runs.

    Args:
        name: Of the grid.
        standing: Before the sweep.
        at_once: As `Watch` takes it.
        budget: The seconds that the sweep may still take, when it is called.

    Yields:
        What is to be told of each result.
    """
    if not sys.stdout.isatty():
        yield _Log(standing, at_once, budget)
        return
    from rich.live import Live

    from pruneinit.report.live import sweep_progress

    watch = Watch(standing, at_once)

    def drawn() -> object:
        progress = watch.look()
        return sweep_progress(name, progress, time_left(progress.left, budget()))

    console = open_console()
    with Live(get_renderable=drawn, console=console, refresh_per_second=2):  # type: ignore[arg-type]
        yield watch


def time_left(seconds: float | None, budget: float = math.inf) -> str:
    """In words, with what is left of the budget where that ends before; empty where nothing is known.

    Example:
        >>> time_left(740), time_left(None), time_left(740, budget=130)
        ('about 12 min left', '', '2 min of the budget left, about 12 min to the end')
    """
    if seconds is None:
        return ""
    if budget < seconds:
        return f"{duration(max(budget, 0.0))} of the budget left, about {duration(seconds)} to the end"
    return f"about {duration(seconds)} left"


class _Log(Watch):
    """Says a line for each result."""

    def __init__(self, standing: Standing, at_once: int | None, budget: Callable[[], float]) -> None:
        super().__init__(standing, at_once)
        self.budget = budget

    def result(self, now: Standing, cell: Cell, result: Result) -> None:
        super().result(now, cell, result)
        progress = self.look()
        told = result.why if result.failed else f"test accuracy {result.test_accuracy:.1%}"
        left = time_left(progress.left if now.missing else None, self.budget())
        over = progress.whole.done + progress.whole.failed
        say(f"{over}/{progress.whole.cells} {cell}: {told}, {result.seconds:.1f} s{f'; {left}' if left else ''}")
