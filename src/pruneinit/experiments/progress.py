"""How far a sweep is, row by row, and how long it will take: plain numbers, drawn by `report.live`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Cell

if TYPE_CHECKING:
    from pruneinit.experiments.sweep import Standing

_SHOWN = 5
# What decides how long a cell takes, beside the row; seeds, rates and sparsities hardly do.
_SIZE = ("data", "train_images", "validation", "model", "depth", "width", "criterion", "rounds", "score_images")
_TRAINING = ("epochs", "batch_size", "optimizer", "augment")


@dataclass(frozen=True)
class RowProgress:
    """How far one row of a grid is.

    Attributes:
        name: Of the row; None in a grid without rows, and for all rows together.
        done: Cells that were computed.
        failed: Cells that raised an error.
        elsewhere: Cells without a result that another sweep has at work.
        missing: The other cells without a result, also those at work here.
        accuracy: The mean of the done cells, in [0, 1]; None without any.
        seconds: The mean of a done cell; None without any.
    """

    name: str | None
    done: int
    failed: int
    elsewhere: int
    missing: int
    accuracy: float | None
    seconds: float | None

    @property
    def cells(self) -> int:
        """How many the row has."""
        return self.done + self.failed + self.elsewhere + self.missing


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        rows: In the order of the grid.
        whole: All rows together.
        accuracy: Which one is shown: "validation accuracy" where every cell holds images out, else "test accuracy".
        left: Seconds to the end; None before the first cell is over.
        failures: The newest of this call, the latest last: a cell and the last line of its traceback.
    """

    rows: tuple[RowProgress, ...]
    whole: RowProgress
    accuracy: str
    left: float | None
    failures: tuple[str, ...]


class Watch:
    """Follows a sweep by its results, and says at any moment how far it is.

    The time left is the sum over the cells without a result, each taken to need the mean seconds of the done cells that
    are most like it (same row and size, same size, same row, any), of this call before others, divided by the cells
    computed at once. Nothing is said before a cell of this call is done.

    Args:
        standing: Before the call.
        at_once: Cells computed at a time; None takes what is observed, seconds of results per second.
        clock: Seconds since whenever.
    """

    def __init__(
        self, standing: Standing, at_once: int | None = 1, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.standing = standing
        self.at_once = at_once
        self.clock = clock
        self._begun = self._latest = clock()
        self._fresh: set[str] = set()
        self._elsewhere: set[str] = set()
        self._failures: list[str] = []

    def result(self, now: Standing, cell: Cell, result: Result) -> None:
        """Take in a result; the arguments are those of `sweep`'s `on_result`."""
        self.standing, self._latest = now, self.clock()
        self._fresh.add(cell.hash)
        self._elsewhere.discard(cell.hash)
        if result.failed:
            self._failures = [*self._failures, f"{cell}: {result.why}"][-_SHOWN:]

    def elsewhere(self, cell: Cell) -> None:
        """Note that another sweep has a cell at work."""
        self._elsewhere.add(cell.hash)

    def look(self) -> Progress:
        """How far the sweep is now."""
        standing = self.standing
        held_out = all(cell.recipe.validation for cell in standing.cells)
        rows = defaultdict[str | None, list[Cell]](list)
        for cell in standing.cells:
            rows[cell.row].append(cell)
        return Progress(
            rows=tuple(self._row(name, cells, held_out) for name, cells in rows.items()),
            whole=self._row(None, standing.cells, held_out),
            accuracy="validation accuracy" if held_out else "test accuracy",
            left=self._left(),
            failures=tuple(self._failures),
        )

    def _row(self, name: str | None, cells: Iterable[Cell], held_out: bool) -> RowProgress:
        found = [self.standing.results.get(cell.hash) for cell in cells]
        elsewhere = sum(cell.hash in self._elsewhere and cell.hash not in self.standing.results for cell in cells)
        done = [result for result in found if result is not None and not result.failed]
        accuracies = [result.validation_accuracy if held_out else result.test_accuracy for result in done]
        return RowProgress(
            name=name,
            done=len(done),
            failed=sum(result is not None and result.failed for result in found),
            elsewhere=elsewhere,
            missing=found.count(None) - elsewhere,
            accuracy=_mean(value for value in accuracies if value is not None),
            seconds=_mean(result.seconds for result in done),
        )

    def _left(self) -> float | None:
        cells = {cell.hash: cell for cell in self.standing.cells}
        done = {cell.hash: self.standing.results[cell.hash].seconds for cell in self.standing.done}
        fresh = {name: seconds for name, seconds in done.items() if name in self._fresh}
        if not fresh:
            return None
        means = [_means_by_likeness(cells, fresh), _means_by_likeness(cells, done)]
        expected = [_expected(cell, means) for cell in self.standing.missing]
        if not expected:
            return 0.0
        at_once = self.at_once or max(1.0, sum(fresh.values()) / max(self._latest - self._begun, 1e-9))
        # No sweep ends before its longest cell; and what has passed since the last result has passed.
        left = max(sum(expected) / at_once, max(expected))
        return max(left - (self.clock() - self._latest), 0.0)


def _means_by_likeness(cells: Mapping[str, Cell], seconds: Mapping[str, float]) -> Mapping[object, float]:
    found = defaultdict[object, list[float]](list)
    for name, value in seconds.items():
        for key in _likeness(cells[name]):
            found[key].append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def _expected(cell: Cell, means: Iterable[Mapping[object, float]]) -> float:
    return next(known[key] for key in _likeness(cell) for known in means if key in known)


def _likeness(cell: Cell) -> list[object]:
    """What other cells may share with this one, from most alike to any."""
    recipe = cell.recipe
    sizes = [*(getattr(recipe, name) for name in _SIZE), *(getattr(recipe.training, name) for name in _TRAINING)]
    return [("row and size", cell.row, *sizes), ("size", *sizes), ("row", cell.row), "any"]


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
