"""The figures of the studies: lines over one axis, and maps over two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pruneinit.paper.entries import Entry
from pruneinit.paper.published import Reported
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.maps import map_chart, shades
from pruneinit.report.montage import montage

_WIDTH, _HEIGHT = 440, 280
_MAP_WIDTH, _MAP_ROW = 340, 30
_WIDE_MAP, _THIN_ROW, _ROW_NAMES, _WIDE_CELL = 1000, 22, 340, 115
_MIDDLE, _SPAN = 55.0, 45.0
_LAST = "test accuracy after the last epoch, %"
_Points = Sequence[tuple[float, float | None]]


def accuracy_lines(
    found: Sequence[Entry],
    reported: Sequence[Reported],
    *,
    title: str,
    axis: str,
    groups: Mapping[str, Sequence[str]],
    stands_for: Mapping[str, str] | None = None,
) -> str:
    """Test accuracy over an axis, a line for each row; what the paper reports stands beside it in a panel of its own.

    Args:
        found: The entries.
        reported: Numbers of the paper.
        title: What the figure shows.
        axis: What x is: `sparsity` or `depth`. A row that has one value there is a level line.
        groups: The rows of each panel, by its heading. Each data set and network has a line of panels.
        stands_for: Networks of a small grid, and those of the paper that they take the place of.
    """
    looks = {row: look for rows in reversed(list(groups.values())) for look, row in enumerate(rows)}
    lines = []
    for data, network in dict.fromkeys((entry.data, entry.network) for entry in found):
        here = [entry for entry in found if (entry.data, entry.network) == (data, network)]
        name = (stands_for or {}).get(network, network)
        places = sorted({float(entry.axes[axis]) for entry in here if _varies(here, entry, axis)})
        line = []
        for heading, rows in groups.items():
            mine = {row: [(float(e.axes[axis]), e.last.mean if e.last else None) for e in here if e.row == row]
                    for row in rows}  # fmt: skip
            told = ", ".join(part for part in (f"{network} on {data}", heading) if part)
            line.append((told, _panel(mine, dict(zip(rows, range(len(rows)), strict=True)), places, axis, told, _LAST)))
        paper: dict[str, list[tuple[float, float | None]]] = {}
        for one in reported:
            if (one.data, one.network, one.axis) == (data, name, axis):
                paper.setdefault(one.row, []).append((one.value, one.accuracy))
        told = f"{name} on {data}, as the paper reports"
        beside = looks | {row: len(looks) + i for i, row in enumerate(row for row in paper if row not in looks)}
        line.append((told, _panel(paper, beside, places, axis, told, "test accuracy, %")))
        lines.append([panel for panel in line if panel[1]])
    columns = max(map(len, lines), default=1)
    drawn = [panel for line in lines if line for panel in (*line, *[("", "")] * (columns - len(line)))]
    return montage(drawn, columns=columns, title=title)


def accuracy_maps(
    found: Sequence[Entry], *, title: str, x: str, y: str, lines: Mapping[str, Sequence[str]], by: str
) -> str:
    """Test accuracy as maps of two axes.

    Args:
        found: The entries.
        title: What the figure shows.
        x: The axis across.
        y: The axis upwards.
        lines: Rows of the grid whose maps stand side by side, by what they have in common.
        by: An axis: each of its values has these lines of maps.
    """
    columns = max(map(len, lines.values()))
    drawn = []
    for value in dict.fromkeys(entry.axes[by] for entry in found):
        for rows in lines.values():
            for row in rows:
                here = [entry for entry in found if entry.row == row and entry.axes[by] == value]
                drawn.append((f"{row}, {value}", _map(here, x, y, f"{row}, {value}")))
            drawn += [("", "")] * (columns - len(rows))
    head = shades(_LAST, _MIDDLE, _SPAN, columns * _MAP_WIDTH)
    return montage(drawn, columns=columns, title=title, head=head)


def row_maps(
    found: Sequence[Entry], *, title: str, places: Sequence[str], by: Sequence[str], columns: int | None = None
) -> str:
    """Test accuracy as maps with a line for each row of the grid and a column for each place.

    Rows and places of which nothing is measured yet are left out.

    Args:
        found: The entries.
        title: What the figure shows.
        places: The axes that make a place, the first of them changing last.
        by: Axes: each combination of their values has a map of its own, and those of the last stand side by side.
        columns: How many stand side by side at most; None is all.
    """
    lines: dict[tuple[object, ...], list[tuple[str, str]]] = {}
    measured = [entry for entry in found if entry.last is not None]
    for values in dict.fromkeys(tuple(entry.axes[axis] for axis in by) for entry in measured):
        here = [entry for entry in measured if tuple(entry.axes[axis] for axis in by) == values]
        told = ", ".join(map(str, values))
        lines.setdefault(values[:-1], []).append((told, _rows_map(here, places, told)))
    most = max(map(len, lines.values()))
    columns = min(columns or most, most)
    drawn = [panel for line in lines.values() for panel in (*line, *[("", "")] * (-len(line) % columns))]
    return montage(drawn, columns=columns, title=title, head=shades(_LAST, _MIDDLE, _SPAN, _WIDE_MAP))


def _panel(
    curves: Mapping[str, _Points], looks: Mapping[str, int], places: Sequence[float], axis: str, title: str, what: str
) -> str:
    """A line for each row; empty where none has a value at any place."""
    series = []
    for row, points in curves.items():
        level = len(points) == 1 and points[0][0] not in places and bool(places)
        shown = [(x, points[0][1]) for x in places] if level else points
        if any(y is not None for _, y in shown):
            series.append(Series(row, shown, "line" if level else "both", looks[row]))
    values = [y for one in series for _, y in one.points if y is not None]
    if not values:
        return ""
    ticks = sorted({x for one in series for x, _ in one.points})
    return line_chart(
        series, title=title, x_label=axis, y_label=what, limits=_limits(values),
        ticks=ticks, width=_WIDTH, height=_HEIGHT,
    )  # fmt: skip


def _map(here: Sequence[Entry], x: str, y: str, title: str) -> str:
    xs, ys = (sorted({entry.axes[axis] for entry in here}) for axis in (x, y))
    at = {(entry.axes[x], entry.axes[y]): entry.last.mean if entry.last else None for entry in here}
    values = [[at.get((left, low)) for left in xs] for low in ys]
    x_names, y_names = ([f"{value:g}" for value in axis] for axis in (xs, ys))
    return _cells(values, x_names, y_names, title=title, labels=(x, y), width=_MAP_WIDTH, row=_MAP_ROW)


def _rows_map(here: Sequence[Entry], places: Sequence[str], title: str) -> str:
    """A line for each row, the first above."""
    points = sorted({tuple(entry.axes[axis] for axis in places) for entry in here})
    rows = list(dict.fromkeys(entry.row or "" for entry in here))[::-1]
    at = {(entry.row or "", *(entry.axes[axis] for axis in places)): entry.last for entry in here}
    found = [[at.get((row, *point)) for point in points] for row in rows]
    values = [[None if one is None else one.mean for one in line] for line in found]
    x_names = [", ".join(f"{value:g}" for value in point) for point in points]
    width = min(_WIDE_MAP, _ROW_NAMES + _WIDE_CELL * len(points))
    return _cells(values, x_names, rows, title=title, labels=(", ".join(places), ""), width=width, row=_THIN_ROW)


def _cells(
    values: Sequence[Sequence[float | None]],
    x_names: Sequence[str],
    y_names: Sequence[str],
    *,
    title: str,
    labels: tuple[str, str],
    width: int,
    row: int,
) -> str:
    """Test accuracies as cells that are named by them, the lowest line first."""
    known = [(i, j, value) for j, line in enumerate(values) for i, value in enumerate(line) if value is not None]
    return map_chart(
        values,
        x=range(len(x_names)),
        y=range(len(y_names)),
        x_names=x_names,
        y_names=y_names,
        names=[(i, j, f"{value:.0f}") for i, j, value in known],
        title=title,
        x_label=labels[0],
        y_label=labels[1],
        value_label="test accuracy, %",
        center=_MIDDLE,
        span=_SPAN,
        key=False,
        width=width,
        height=row * len(y_names),
    )


def _varies(here: Sequence[Entry], entry: Entry, axis: str) -> bool:
    """Whether the entry's row has more than one value on the axis."""
    return len({one.axes[axis] for one in here if one.row == entry.row}) > 1


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Never closer than ten points: noise is not to look like a difference."""
    step = 10 if max(values) - min(values) <= 40 else 20
    low, high = step * math.floor(min(values) / step), step * math.ceil(max(values) / step)
    return float(low), float(max(high, low + step))
