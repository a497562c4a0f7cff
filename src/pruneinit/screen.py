"""What the command line shows: lines, bars, and nothing more where nobody reads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def open_console() -> Console:
    """Where results are printed; under torchrun only the first process prints."""
    from rich.console import Console

    console = Console(quiet=not speaks())
    console.on_broken_pipe = _fall_silent  # type: ignore[method-assign]  # not the exit code 1 of rich
    return console


def speaks() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """Print a line at once. Where nobody reads any more (`| head`), the run goes on in silence."""
    if not speaks():
        return
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _fall_silent()


def _fall_silent() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time left on a terminal, nothing in a log."""
    from rich.markup import escape

    with bar(disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(escape(label), total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total or None, note=escape(note))


def bar(**options: Any) -> Progress:
    """A bar of rich's with the time left; `options` are those of `rich.progress.Progress`."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    # Rich forgets what is older than 30 seconds, and with it the speed of steps or files that take longer than that.
    return Progress(*columns, speed_estimate_period=3600, **options)
