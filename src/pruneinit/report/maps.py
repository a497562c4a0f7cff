"""A map as inline SVG: a grid of values as coloured cells, with curves over it, as phase diagrams are drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise

from pruneinit.errors import InputError
from pruneinit.report.axes import Plot, axes, margin
from pruneinit.report.charts import Series, keys
from pruneinit.report.scale import linear_scale, named
from pruneinit.report.svg import Point, escape, fit, frame, legend, num, strokes, text_at, text_width

LEVELS = 8
"""Shades on each side of the centre."""
_MOST_TOOLTIPS = 1200
_NAME_FONT = 13.5


def map_chart(
    values: Sequence[Sequence[float | None]],
    *,
    x: Sequence[float],
    y: Sequence[float],
    curves: Sequence[Series] = (),
    names: Sequence[tuple[float, float, str]] = (),
    title: str,
    x_label: str,
    y_label: str,
    value_label: str,
    center: float = 0.0,
    span: float | None = None,
    width: int = 900,
    height: int = 420,
    tooltips: bool = True,
    key: bool = True,
    x_names: Sequence[str] = (),
    y_names: Sequence[str] = (),
) -> str:
    """A grid of values as coloured cells, and curves in the same axes, as an `<svg>`.

    Two colours: one below `center` and one from there on, the stronger the farther away, in eight shades each. A value
    that is None or not a number leaves its cell empty; an infinite one gets the strongest shade. What a curve has
    outside of the cells is cut off.

    Args:
        values: Rows of values [rows, columns], the lowest row first.
        x: The middle of each column, rising.
        y: The middle of each row, rising.
        curves: Lines or points over the cells, in ink; they differ in dash and marker.
        names: What to write over the cells: x and y of the middle of each text, and the text.
        title: What the figure shows, for screen readers.
        x_label: What x is.
        y_label: What y is.
        value_label: What the values are.
        center: The value between the two colours.
        span: The distance from `center` with the strongest shade; None is the largest there is.
        width: Width in CSS pixels.
        height: Height of the plot itself in CSS pixels; legends and labels come on top.
        tooltips: Whether pointing at a cell shows its value; with more than 1200 cells it does not.
        key: Whether the colours are explained above; `shades` draws the same for several maps.
        x_names: What to call each column, instead of numbers along the axis.
        y_names: The same for each row, the lowest first.

    Raises:
        InputError: `values` has not as many rows as y and columns as x, or these do not rise, or not as many names.

    Example:
        >>> line = Series("χ = 1", [(0.0, 1.0), (1.0, 1.2)])
        >>> svg = map_chart([[-1, 0], [1, None]], x=[0, 1], y=[1, 2], curves=[line], title="Phases", x_label="σ_b",
        ...                 y_label="σ_w", value_label="log χ")
        >>> svg.startswith('<svg viewBox="0 0 900 ')
        True
    """
    columns, rows = _edges("x", x), _edges("y", y)
    if len(values) != len(y) or any(len(row) != len(x) for row in values):
        shape = f"{len(values)} rows of {sorted({len(row) for row in values})}"
        raise InputError(f"values must be {len(y)} rows of {len(x)}, one for each of y and x, got {shape}")
    for axis, middles, called in (("x_names", x, x_names), ("y_names", y, y_names)):
        if called and len(called) != len(middles):
            raise InputError(f"{axis} must be {len(middles)} names, one for each cell, got {len(called)}")
    known = [abs(v - center) for row in values for v in row if v is not None and math.isfinite(v)]
    far = span or max(known, default=0.0) or 1.0

    colours, bottom = shades(value_label, center, far, width) if key else ("", 0.0)
    entries, low = legend(keys(curves), width) if curves else ("", 0.0)
    top = bottom + low + 24
    up = linear_scale(rows, about=6)
    up = named(up, y, y_names) if y_names else up
    across = linear_scale(columns, about=10 if width > 600 else 5)
    across = named(across, x, x_names) if x_names else across
    plot = Plot(margin(up), width - 12.0, top, top + height, top + height, across, up)
    xs, ys = list(map(plot.x, columns)), list(map(plot.y, rows))

    parts = [colours, f'<g class="curves" transform="translate(0 {num(bottom)})">{entries}</g>']
    parts += [_cells(values, xs, ys, center, far), axes(plot, x_label, y_label, grid=False)]
    parts.append(f'<g class="curves">{"".join(_curve(one, entry, plot) for one, entry in _keyed(curves))}</g>')
    parts += [_name(at_x, at_y, text, plot) for at_x, at_y, text in names]
    if tooltips and len(x) * len(y) <= _MOST_TOOLTIPS:
        called_x, called_y = x_names or [f"{at:.4g}" for at in x], y_names or [f"{at:.4g}" for at in y]
        for row, at_y, (low_y, high_y) in zip(values, called_y, pairwise(ys), strict=True):
            for value, at_x, (left, right) in zip(row, called_x, pairwise(xs), strict=True):
                shown = "no value" if value is None or math.isnan(value) else f"{value:.4g}"
                text = f"{x_label} {at_x}, {y_label} {at_y}\n{value_label}: {shown}"
                box = f'x="{num(left)}" y="{num(high_y)}" width="{num(right - left)}" height="{num(low_y - high_y)}"'
                parts.append(f'<rect class="hit" {box}><title>{escape(text)}</title></rect>')
    return frame(width, plot.floor + 46, title, parts)


def _edges(name: str, middles: Sequence[float]) -> list[float]:
    """The edges of cells whose middles are given: halfway between them, and as far again at both ends."""
    if not middles or any(a >= b for a, b in pairwise(middles)):
        raise InputError(f"{name} must be rising numbers, one for each cell, got {list(middles)[:4]}")
    between = [(a + b) / 2 for a, b in pairwise(middles)]
    if not between:
        return [middles[0] - 0.5, middles[0] + 0.5]
    return [2 * middles[0] - between[0], *between, 2 * middles[-1] - between[-1]]


def _level(value: float | None, center: float, far: float) -> int:
    """The signed shade of a value; 0 for none. The centre itself counts as above, or it would look like no value."""
    if value is None or math.isnan(value):
        return 0
    distance = min(abs(value - center) / far, 1.0)
    level = min(int(distance * LEVELS) + 1, LEVELS)
    return level if value >= center else -level


def _kind(level: int) -> str:
    return f"cell {'above' if level > 0 else 'below'} s{abs(level)}"


def _cells(
    values: Sequence[Sequence[float | None]], xs: list[float], ys: list[float], center: float, far: float
) -> str:
    """One path for each shade, in which neighbours of a row are one rectangle: a fine grid stays a small drawing."""
    shapes: dict[int, list[str]] = defaultdict(list)
    for row, (low, high) in zip(values, pairwise(ys), strict=True):
        levels = [_level(value, center, far) for value in row]
        start = 0
        for level, same in groupby(levels):
            end = start + len(list(same))
            shapes[level].append(f"M{num(xs[start])} {num(low)}V{num(high)}H{num(xs[end])}V{num(low)}z")
            start = end
    return "".join(f'<path class="{_kind(k)}" d="{"".join(shapes[k])}"/>' for k in sorted(shapes) if k)


def shades(label: str, center: float, far: float, width: float) -> tuple[str, float]:
    """The legend of the colours with the values at its ends and middle; also how high it is.

    Args:
        label: What the values are.
        center: The value between the two colours.
        far: The distance from it with the strongest shade.
        width: How much room there is.

    Example:
        >>> shades("log χ", 0.0, 1.0, 600)[1]
        36.0
    """
    levels = [k for k in range(-LEVELS, LEVELS + 1) if k]
    low, middle, high = (f"{value:.3g}" for value in (center - far, center, center + far))
    box = 15 if width > 600 else 10
    text = fit(label, width - 2 * LEVELS * box - text_width(low) - text_width(high) - 40)
    left = text_width(text) + 14 + text_width(low) / 2
    boxes = (f'<path class="{_kind(k)}" d="M{num(left + i * box)} 4h{box}v12h-{box}z"/>' for i, k in enumerate(levels))
    ends = ((left, low), (left + LEVELS * box, middle), (left + 2 * LEVELS * box, high))
    ticks = (text_at(x, 30, shown, "mid") for x, shown in ends)
    return text_at(2, 14, text, "key") + "".join(boxes) + "".join(ticks), 36.0


def _keyed(curves: Sequence[Series]) -> list[tuple[Series, int]]:
    return [(one, look) for one, (_, look, _) in zip(curves, keys(curves), strict=True)]


def _curve(one: Series, look: int, plot: Plot) -> str:
    runs: list[list[Point]] = [[]]
    inside = []
    points = [(x, y) if y is not None and math.isfinite(y) else None for x, y in one.points]
    for before, point in zip([None, *points], points, strict=False):
        if point is None:
            runs.append([])
            continue
        if _within(point, plot):
            inside.append(plot.point(*point))
        cut = None if before is None else _clip(before, point, plot)
        if cut is not None:
            start, end = (plot.point(*corner) for corner in cut)
            if not runs[-1] or runs[-1][-1] != start:
                runs.append([start])
            runs[-1].append(end)
    return strokes(look, one.shown, [run for run in runs if run], inside if one.shown != "line" else [])


def _name(x: float, y: float, text: str, plot: Plot) -> str:
    """A text over the map, moved inwards where it would reach out of it."""
    shown = fit(text, plot.right - plot.left - 4, _NAME_FONT)
    half = text_width(shown, _NAME_FONT) / 2 + 2
    return text_at(min(max(plot.x(x), plot.left + half), plot.right - half), plot.y(y) + 4, shown, "name")


def _within(point: Point, plot: Plot) -> bool:
    x, y = point
    return plot.across.low <= x <= plot.across.high and plot.up.low <= y <= plot.up.high


def _clip(start: Point, end: Point, plot: Plot) -> tuple[Point, Point] | None:
    """The part of a segment inside the axes (Liang and Barsky's algorithm); None if there is none."""
    (x0, y0), (x1, y1) = start, end
    first, last = 0.0, 1.0
    for step, room in (
        (x0 - x1, x0 - plot.across.low),
        (x1 - x0, plot.across.high - x0),
        (y0 - y1, y0 - plot.up.low),
        (y1 - y0, plot.up.high - y0),
    ):
        if step == 0:
            if room < 0:
                return None
        elif step < 0:
            first = max(first, room / step)
        else:
            last = min(last, room / step)
    if first > last:
        return None

    def at(t: float) -> Point:
        return end if t == 1 else (x0 + t * (x1 - x0), y0 + t * (y1 - y0))

    return at(first), at(last)
