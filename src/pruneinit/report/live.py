"""How far a sweep is, as a table that is drawn again and again while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pruneinit.report.words import NOTHING, percent

if TYPE_CHECKING:
    from pruneinit.experiments.progress import Progress, RowProgress

_BAR = 40
_MOST_ROWS = 20


def sweep_progress(name: str, progress: Progress, time_left: str) -> RenderableType:
    """A table with a line for each row of the grid, a bar for all cells, and the newest failures in a line each.

    Args:
        name: Of the grid.
        progress: `experiments.progress.Watch.look()`.
        time_left: In words; empty where nothing is known.

    Returns:
        What fits a terminal of 80 columns. Of very many rows those that are not over are shown.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("row", overflow="ellipsis", no_wrap=True, max_width=28)
    shown = [column for column in ("failed", "elsewhere") if getattr(progress.whole, column)]
    accuracy = progress.accuracy.replace(" ", "\n", 1)
    for header in ("done", *shown, "missing", accuracy, "seconds\na cell"):
        table.add_column(header, justify="right", no_wrap=True, vertical="bottom")
    rows = progress.rows
    if len(rows) > _MOST_ROWS:
        rows = tuple(row for row in rows if row.missing or row.elsewhere)[:_MOST_ROWS]
    for row in rows:
        _add(table, name if row.name is None else row.name, row, shown)
    if len(progress.rows) > 1:
        _add(
            table, "all" if len(rows) == len(progress.rows) else f"all {len(progress.rows)} rows", progress.whole, shown
        )
    over = progress.whole.done + progress.whole.failed
    bar = Table.grid(padding=(0, 1))
    told = f"{over} of {progress.whole.cells}{f', {time_left}' if time_left else ''}"
    bar.add_row(Text(name), ProgressBar(total=progress.whole.cells or 1, completed=over, width=_BAR), Text(told))
    failures = [Text(line, "red", no_wrap=True, overflow="ellipsis") for line in progress.failures]
    return Group(table, bar, *failures)


def _add(table: Table, name: str, row: RowProgress, shown: list[str]) -> None:
    counts = {"done": row.done, "failed": row.failed, "elsewhere": row.elsewhere, "missing": row.missing}
    cells = [Text(str(counts[column]), "red" if column == "failed" and row.failed else "") for column in shown]
    seconds = NOTHING if row.seconds is None else f"{row.seconds:.3g}"
    over = "dim" if not row.missing and not row.elsewhere else None
    table.add_row(Text(name), str(row.done), *cells, str(row.missing), percent(row.accuracy), seconds, style=over)
