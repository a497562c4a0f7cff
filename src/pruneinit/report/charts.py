"""The charts of the reports as inline SVG: lines and points over an axis, and a bar for each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pruneinit.report.axes import Plot, axes, margin
from pruneinit.report.scale import linear_scale, log_scale, named
from pruneinit.report.svg import (
    Point,
    Shown,
    bands,
    escape,
    fit,
    frame,
    legend,
    num,
    strokes,
    text_at,
    text_width,
)

_MOST_MARKERS = 32
_MOST_TOOLTIPS = 120


@dataclass(frozen=True)
class Series:
    """A labelled line, or labelled points.

    Attributes:
        label: What the legend calls it.
        points: Pairs of x and y, with y None where there is no value.
        shown: `"both"`: a line with markers; `"line"`: a line alone, for theory; `"points"`: markers alone, for
            measurements.
        look: Which colour, dash and marker; None is the place in the list of series. A theory and its measurement
            belong together when they have the same.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    shown: Shown = "both"
    look: int | None = None


@dataclass(frozen=True)
class Bar:
    """A labelled bar of length `value` >= 0, the text at its end, and a tooltip."""

    label: str
    value: float
    text: str
    tooltip: str


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
    unit: str = "",
    limits: tuple[float, float] | None = None,
    names: Mapping[float, str] | None = None,
    whole: bool = True,
    ticks: Sequence[float] = (),
    width: int = 900,
    height: int = 300,
    tooltips: bool = True,
) -> str:
    """Several lines, or points, over one x axis, as an `<svg>`.

    A missing value leaves a gap. On a logarithmic axis a zero is a marker on a line of its own, below the lowest
    power of ten, and negative values are left out.

    Args:
        series: The lines; they differ in colour, dash and marker.
        title: What the figure shows, for screen readers.
        x_label: What x counts, `"epoch"`; also opens each tooltip.
        y_label: What y is.
        log: Whether the y axis is logarithmic.
        unit: Put behind each value of y, `" %"`.
        limits: Ends of a linear y axis.
        names: What to call single values of x in tooltips.
        whole: Whether x counts something (layers, epochs), so that only whole numbers are ticks.
        ticks: Where to have ticks on the x axis; none are round numbers.
        width: Width in CSS pixels.
        height: Height of the plot itself in CSS pixels; legend and labels come on top.
        tooltips: Whether pointing at an x shows the values there; where there are points without lines, at theirs.

    Example:
        >>> moments = Series("dense", [(1, 1.0), (2, None), (3, 0.5)])
        >>> svg = line_chart([moments], title="Second moments", x_label="layer", y_label="q")
        >>> svg.startswith('<svg viewBox="0 0 900 ')
        True
    """
    series = [replace(s, points=[(x, _finite(y, log)) for x, y in s.points]) for s in series]
    values = [y for s in series for _, y in s.points if y is not None]
    xs = sorted({x for s in series for x, _ in s.points})
    zeros = log and 0 in values
    across = linear_scale(xs, about=10 if width > 600 else 5, whole=whole)
    across = named(across, ticks, [f"{x:g}" for x in ticks]) if ticks else across
    up = log_scale(values) if log else linear_scale(values, limits)

    key, top = legend(keys(series), width)
    floor = top + 26 + height
    plot = Plot(margin(up, unit), width - 12.0, top + 26, floor - (24 if zeros else 0), floor, across, up)

    parts = [key, axes(plot, x_label, y_label, unit)]
    for (_, look, shown), one in zip(keys(series), series, strict=True):
        runs = [[plot.point(x, y) for x, y in run] for run in unbroken(one.points, log)]
        parts.append(strokes(look, shown, runs, _marked(runs, shown)))
    if tooltips:
        measured = {x for s in series if s.shown == "points" for x, _ in s.points}
        chosen = sorted(measured) or xs[:: max(1, math.ceil(len(xs) / _MOST_TOOLTIPS))]
        texts = _tooltips(series, chosen, x_label, unit, names or {})
        for text, (start, end) in zip(texts, bands(list(map(plot.x, chosen)), plot.left, plot.right), strict=False):
            box = f'x="{num(start)}" y="{num(plot.top)}" width="{num(end - start)}" height="{num(height)}"'
            parts.append(f'<rect class="hit" {box}><title>{escape(text)}</title></rect>')
    return frame(width, plot.floor + 46, title, parts)


def keys(series: Sequence[Series]) -> list[tuple[str, int, Shown]]:
    """What the legend shows of each series: its label, its look and how it is drawn."""
    return [(s.label, i if s.look is None else s.look, s.shown) for i, s in enumerate(series)]


