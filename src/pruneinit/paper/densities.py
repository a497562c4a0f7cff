"""Figure 1: what pruning leaves of each layer, and the second moments m^l of the scores that decide it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from pruneinit.experiments.faults import refuse_impossible
from pruneinit.paper.layers import Pruned, measured, read, write
from pruneinit.paper.study import Findings, Means, Study
from pruneinit.paper.tables import markdown
from pruneinit.paper.texts import texts
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.montage import montage
from pruneinit.report.words import several

LAYERS = "layers.jsonl"
COLUMNS = ("study", "row", "layer", "name", "weights", "seeds", "density", "density_sd", "moment")


@dataclass(frozen=True)
class Curve:
    """A row of the figure: means over seeds for each layer.

    Attributes:
        row: The row of the grid.
        seeds: How many there are.
        names: Of the layers.
        total: How many weights each has.
        densities: The share kept of each, a list of one value a seed for each layer.
        moments: The geometric mean of m^l over seeds; None where it is 0 for one of them.
    """

    row: str
    seeds: int
    names: Sequence[str]
    total: Sequence[int]
    densities: Sequence[Sequence[float]]
    moments: Sequence[float | None]

    @property
    def means(self) -> list[float]:
        """The mean share kept of each layer."""
        return [statistics.fmean(values) for values in self.densities]

    @property
    def empty(self) -> float:
        """How many layers keep nothing, the mean over seeds."""
        return sum(sum(value == 0 for value in values) for values in self.densities) / self.seeds

    @property
    def relative(self) -> list[float | None]:
        """m^l over that of the last layer but one: the last, the classifier, has another width."""
        last = self.moments[-2]
        return [moment / last if moment is not None and last else None for moment in self.moments]

    @property
    def spread(self) -> float | None:
        """The largest m^l over the smallest among layers of equal size, where it is largest; None where an m^l is 0."""
        found = []
        for size, count in Counter(self.total).items():
            alike = [moment for moment, total in zip(self.moments, self.total, strict=True) if total == size]
            if None in alike:
                return None
            if count > 2:
                found.append(max(filter(None, alike)) / min(filter(None, alike)))
        return max(found, default=None)


class Densities(Study):
    """The study of figure 1: networks are pruned and not trained."""

    results_file: ClassVar[str] = LAYERS
    note: ClassVar[str] = (
        "m^l is the mean square of the scores |W ∂L/∂W| of layer l, the geometric mean over seeds; the figure shows it "
        "over that of the last layer but one. Densities are means over seeds."
    )

    def carry_out(self, scale: str, folder: Path, means: Means) -> None:
        """Prune what is missing until the time is over."""
        there, _ = read(folder / LAYERS)
        todo = [cell for cell in self.grid(scale).cells() if cell.hash not in there]
        refuse_impossible({str(cell): cell.recipe for cell in todo}, means.data_root)
        for cell in sorted(todo, key=lambda cell: cell.recipe.seed):
            if means.stop():
                return
            there[cell.hash] = measured(cell, means.data_root, means.device)
            write(folder / LAYERS, there)
            means.on_line(f"{cell}: {there[cell.hash].seconds:.1f} s")

    def findings(self, scale: str, folder: Path) -> Findings:
        """What the results in a folder show."""
        cells = self.grid(scale).cells()
        there, left_out = read(folder / LAYERS)
        mine = [there[cell.hash] for cell in cells if cell.hash in there]
        curves = curves_of(mine)
        progress = [f"{len(mine)} of {several(len(cells), 'network')} are pruned."]
        if left_out:
            progress.append(f"{several(left_out, 'result')} of other versions, or altered ones, are left out.")
        versions = sorted({f"pruneinit {one.version} ({one.code}), torch {one.torch}" for one in mine})
        progress += [f"Computed by {version}." for version in versions]
        return Findings(
            done=len(mine),
            planned=len(cells),
            progress=progress,
            rows=rows_of(self.name, curves),
            table=table_of(curves),
            summary=table_of(curves),
            remarks=remarks_of(curves),
            figure=figure_of(curves, self.title) if curves else None,
        )


def curves_of(found: Sequence[Pruned]) -> list[Curve]:
    """The rows of the figure, in the order in which the results name them."""
    order = list(dict.fromkeys(one.row for one in found))
    curves = []
    for row, group in groupby(sorted(found, key=lambda one: order.index(one.row)), key=lambda one: one.row):
        members = list(group)
        moments: list[float | None] = [
            statistics.geometric_mean(values) if all(values) else None
            for values in zip(*(one.moments for one in members), strict=True)
        ]
        densities = list(zip(*(one.densities for one in members), strict=True))
        curves.append(Curve(row or "", len(members), members[0].names, members[0].total, densities, moments))
    return curves


def rows_of(study: str, curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """A row for each layer of each curve."""
    rows = []
    for curve in curves:
        for layer, (name, values) in enumerate(zip(curve.names, curve.densities, strict=True), start=1):
            sd = round(statistics.stdev(values), 6) if len(values) > 1 else None
            numbers = [layer, name, curve.total[layer - 1], curve.seeds, round(statistics.fmean(values), 6), sd]
            rows.append(dict(zip(COLUMNS, [study, curve.row, *numbers, curve.moments[layer - 1]], strict=True)))
    return rows


def table_of(curves: Sequence[Curve]) -> str:
    """A line for each row: what its layers keep, and how far apart their m^l are."""
    lines = []
    for curve in curves:
        low, high = min(curve.means), max(curve.means)
        apart = "–" if curve.spread is None else f"{curve.spread:.3g}"
        few, many = (curve.names[curve.means.index(value)].removesuffix(".weight") for value in (low, high))
        numbers = [f"{curve.empty:g}", f"{100 * low:.3g} % ({few})", f"{100 * high:.3g} % ({many})", apart]
        lines.append([curve.row, str(len(curve.names)), *numbers, str(curve.seeds)])
    header = [
        "row",
        "layers",
        "emptied, mean",
        "least dense",
        "densest",
        "largest m^l / smallest, equal sizes",
        "seeds",
    ]
    return markdown(header, lines)


def remarks_of(curves: Sequence[Curve]) -> list[str]:
    """What the curves say, by the comparisons of the figure."""
    by_row = {curve.row: curve for curve in curves}
    said = []
    for rows in (
        ("ResNet32", "Stable ResNet32"),
        ("FFNN, ordered phase", "FFNN, Edge of Chaos", "FFNN, Edge of Chaos, width 600"),
    ):
        found = [by_row[row] for row in rows if row in by_row and by_row[row].spread is not None]
        if len(found) > 1:
            apart = ", ".join(f"{curve.spread:.3g} in {curve.row!r}" for curve in found)
            empty = ", ".join(f"{curve.empty:g}" for curve in found)
            said.append(
                f"The largest m^l over the smallest, among layers of equal size: {apart}. "
                f"Layers that SBP leaves nothing of: {empty}."
            )
    return said


def figure_of(curves: Sequence[Curve], title: str) -> str:
    """Densities above, moments below; residual networks on the left, plain ones on the right."""
    families = {"ResNet32": [c for c in curves if "ResNet" in c.row], "FFNN": [c for c in curves if "FFNN" in c.row]}
    drawn = []
    for what in ("density", "moment"):
        for family, members in families.items():
            series = [Series(curve.row, _points(curve, what), "line") for curve in members]
            label = "share of the weights kept, %" if what == "density" else "m^l / m^(L-1), logarithmic scale"
            heading = f"{family}: " + ("what each layer keeps" if what == "density" else "second moments of the scores")
            log = what == "moment" or family == "ResNet32"
            if series:
                chart = line_chart(
                    series, title=heading, x_label="layer", y_label=label, log=log, width=560, height=260
                )
                drawn.append((heading, chart))
    return montage(drawn, columns=2, title=title)


def _points(curve: Curve, what: str) -> list[tuple[float, float | None]]:
    values = [100 * value for value in curve.means] if what == "density" else curve.relative
    return [(float(layer), value) for layer, value in enumerate(values, start=1)]


DENSITIES = Densities(
    **texts("densities"),
    figure=lambda found, reported: "",
)
