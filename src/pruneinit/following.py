"""What the command line shows of a sweep: a table on a terminal, a line for each result in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pruneinit.experiments import Cell, Result
from pruneinit.experiments.pace import duration
from pruneinit.experiments.progress import Watch
from pruneinit.experiments.sweep import Standing
from pruneinit.screen import open_console, say


@contextmanager
def following(name: str, standing: Standing, at_once: int | None) -> Iterator[Watch]:
    """Show how far a sweep is while the block runs.

    Args:
        name: Of the grid.
        standing: Before the sweep.
        at_once: As `Watch` takes it.

    Yields:
        What is to be told of each result.
    """
    if not sys.stdout.isatty():
        yield _Log(standing, at_once)
        return
    from rich.live import Live

    from pruneinit.report.live import sweep_progress

    watch = Watch(standing, at_once)

    def drawn() -> object:
        progress = watch.look()
        return sweep_progress(name, progress, time_left(progress.left))

    console = open_console()
    with Live(get_renderable=drawn, console=console, refresh_per_second=2):  # type: ignore[arg-type]
        yield watch


def time_left(seconds: float | None) -> str:
    """In words; empty where nothing is known.

    Example:
        >>> time_left(740), time_left(None)
        ('about 12 min left', '')
    """
    return "" if seconds is None else f"about {duration(seconds)} left"


class _Log(Watch):
    """Says a line for each result."""

    def result(self, now: Standing, cell: Cell, result: Result) -> None:
        super().result(now, cell, result)
        progress = self.look()
        told = result.why if result.failed else f"test accuracy {result.test_accuracy:.1%}"
        left = time_left(progress.left if now.missing else None)
        over = progress.whole.done + progress.whole.failed
        say(f"{over}/{progress.whole.cells} {cell}: {told}, {result.seconds:.1f} s{f'; {left}' if left else ''}")
