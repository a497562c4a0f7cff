"""From the results of a grid to the entries of a table: means over seeds, beside what the paper reports."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Cell, Grid, apart, choose, grouped
from pruneinit.paper.published import Reported


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the latter is None for a single one.

    Example:
        >>> Spread.of([90.0, 92.0])
        Spread(mean=91.0, sd=1.4142135623730951)
    """

    mean: float
    sd: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Spread | None:
        """The spread of some values; None where there are none."""
        if not values:
            return None
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Entry:
    """One entry of a table. Accuracies are test accuracies in percent.

    Attributes:
        row: The row of the grid; None in a grid without rows.
        axes: Its values on the axes of the grid, without the seed and what was chosen.
        data: Data set.
        network: Model, by its name in recipes.
        planned: How many seeds the grid has.
        seeds: How many of them went in.
        chosen: The value that `choose` took, by validation accuracy; None where nothing is chosen.
        last: After the last epoch.
        best: Of the best epoch, which was picked on test data.
        published: What the paper reports; None where that is not known.
    """

    row: str | None
    axes: Mapping[str, Any]
    data: str
    network: str
    planned: int
    seeds: int
    chosen: Any
    last: Spread | None
    best: Spread | None
    published: Reported | None

    @property
    def difference(self) -> float | None:
        """Ours after the last epoch less what the paper reports."""
        if self.last is None or self.published is None:
            return None
        return self.last.mean - self.published.accuracy


def entries(
    grid: Grid,
    results: Mapping[str, Result],
    reported: Iterable[Reported] = (),
    stands_for: Mapping[str, str] | None = None,
) -> list[Entry]:
    """The entries of a grid's table, row by row; also those that nothing was computed of yet.

    Where the grid chooses an axis, only the cells of the chosen value count; see `at_chosen`.

    Args:
        grid: What was carried out.
        results: By the hash of the cell.
        reported: What the paper reports.
        stands_for: Networks of a small grid, and the network of the paper that each takes the place of.
    """
    reported = list(reported)
    cells = grid.cells()
    counted = {cell.hash for cell in _counted(grid, cells, results)}
    found = []
    for members in grouped(cells, lambda cell: apart(cell, ("seed", grid.choose))):
        first = members[0]
        used = [cell for cell in members if cell.hash in counted]
        mine = [results[cell.hash] for cell in used]
        network, data = first.recipe.model, first.recipe.data
        settings = {"sparsity": first.recipe.sparsity, "depth": first.recipe.depth}
        name = (stands_for or {}).get(network, network)
        found.append(
            Entry(
                row=first.row,
                axes={axis: value for axis, value in first.axes.items() if axis not in ("seed", grid.choose)},
                data=data,
                network=network,
                planned=len({cell.recipe.seed for cell in members}),
                seeds=len(used),
                chosen=used[0].axes[grid.choose] if used and grid.choose else None,
                last=Spread.of([100 * one.test_accuracy for one in mine if one.test_accuracy is not None]),
                best=Spread.of([100 * one.best_test_accuracy for one in mine if one.best_test_accuracy is not None]),
                published=next((one for one in reported if one.fits(first.row, data, name, settings)), None),
            )
        )
    return found


def at_chosen(cells: Sequence[Cell], axis: str | None, results: Mapping[str, Result]) -> dict[str, bool]:
    """By hash, whether a cell has the chosen value of its row and place; none of those where nothing is chosen.

    It is chosen among the seeds of which every value was computed, and counts for the others too: so an unfinished
    grid has numbers, and further seeds need one cell each.

    Args:
        cells: Of a grid.
        axis: What is chosen; None for a grid that chooses nothing.
        results: By the hash of the cell.
    """
    if axis is None:
        return {}
    whole = [
        cell
        for members in grouped(cells, lambda cell: apart(cell, (axis,)))
        if all(cell.hash in results for cell in members)
        for cell in members
    ]
    taken = choose(whole, axis, lambda cell: results[cell.hash].validation_accuracy)
    values = {apart(cell, ("seed", axis)): cell.axes[axis] for cell in taken}
    places = {cell.hash: apart(cell, ("seed", axis)) for cell in cells}
    return {cell.hash: cell.axes[axis] == values[at] for cell in cells if (at := places[cell.hash]) in values}


def _counted(grid: Grid, cells: Sequence[Cell], results: Mapping[str, Result]) -> list[Cell]:
    """The cells whose results go into the table."""
    done = [cell for cell in cells if cell.hash in results and not results[cell.hash].failed]
    if grid.choose is None:
        return done
    chosen = at_chosen(cells, grid.choose, results)
    return [cell for cell in done if chosen.get(cell.hash, False)]