def bar_chart(
    bars: Sequence[Bar],
    *,
    title: str,
    reference: Bar | None = None,
    unit: str = " %",
    width: int = 900,
    tooltips: bool = True,
) -> str:
    """A horizontal bar for each layer, as an `<svg>`; bars of length zero are marked as empty.

    Args:
        bars: From top to bottom.
        title: What the figure shows, for screen readers.
        reference: A line behind all bars, with its label.
        unit: Put behind each tick.
        width: Width in CSS pixels.
        tooltips: Whether pointing at a bar shows its tooltip.

    Example:
        >>> "empty" in bar_chart([Bar("fc", 0, "0 %", "fc: 0 of 100")], title="densities")
        True
    """
    # A hundred layers still fit on a page or two, and a dozen need not look lost.
    pitch, size = (20, 12) if len(bars) <= 40 else (15, 11) if len(bars) <= 70 else (13, 10.5)
    names = [fit(bar.label, width * 0.32, size) for bar in bars]
    left = max([text_width(name, size) for name in names], default=0) + 8
    right = width - max([text_width(bar.text, size) for bar in bars], default=0) - 12
    longest = max([bar.value for bar in (*bars, *([reference] if reference else ()))], default=0) or 1.0
    scale = linear_scale((), (0.0, longest), about=5 if width > 600 else 3)
    top, bottom = 22.0, 22.0 + pitch * len(bars) + 4

    def at(value: float) -> float:
        return left + scale.place(value) * (right - left)

    grid = (f"M{num(left + place * (right - left))} {num(top)}V{num(bottom)}" for place, _ in scale.ticks)
    parts = [f'<path class="grid" d="{"".join(grid)}"/>']
    parts += [text_at(left + p * (right - left), 12, label + unit, "mid") for p, label in scale.ticks]
    if reference is not None:  # behind the bars, so that it runs through no word
        x = at(reference.value)
        kind = "start" if x < width / 2 else "end"
        parts.append(f'<path class="reference" d="M{num(x)} {num(top)}V{num(bottom + 14)}"/>')
        parts.append(
            text_at(x + (5 if kind == "start" else -5), bottom + 13, f"{reference.label} {reference.text}", kind)
        )
    parts.append(f'<g class="bars" font-size="{size}" stroke-width="{num(pitch * 0.6)}">')
    for row, (bar, name) in enumerate(zip(bars, names, strict=True)):
        middle = top + 2 + (row + 0.5) * pitch
        base = middle + size * 0.35
        hint = f"<title>{escape(bar.tooltip)}</title>" if tooltips else ""
        # A sliver for the smallest share: only what is empty looks empty.
        end = max(at(bar.value), left + 1.5)
        shape = f'<path d="M{num(left)} {num(middle)}H{num(end)}"/>'
        parts.append("<g>" if bar.value else '<g class="warn">')
        parts.append(f"{hint}{text_at(left - 6, base, name)}{text_at(width, base, bar.text)}")
        parts.append((shape if bar.value else text_at(left + 4, base, "empty", "start")) + "</g>")
    parts.append("</g>")
    return frame(width, bottom + 20, title, parts)


def _finite(value: float | None, log: bool) -> float | None:
    return None if value is None or not math.isfinite(value) or (log and value < 0) else value


def unbroken(points: Sequence[tuple[float, float | None]], log: bool) -> list[list[Point]]:
    """The stretches between gaps, by rising x; a zero on a logarithmic axis stands alone."""
    runs: list[list[Point]] = [[]]
    for x, y in sorted(points, key=lambda pair: pair[0]):
        if y is None:
            runs.append([])
        elif log and y == 0:
            runs += [[(x, y)], []]
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _marked(runs: list[list[Point]], shown: Shown) -> list[Point]:
    """The points that get a marker; one that stands alone always, since no line shows it."""
    if shown == "points":
        return [point for run in runs for point in run]
    if shown == "line":
        return [run[0] for run in runs if len(run) == 1]
    every = max(1, math.ceil(sum(map(len, runs)) / _MOST_MARKERS))
    return [point for run in runs for point in run[::every]]


def _tooltips(
    series: Sequence[Series], xs: Sequence[float], x_label: str, unit: str, names: Mapping[float, str]
) -> list[str]:
    found = [dict(one.points) for one in series]
    texts = []
    for x in xs:
        lines = [f"{x_label} {x:g}" + (f": {names[x]}" if x in names else "")]
        for one, values in zip(series, found, strict=True):
            if x in values:
                value = values[x]
                lines.append(f"{one.label}: " + ("no value" if value is None else f"{value:.4g}{unit}"))
        texts.append("\n".join(lines))
    return texts
