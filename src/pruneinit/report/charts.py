"""The two charts of the reports, as inline SVG: lines over an axis, and a bar for each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruneinit.report.scale import Scale, linear_scale, log_scale
from pruneinit.report.svg import (
    Point,
    bands,
    escape,
    fit,
    frame,
    legend,
    line,
    markers,
    num,
    text_at,
    text_width,
)

_MOST_MARKERS = 32
_MOST_TOOLTIPS = 120


@dataclass(frozen=True)
class Series:
    """A labelled line: pairs of x and y, with y None where there is no value."""

    label: str
    points: Sequence[tuple[float, float | None]]


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
    width: int = 900,
    height: int = 300,
    tooltips: bool = True,
) -> str:
    """Several lines over a whole-numbered x axis, as an `<svg>`.

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
        width: Width in CSS pixels.
        height: Height of the plot itself in CSS pixels; legend and labels come on top.
        tooltips: Whether pointing at an x shows the values there.

    Example:
        >>> moments = Series("dense", [(1, 1.0), (2, None), (3, 0.5)])
        >>> svg = line_chart([moments], title="Second moments", x_label="layer", y_label="q")
        >>> svg.startswith('<svg viewBox="0 0 900 ')
        True
    """
    series = [Series(s.label, [(x, _shown(y, log)) for x, y in s.points]) for s in series]
    values = [y for s in series for _, y in s.points if y is not None]
    xs = sorted({x for s in series for x, _ in s.points})
    zeros = log and 0 in values
    across = linear_scale(xs, about=10 if width > 600 else 5, whole=True)
    up = log_scale(values) if log else linear_scale(values, limits)

    key, top = legend([s.label for s in series], width)
    labels = [label + unit for _, label in up.ticks]
    left = max([text_width(label) for label in labels], default=0) + 10
    plot = _Plot(left + 8, width - 12.0, top + 26, top + 26 + height - (24 if zeros else 0), top + 26 + height)

    def point(x: float, y: float) -> Point:
        bottom = plot.floor if log and y == 0 else plot.bottom - up.place(y) * (plot.bottom - plot.top)
        return plot.left + across.place(x) * (plot.right - plot.left), bottom

    parts = [key, _axes(plot, across, up, unit, x_label, y_label, zeros)]
    for index, one in enumerate(series):
        runs = _unbroken(one.points, log)
        drawn = [[point(x, y) for x, y in run] for run in runs]
        parts += [line(index, drawn), markers(index, _marked(drawn))]
    if tooltips:
        chosen = xs[:: max(1, math.ceil(len(xs) / _MOST_TOOLTIPS))]
        places = [plot.left + across.place(x) * (plot.right - plot.left) for x in chosen]
        texts = _tooltips(series, chosen, x_label, unit, names or {})
        for text, (start, end) in zip(texts, bands(places, plot.left, plot.right), strict=False):
            box = f'x="{num(start)}" y="{num(plot.top)}" width="{num(end - start)}" height="{num(height)}"'
            parts.append(f'<rect class="hit" {box}><title>{escape(text)}</title></rect>')
    return frame(width, plot.floor + 46, title, parts)


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


@dataclass(frozen=True)
class _Plot:
    """The edges of the plot in pixels; `floor` is where zeros of a logarithmic axis are drawn, else the bottom."""

    left: float
    right: float
    top: float
    bottom: float
    floor: float


def _shown(value: float | None, log: bool) -> float | None:
    return None if value is None or not math.isfinite(value) or (log and value < 0) else value


def _axes(plot: _Plot, across: Scale, up: Scale, unit: str, x_label: str, y_label: str, zeros: bool) -> str:
    rows = [(plot.bottom - place * (plot.bottom - plot.top), label + unit) for place, label in up.ticks]
    rows += [(plot.floor, "0" + unit)] if zeros else []
    columns = [(plot.left + place * (plot.right - plot.left), label) for place, label in across.ticks]
    grid = "".join(f"M{num(plot.left)} {num(y)}H{num(plot.right)}" for y, _ in rows)
    ticks = "".join(f"M{num(x)} {num(plot.floor)}v5" for x, _ in columns)
    edge = f"M{num(plot.left)} {num(plot.floor)}H{num(plot.right)}"
    parts = [f'<path class="grid" d="{grid}"/><path class="axis" d="{edge}{ticks}"/>']
    parts += [text_at(plot.left - 8, y + 4, label, "end") for y, label in rows]
    parts += [text_at(x, plot.floor + 18, label, "mid") for x, label in columns]
    parts.append(text_at(0, plot.top - 12, y_label, "label"))
    parts.append(text_at((plot.left + plot.right) / 2, plot.floor + 38, x_label, "label mid"))
    return "".join(parts)


def _unbroken(points: Sequence[tuple[float, float | None]], log: bool) -> list[list[Point]]:
    """The stretches between gaps; a zero on a logarithmic axis stands alone."""
    runs: list[list[Point]] = [[]]
    for x, y in sorted(points, key=lambda pair: pair[0]):
        if y is None:
            runs.append([])
        elif log and y == 0:
            runs += [[(x, y)], []]
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _marked(runs: list[list[Point]]) -> list[Point]:
    """Every point while there are few, then some of each run; one that stands alone always."""
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
