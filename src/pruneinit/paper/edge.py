"""What makes a deep sparse network train: criteria, rescaling, rounds and initialisation in all combinations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pruneinit.experiments.grid import Cell, Grid
from pruneinit.experiments.sweep import Standing
from pruneinit.paper.drawings import row_maps
from pruneinit.paper.entries import Entry
from pruneinit.paper.order import extremes_first, seed_by_seed
from pruneinit.paper.predict import networks, predict
from pruneinit.paper.predictions import accuracy_by, medians, predictions_remarks, predictions_table, with_medians
from pruneinit.paper.published import Reported
from pruneinit.paper.study import NOTE, Findings, Study
from pruneinit.paper.tables import markdown, pivot
from pruneinit.paper.texts import texts
from pruneinit.report.montage import montage
from pruneinit.report.words import NOTHING
from pruneinit.trainability import MEASURES

TRAINS = 80.0
"""A network trains where its test accuracy is above this, in percent."""
_PLACES = ("depth", "sparsity")
# Where rescaling between rounds was first tried, on Gaussian weights: docs/rescaling.md.
_FIRST = (("tanh", 30, 0.95), ("tanh", 50, 0.95), ("relu", 30, 0.9))


@dataclass(frozen=True)
class Maps:
    """How it is shown which rows train at which places, places being depths and sparsities.

    Attributes:
        title: Of the drawing.
        by: Axes: each combination of their values is a network with a map and a table of its own.
    """

    title: str
    by: tuple[str, ...]

    def told_by(self) -> dict[str, Any]:
        """What a `Study` takes to be shown so."""
        return {"figure": self.figure, "table": self.table, "summary": self.summary, "remarks": self.remarks}

    def figure(self, found: Sequence[Entry], reported: Sequence[Reported]) -> str:
        """A map of rows and places for each network."""
        return row_maps(found, title=self.title, places=_PLACES, by=self.by)

    def table(self, found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
        """Every mean: a table for each network."""
        parts = [self.summary(found)]
        for values, here in self._networks(found).items():
            parts.append(f"{', '.join(values)}, ours, last epoch:\n\n" + pivot(here, across="sparsity", down="depth"))
        return "\n\n".join(parts)

    def summary(self, found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
        """For each row how many of the measured places train, of each network."""
        networks = self._networks(found)
        lines = []
        for row in dict.fromkeys(entry.row for entry in found):
            line = [row or NOTHING]
            for here in networks.values():
                means = [entry.last.mean for entry in here if entry.row == row and entry.last is not None]
                line.append(f"{sum(mean > TRAINS for mean in means)} of {len(means)}" if means else NOTHING)
            lines.append(line)
        said = f"Places (depth and sparsity) with a mean test accuracy above {TRAINS:g} %:"
        return f"{said}\n\n" + markdown(["row", *(", ".join(values) for values in networks)], lines)

    def remarks(self, found: Sequence[Entry]) -> list[str]:
        """The rows that train at most places, of those that have been measured wherever any row has."""
        said = []
        for values, here in self._networks(found).items():
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

    def _networks(self, found: Sequence[Entry]) -> dict[tuple[str, ...], list[Entry]]:
        """The entries by network."""
        groups: dict[tuple[str, ...], list[Entry]] = {}
        for entry in found:
            groups.setdefault(tuple(str(entry.axes[axis]) for axis in self.by), []).append(entry)
        return groups


_FIRST_SEEDS = (0, 1, 2)
_RECOMMENDED = ("sparse orthogonal, ends", "magnitude ends, neuron, no biases", "mirrored, magnitude ends, layer")


def order(grid: Grid) -> Callable[[Cell], Any]:
    """What is recommended and its nearest rivals by three seeds, then the places of the first table before all others.

    Of both places one seed over all rows, then further seeds.
    """
    rest = extremes_first(grid)

    def key(cell: Cell) -> Any:
        place = (cell.recipe.activation, cell.recipe.depth, cell.recipe.sparsity)
        later = cell.row not in _RECOMMENDED or cell.recipe.seed not in _FIRST_SEEDS
        return later, cell.recipe.init == "orthogonal" or place not in _FIRST, rest(cell)

    return key


class Edge(Study):
    """The study with what its measurements before training could have told."""

    note: ClassVar[str] = NOTE + (
        " Measurements are those of `pruneinit.trainability`, before training; the CSV has their medians over the "
        "seeds that have them."
    )

    def told(self, scale: str, grid: Grid, now: Standing) -> Findings:
        """What a standing of a scale's grid shows."""
        found = super().told(scale, grid, now)
        measured = networks(now.cells, grid.choose, now.results)
        predictions = predict(measured, TRAINS)
        rows = with_medians(found.rows, medians(now.cells, now.results))
        if found.figure is None or not predictions:
            return replace(found, rows=rows)
        best = next(one for one in predictions if one.name in MEASURES)
        drawn = [("", found.figure), (f"Test accuracy by {best.name}", accuracy_by(measured, best.name))]
        return replace(
            found,
            rows=rows,
            table=f"{predictions_table(measured, predictions)}\n\n{found.table}",
            remarks=[*found.remarks, *predictions_remarks(predictions)],
            figure=montage(drawn, columns=1, title=self.title),
        )


