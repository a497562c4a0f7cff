"""How predictions of what trains are told: a table, a sentence, a drawing, and columns of a CSV file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Cell
from pruneinit.paper.predict import AIMS_AT_ONE, ALL, BOTH, Network, Prediction, Split, measure
from pruneinit.paper.tables import markdown
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.words import NOTHING, several
from pruneinit.trainability import MEASURES

_BINS = 16
_PARTS = ("found on", "other seeds", "other depths", "both other", "all others")
_WORDS = {
    **MEASURES,
    ALL: "logistic regression",
    BOTH: "as learnable; nothing where the gradient grows by more than 1000 on its way back",
}
_KEY = ("row", "network", "activation", "init", "depth", "sparsity")


def predictions_table(found: Sequence[Network], predictions: Sequence[Prediction], split: Split | None = None) -> str:
    """A line for each prediction, the best judged first, under a sentence that says how they were found."""
    split = split or Split()
    parts = {name: int(mine.sum()) for name, mine in split.parts(found).items()}
    seeds = " and ".join(map(str, split.seeds))
    said = (
        "What tells before training whether a network trains: balanced accuracy in percent of the best threshold of "
        "each measure, and of a logistic regression over the logarithms of all. Found on seeds "
        f"{seeds} at depth {split.depth}, judged on the others, {several(len(found), 'network')} in all, each at its "
        "best learning rate on held-out images, or that of other seeds."
    )
    lines = []
    for one in predictions:
        shown = [NOTHING if (value := one.accuracies[part]) is None else f"{100 * value:.1f}" for part in _PARTS]
        lines.append([one.name, _WORDS[one.name], rule(one), *shown])
    header = ["measure", "what it is", "trains where", *(f"{part} ({parts[part]})" for part in _PARTS)]
    return f"{said}\n\n" + markdown(header, lines, left=3)


def rule(one: Prediction) -> str:
    """Where a network is said to train, in words.

    Example:
        >>> rule(Prediction("chi", 0.1, False, {})), rule(Prediction("alive", 20.5, True, {}))
        ('within a factor of 1.11 of 1', 'above 20.5')
    """
    if one.threshold is None:
        return NOTHING
    if not math.isfinite(one.threshold):
        return "always or never"
    if one.name in AIMS_AT_ONE:
        factor = f"a factor of {np.exp(min(one.threshold, 700.0)):.3g} of 1"
        return f"more than {factor} away" if one.above else f"within {factor}"
    return f"{'above' if one.above else 'below'} {one.threshold:.3g}"


def predictions_remarks(predictions: Sequence[Prediction]) -> list[str]:
    """Which measure predicts best where seed or depth has not been seen, and what all of them reach."""
    judged = [one for one in predictions if one.accuracies["all others"] is not None and one.name != ALL]
    if not judged:
        return []
    every = next(one for one in predictions if one.name == ALL)
    best = ", ".join(f"{one.name} ({100 * one.judged:.1f} %)" for one in judged[:3])
    return [
        f"On other seeds or depths than the thresholds are found on, a network that trains is best told by {best}; "
        f"a logistic regression over all measures reaches {100 * every.judged:.1f} % (balanced accuracy; chance is "
        "50 %)."
    ]


def accuracy_by(found: Sequence[Network], name: str) -> str:
    """The mean test accuracy of networks by a measure, in bins of its logarithm, a line for each depth."""
    values = measure(found, name)
    logs = np.log10(np.maximum(values, 1e-30))
    known = np.isfinite(logs)
    ends = np.linspace(logs[known].min(), logs[known].max(), _BINS + 1) if known.any() else np.linspace(0, 1, _BINS + 1)
    series = []
    for depth in sorted({one.depth for one in found}):
        points: list[tuple[float, float | None]] = []
        for i, (low, high) in enumerate(pairwise(ends)):
            last = i == _BINS - 1
            inside = [
                one.accuracy
                for one, log in zip(found, logs, strict=True)
                if one.depth == depth and low <= log and (log <= high if last else log < high)
            ]
            points.append((float((low + high) / 2), statistics.fmean(inside) if inside else None))
        series.append(Series(f"depth {depth}", points))
    what = f"|log({name})|" if name in AIMS_AT_ONE else name
    return line_chart(
        series, title=f"test accuracy by {name}", x_label=f"log10 of {what}: {MEASURES[name]}",
        y_label="mean test accuracy, %", limits=(0.0, 100.0), whole=False, width=900, height=300,
    )  # fmt: skip


def medians(cells: Sequence[Cell], results: Mapping[str, Result]) -> dict[tuple[Any, ...], dict[str, float]]:
    """The median over seeds of each measure, by row, network, activation, initialisation, depth and sparsity."""
    seen: dict[tuple[Any, ...], dict[tuple[str, int], float]] = {}
    for cell in cells:
        measured = results[cell.hash].measured if cell.hash in results else None
        place = (cell.row, cell.recipe.model, *(cell.axes.get(axis) for axis in _KEY[2:]))
        for name, value in (measured or {}).items():
            if value is not None:
                seen.setdefault(place, {})[name, cell.recipe.seed] = value
    return {
        place: {
            name: statistics.median(value for (other, _), value in values.items() if other == name)
            for name in dict.fromkeys(name for name, _ in values)
        }
        for place, values in seen.items()
    }


def with_medians(
    rows: Sequence[Mapping[str, Any]], found: Mapping[tuple[Any, ...], Mapping[str, float]]
) -> list[Mapping[str, Any]]:
    """Rows of the CSV file with a column more for each measure."""
    more = [found.get(tuple(row.get(name) for name in _KEY), {}) for row in rows]
    return [{**row, **{name: values.get(name) for name in MEASURES}} for row, values in zip(rows, more, strict=True)]
