"""Which numbers of many results go into which picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pruneinit.report.collect import Line, Network, Point
from pruneinit.report.filters import Filters
from pruneinit.report.panels import Axes, Curve, Mark, at_depth, at_sparsity, panel, sample
from pruneinit.report.words import percent, several, short_names

_LEAST_DENSITY = 1e-9  # what is not empty is not drawn on the line of zero


@dataclass(frozen=True)
class Picture:
    """A drawing, its heading, and its legend: the tags, the sample and the label of each line."""

    title: str
    drawing: str
    legend: tuple[tuple[str, str, str], ...]


def accuracies(networks: Sequence[Network], filters: Filters) -> list[Picture]:
    """Test accuracy against sparsity, a picture for each network."""
    found = []
    for network in networks:
        curves = []
        for line in network.lines:
            marks = [_accuracy(point.sparsity, point, line.label) for point in line.points if point.accuracy]
            if marks:
                curves.append(Curve(line.label, filters.look(line), filters.tags([network], line), marks, line.dense))
        if curves:
            title = f"{network.data}: {network.name}"
            axis = Axes("weights removed, %", "test accuracy", at_sparsity)
            found.append(_picture(title, curves, panel(curves, axis, f"Accuracy against sparsity, {title}")))
    return found


def depths(networks: Sequence[Network], filters: Filters) -> list[Picture]:
    """Test accuracy against depth, a picture for each network and sparsity of which there are several depths."""
    families: dict[tuple[str, str, int | None], list[Network]] = {}
    for network in networks:
        if network.depth is not None:
            families.setdefault((network.data, network.model, network.width), []).append(network)
    found = []
    for (data, model, width), family in families.items():
        for sparsity in sorted({point.sparsity for _, _, point in _points(family)}):
            grouped: dict[str, list[tuple[Network, Line, Point]]] = {}
            for network, line, point in _points(family):
                if point.sparsity == sparsity and point.accuracy:
                    grouped.setdefault(line.label, []).append((network, line, point))
            curves = []
            for label, members in grouped.items():
                if len(members) > 1:
                    marks = [_accuracy(float(network.depth or 0), point, label) for network, _, point in members]
                    tags = filters.tags([network for network, _, _ in members], members[0][1])
                    curves.append(Curve(label, filters.look(members[0][1]), tags, marks))
            if curves:
                title = f"{data}: {model}" + (f", width {width}" if width else "") + f", {_removed(sparsity)}"
                axis = Axes("depth, weight layers", "test accuracy", at_depth)
                found.append(_picture(title, curves, panel(curves, axis, f"Accuracy against depth, {title}")))
    return found


def densities(networks: Sequence[Network], filters: Filters) -> list[Picture]:
    """The mean density of each layer, a picture for each network and sparsity; dense networks are left out."""
    found = []
    for network in networks:
        for sparsity in sorted({point.sparsity for _, _, point in _points([network])}):
            curves, orders = [], set()
            for line in network.lines:
                point = next((point for point in line.points if point.sparsity == sparsity), None)
                if line.dense or point is None or not point.densities:
                    continue
                values = point.densities.values()
                marks = [Mark(float(i), 100 * max(v, _LEAST_DENSITY if v else 0)) for i, v in enumerate(values, 1)]
                curves.append(Curve(line.label, filters.look(line), filters.tags([network], line), marks))
                orders.add(tuple(point.densities))
            if curves:
                title = f"{network.data}: {network.name}, {_removed(sparsity)}"
                names = tuple(short_names(orders.pop())) if len(orders) == 1 else ()
                axis = Axes("layer, from the input", "weights kept, logarithmic scale", names=names, log=True)
                found.append(_picture(title, curves, panel(curves, axis, f"Density of each layer, {title}")))
    return found


def _picture(title: str, curves: Sequence[Curve], drawing: str) -> Picture:
    legend = [(curve.tags, sample(curve.look, "line" if curve.level else "both"), curve.label) for curve in curves]
    return Picture(title, drawing, tuple(legend))


def _accuracy(x: float, point: Point, label: str) -> Mark:
    """A point of a curve of accuracies, which exists; the ends of its interval are cut off at 0 and 100 %."""
    found = point.accuracy
    assert found is not None
    interval = None
    words = f"{label}, {_removed(point.sparsity)}: {percent(found.mean)}, {several(found.count, 'seed')}"
    if found.interval is not None:
        low, high = max(found.interval[0], 0.0), min(found.interval[1], 1.0)
        interval = 100 * low, 100 * high
        words += f", interval {percent(low)} to {percent(high)}"
    return Mark(x, 100 * found.mean, interval, words)


def _points(networks: Sequence[Network]) -> Iterator[tuple[Network, Line, Point]]:
    return ((network, line, point) for network in networks for line in network.lines for point in line.points)


def _removed(sparsity: float) -> str:
    return f"{100 * sparsity:.6g} % removed"