_MAPS = Maps(texts("edge")["title"], by=("activation", "init"))
EDGE = Edge(
    **texts("edge"),
    **_MAPS.told_by(),
    order={"small": order, "paper": order},
    beside=9,  # three networks at three learning rates each, which are pruned once
    measure=True,
)

_RIVALS_BY_ENDS = ("orthogonal, magnitude ends, neuron, no biases", "mirrored orthogonal, magnitude ends, layer")
_DEEP = Maps(texts("edge-mnist")["title"], by=("activation", "model"))
EDGE_MNIST = Edge(
    **texts("edge-mnist"),
    **_DEEP.told_by(),
    order={
        "small": seed_by_seed(
            {"row": ("sparse orthogonal",), "model": ("mlp-100",)},
            {"row": ("sparse orthogonal, ends",), "seed": _FIRST_SEEDS},
            {"row": _RIVALS_BY_ENDS, "seed": _FIRST_SEEDS, "model": ("mlp-100",)},
            {"row": ("sparse orthogonal, ERK+", "sparse orthogonal, shares of SBP"), "seed": _FIRST_SEEDS},
            {"seed": _FIRST_SEEDS, "model": ("mlp-100",)},
            {"seed": _FIRST_SEEDS, "model": ("mlp-200-50",)},
        )
    },
    beside=8,  # two networks at four learning rates each
    measure=True,
)

_CONVOLUTIONS = Maps(texts("edge-vcnn")["title"], by=("activation",))
_SHALLOW_AND_SPARSE: dict[str, Sequence[Any]] = {"depth": (10,), "sparsity": (0.95,)}
_DEEP_AND_SPARSE: dict[str, Sequence[Any]] = {"depth": (50, 100), "sparsity": (0.95,)}
# What is nearest to each other needs seeds first.
_NEAREST: tuple[dict[str, Sequence[Any]], ...] = (
    {
        "activation": ("tanh",),
        "row": (
            "sparse orthogonal",
            "sparse orthogonal, ERK+",
            "sparse orthogonal, shares of SBP",
            "sparse orthogonal, IGQ",
            "sparse orthogonal, ends",
            "magnitude ends, neuron",
            "magnitude per layer, neuron",
            "SBP, 20 rounds by neuron",
            "magnitude per layer, layer",
            "random, neuron",
            "random, layer",
        ),
    },
    {
        "activation": ("relu",),
        "row": (
            "sparse orthogonal",
            "sparse orthogonal, ERK+",
            "sparse orthogonal, shares of SBP",
            "sparse orthogonal, IGQ",
            "sparse orthogonal, ends",
            "magnitude ends, layer",
            "random, layer",
            "magnitude per layer, layer",
            "delta-orthogonal, magnitude per layer, layer",
        ),
    },
)
_NEAREST_OF_FEW_LAYERS: dict[str, Sequence[Any]] = {
    "row": (
        "sparse orthogonal, shares of SBP",
        "sparse orthogonal, IGQ",
        "sparse orthogonal, ends",
        "magnitude ends, layer",
        "magnitude ends, neuron",
        "sparse orthogonal, ERK+",
        "sparse orthogonal",
        "SBP, 20 rounds by neuron",
        "synflow, layer",
        "synflow",
        "magnitude per layer, layer",
        "magnitude per layer, neuron",
        "random, layer",
        "random, neuron",
        "SBP, layer",
    )
}
EDGE_VCNN = Edge(
    **texts("edge-vcnn"),
    **_CONVOLUTIONS.told_by(),
    order={
        "small": seed_by_seed(
            _SHALLOW_AND_SPARSE | {"seed": (0,)},
            _DEEP_AND_SPARSE | {"seed": (0,)},
            _SHALLOW_AND_SPARSE | _NEAREST_OF_FEW_LAYERS,
            *(_DEEP_AND_SPARSE | rows | {"seed": _FIRST_SEEDS} for rows in _NEAREST),
            {"depth": (10,), "sparsity": (0.9,), "seed": (0,)},
            *({"depth": (50, 100), "sparsity": (0.9,), "seed": (0,)} | rows for rows in _NEAREST),
            _DEEP_AND_SPARSE | {"seed": _FIRST_SEEDS},
        )
    },
    beside=5,  # learning rates
    measure=True,
)
