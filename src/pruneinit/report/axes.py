"""The frame that charts and maps are drawn in: where values lie in pixels, and the ticks and labels around them."""

from __future__ import annotations

from dataclasses import dataclass

from pruneinit.report.scale import Scale
from pruneinit.report.svg import Point, num, text_at, text_width


@dataclass(frozen=True)
class Plot:
    """The edges of a plot in pixels, and its two axes.

    Attributes:
        left: Left edge.
        right: Right edge.
        top: Upper edge.
        bottom: Where the lowest value of `up` lies.
        floor: Lower edge: below `bottom` where zeros of a logarithmic axis are drawn, else the same.
        across: The axis of x.
        up: The axis of y.
    """

    left: float
    right: float
    top: float
    bottom: float
    floor: float
    across: Scale
    up: Scale

    def x(self, value: float) -> float:
        """Where a value of x lies in pixels."""
        return self.left + self.across.place(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Where a value of y lies in pixels; on a logarithmic axis a zero lies on the floor."""
        if self.up.log and value == 0:
            return self.floor
        return self.bottom - self.up.place(value) * (self.bottom - self.top)

    def point(self, x: float, y: float) -> Point:
        """Where a pair of values lies in pixels."""
        return self.x(x), self.y(y)


def margin(up: Scale, unit: str = "") -> float:
    """How much room the tick labels of the y axis take on the left."""
    return max([text_width(label + unit) for _, label in up.ticks], default=0) + 18


def axes(plot: Plot, x_label: str, y_label: str, unit: str = "", grid: bool = True) -> str:
    """The ticks and labels around `plot`, and the lines of its grid; all of it is `plot.floor + 46` high."""
    rows = [(plot.bottom - place * (plot.bottom - plot.top), label + unit) for place, label in plot.up.ticks]
    rows += [(plot.floor, "0" + unit)] if plot.floor > plot.bottom else []
    columns = [(plot.left + place * (plot.right - plot.left), label) for place, label in plot.across.ticks]
    marks = "".join(f"M{num(x)} {num(plot.floor)}v5" for x, _ in columns)
    edge = f"M{num(plot.left)} {num(plot.floor)}H{num(plot.right)}"
    parts = []
    if grid:
        lines = "".join(f"M{num(plot.left)} {num(y)}H{num(plot.right)}" for y, _ in rows)
        parts.append(f'<path class="grid" d="{lines}"/>')
    else:
        marks += "".join(f"M{num(plot.left)} {num(y)}h-5" for y, _ in rows)
    parts.append(f'<path class="axis" d="{edge}{marks}"/>')
    parts += [text_at(plot.left - 8, y + 4, label, "end") for y, label in rows]
    parts += [text_at(x, plot.floor + 18, label, "mid") for x, label in columns]
    parts.append(text_at(0, plot.top - 12, y_label, "label"))
    parts.append(text_at((plot.left + plot.right) / 2, plot.floor + 38, x_label, "label mid"))
    return "".join(parts)
