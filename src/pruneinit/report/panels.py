"""The small pictures of the page over many results: a few lines each, that filters can hide one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruneinit.report.axes import Plot, axes, margin
from pruneinit.report.charts import unbroken
from pruneinit.report.scale import Scale, linear_scale, log_scale
from pruneinit.report.svg import COLORS, Shown, escape, frame, num, strokes, text_width

WIDTH, HEIGHT = 430, 230
_HIT = "m-7 0a7 7 0 1 0 14 0a7 7 0 1 0-14 0"
_MOST_NAMES = 60


@dataclass(frozen=True)
class Mark:
    """A point of a curve, with the ends of its interval if it has one, and what pointing at it says."""

    x: float
    y: float
    interval: tuple[float, float] | None = None
    hint: str = ""


@dataclass(frozen=True)
class Curve:
    """A line of a panel.

    Attributes:
        label: What the legend calls it.
        look: Which colour, dash and marker.
        tags: What the filters know it by.
        marks: Its points, by rising x; of a level curve one.
        level: Whether it is drawn across the whole panel, at the height of its only point.
    """

    label: str
    look: int
    tags: str
    marks: Sequence[Mark]
    level: bool = False


@dataclass(frozen=True)
class Axes:
    """What the two axes of a panel are.

    Attributes:
        x_label: What x is.
        y_label: What y is.
        ticks: The place of a value of x on its axis, and its label: each value has a tick. None counts layers.
        names: Of the layers, that pointing at one says.
        log: Whether the y axis is logarithmic. A zero is then a marker on a line of its own, below.
    """

    x_label: str
    y_label: str
    ticks: Callable[[float], tuple[float, str]] | None = None
    names: tuple[str, ...] = ()
    log: bool = False


def panel(curves: Sequence[Curve], of: Axes, title: str) -> str:
    """Curves of per cents, each with its band in a group of its own, as an `<svg>`.

    Args:
        curves: At least one.
        of: The axes.
        title: What the picture shows, for screen readers.

    Example:
        >>> snip = Curve("SNIP", 0, "l0", [Mark(0.9, 95.0, (94.0, 96.0)), Mark(0.99, 90.0, (88.0, 92.0))])
        >>> svg = panel([snip], Axes("removed", "accuracy", at_sparsity), "Accuracy")
        >>> svg.count('class="band c0"'), 'data-show="l0"' in svg
        (1, True)
    """
    ticks, names, log = of.ticks, of.names, of.log
    values = [y for curve in curves for mark in curve.marks for y in (mark.y, *(mark.interval or ()))]
    xs = sorted({mark.x for curve in curves for mark in curve.marks if not curve.level}) or [0.0]
    up = log_scale(values) if log else linear_scale(values, _limits(values))
    left = margin(up, " %")
    across = linear_scale(xs, about=6, whole=True) if ticks is None else _ticked([ticks(x) for x in xs], WIDTH - left)
    floor = 26.0 + HEIGHT
    zeros = log and 0 in values
    plot = Plot(left + 6, WIDTH - 16.0, 26.0, floor - (24 if zeros else 0), floor, across, up)
    place: Callable[[float], float] = float if ticks is None else lambda x: ticks(x)[0]

    parts = [axes(plot, of.x_label, of.y_label, " %")]
    if 0 < len(names) <= _MOST_NAMES:
        parts += [_named(plot, x, len(names), name) for x, name in enumerate(names, start=1)]
    for curve in curves:
        parts.append(f'<g data-show="{escape(curve.tags)}">{_curve(curve, plot, place, log)}</g>')
    return frame(WIDTH, floor + 46, title, parts)


def sample(look: int, shown: Shown = "both") -> str:
    """The stroke of a curve, for a legend."""
    drawn = strokes(look, shown, [[(1, 7), (31, 7)]], [] if shown == "line" else [(16, 7)])
    return f'<svg viewBox="0 0 32 14" width="32" height="14" aria-hidden="true">{drawn}</svg>'


def at_sparsity(sparsity: float) -> tuple[float, str]:
    """The place of a sparsity on an axis on which equal steps halve, or divide by ten, what is left.

    Example:
        >>> at_sparsity(0.99)
        (2.0, '99')
    """
    return round(-math.log10(1 - sparsity), 9), f"{100 * sparsity:.6g}"


def at_depth(depth: float) -> tuple[float, str]:
    """The place of a depth on an even axis."""
    return depth, f"{depth:g}"


def _curve(curve: Curve, plot: Plot, place: Callable[[float], float], log: bool) -> str:
    if curve.level:
        mark = curve.marks[0]
        points = [plot.point(x, mark.y) for x in (plot.across.low, plot.across.high)]
        banded = [(x, mark.interval) for x in (plot.across.low, plot.across.high)] if mark.interval else []
        middle = ((plot.left + plot.right) / 2, plot.y(mark.y))
        return _band(curve.look, banded, plot) + strokes(curve.look, "line", [points], []) + _hint(middle, mark)
    runs = [[plot.point(x, y) for x, y in run] for run in unbroken([(place(m.x), m.y) for m in curve.marks], log)]
    plain = log and len(curve.marks) > 1
    marked = [run[0] for run in runs if len(run) == 1] if plain else [point for run in runs for point in run]
    banded = [(place(mark.x), mark.interval) for mark in curve.marks if mark.interval]
    hints = [_hint(plot.point(place(mark.x), mark.y), mark) for mark in curve.marks if mark.hint]
    return "".join([_band(curve.look, banded, plot), strokes(curve.look, "both", runs, marked), *hints])


def _band(look: int, ends: Sequence[tuple[float, tuple[float, float] | None]], plot: Plot) -> str:
    """The area between the ends of the intervals; of a single one a stroke from end to end."""
    known = [(plot.x(x), plot.y(found[0]), plot.y(found[1])) for x, found in ends if found is not None]
    if len(known) == 1:
        ((x, low, high),) = known
        return f'<path class="line c{look % COLORS}" d="M{num(x)} {num(low)}V{num(high)}"/>'
    there = [f"{num(x)} {num(high)}" for x, _, high in known]
    back = [f"{num(x)} {num(low)}" for x, low, _ in reversed(known)]
    return f'<path class="band c{look % COLORS}" d="M{"L".join(there + back)}z"/>' if known else ""


def _hint(point: tuple[float, float], mark: Mark) -> str:
    at = f"M{num(point[0])} {num(point[1])}{_HIT}"
    return f'<path class="hit" d="{at}"><title>{escape(mark.hint)}</title></path>'


def _named(plot: Plot, x: int, count: int, name: str) -> str:
    width = (plot.right - plot.left) / max(count - 1, 1)
    start = max(plot.x(x) - width / 2, plot.left)
    end = min(plot.x(x) + width / 2, plot.right)
    box = f'x="{num(start)}" y="{num(plot.top)}" width="{num(end - start)}" height="{num(plot.floor - plot.top)}"'
    return f'<rect class="hit" {box}><title>{escape(f"layer {x}: {name}")}</title></rect>'


def _ticked(values: Sequence[tuple[float, str]], width: float) -> Scale:
    """An axis with a tick at each value; of labels that would run into each other the later ones are left out."""
    low, high = values[0][0], values[-1][0]
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    ticks: list[tuple[float, str]] = []
    free = -math.inf
    for value, label in values:
        place, half = (value - low) / (high - low), text_width(label) / 2 / width
        ticks.append((place, label if place - half >= free else ""))
        free = place + half + 4 / width if ticks[-1][1] else free
    return Scale(low, high, tuple(ticks))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Never closer than ten points: noise is not to look like a difference."""
    step = 10 if max(values) - min(values) <= 40 else 20
    low, high = step * math.floor(min(values) / step), step * math.ceil(max(values) / step)
    return float(low), float(max(high, low + step))
