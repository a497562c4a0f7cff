"""What makes a deep sparse network train: criteria, rescaling, rounds and initialisation in all combinations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pruneinit.experiments.grid import Cell, Grid
from pruneinit.paper.drawings import row_maps
from pruneinit.paper.entries import Entry
from pruneinit.paper.order import extremes_first
from pruneinit.paper.published import Reported
from pruneinit.paper.study import Study
from pruneinit.paper.tables import markdown, pivot
from pruneinit.paper.texts import texts
from pruneinit.report.words import NOTHING

TITLE = texts("edge")["title"]
TRAINS = 80.0
"""A network trains where its test accuracy is above this, in percent."""
_BY = ("activation", "init")
_PLACES = ("depth", "sparsity")
# Where rescaling between rounds was first tried, on Gaussian weights: docs/rescaling.md.
_FIRST = (("tanh", 30, 0.95), ("tanh", 50, 0.95), ("relu", 30, 0.9))


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """A map of rows and places for each activation and initialisation."""
    return row_maps(found, title=TITLE, places=_PLACES, by=_BY)


def table(found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
    """Every mean: a table for each activation and initialisation."""
    parts = [summary(found)]
    for values, here in _networks(found).items():
        parts.append(f"{', '.join(values)}, ours, last epoch:\n\n" + pivot(here, across="sparsity", down="depth"))
    return "\n\n".join(parts)


def summary(found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
    """For each row how many of the measured places train, of each activation and initialisation."""
    networks = _networks(found)
    lines = []
    for row in dict.fromkeys(entry.row for entry in found):
        line = [row or NOTHING]
        for here in networks.values():
            means = [entry.last.mean for entry in here if entry.row == row and entry.last is not None]
            line.append(f"{sum(mean > TRAINS for mean in means)} of {len(means)}" if means else NOTHING)
        lines.append(line)
    said = f"Places (depth and sparsity) with a mean test accuracy above {TRAINS:g} %:"
    return f"{said}\n\n" + markdown(["row", *(", ".join(values) for values in networks)], lines)


def remarks(found: Sequence[Entry]) -> list[str]:
    """The rows that train at most places, of those that have been measured wherever any row has."""
    said = []
    for values, here in _networks(found).items():
        known: dict[str, dict[tuple[Any, ...], float]] = {}
        for entry in here:
            if entry.last is not None:
                known.setdefault(entry.row or NOTHING, {})[tuple(entry.axes[axis] for axis in _PLACES)] = (
                    entry.last.mean
                )
        most = max((len(places) for places in known.values()), default=0)
        whole = {row: places for row, places in known.items() if len(places) == most}
        counts = {row: sum(mean > TRAINS for mean in places.values()) for row, places in whole.items()}
        best = sorted(counts, key=lambda row: -counts[row])[:3]
        if best:
            told = ", ".join(f"{row!r} ({counts[row]})" for row in best)
            said.append(f"{', '.join(values)}: of {most} places, most train with {told}.")
    return said


def order(grid: Grid) -> Callable[[Cell], Any]:
    """The places of the first table before all others, and of both one seed over all rows, then further seeds."""
    rest = extremes_first(grid)

    def key(cell: Cell) -> Any:
        place = (cell.recipe.activation, cell.recipe.depth, cell.recipe.sparsity)
        return cell.recipe.init != "edge" or place not in _FIRST, rest(cell)

    return key


def _networks(found: Sequence[Entry]) -> dict[tuple[str, ...], list[Entry]]:
    """The entries by activation and initialisation."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in found:
        groups.setdefault(tuple(str(entry.axes[axis]) for axis in _BY), []).append(entry)
    return groups


EDGE = Study(
    **texts("edge"),
    figure=figure,
    table=table,
    summary=summary,
    remarks=remarks,
    order={"small": order, "paper": order},
    beside=9,  # three networks at three learning rates each, which are pruned once
    measure=True,
)
