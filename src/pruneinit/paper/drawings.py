"""The figures of the studies: lines over one axis, and maps over two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruneinit.paper.entries import Entry
from pruneinit.paper.published import Published
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.maps import map_chart, shades
from pruneinit.report.montage import montage

_WIDTH, _HEIGHT = 560, 300
_MIDDLE, _SPAN = 55.0, 45.0


def accuracy_lines(
    found: Sequence[Entry],
    reported: Sequence[Published],
    *,
    title: str,
    axis: str,
    groups: Mapping[str, Sequence[str]],
    stands_for: Mapping[str, str] | None = None,
) -> str:
    """Test accuracy over an axis, a line for each row; what the paper reports as marks alone in the same colour.

    Args:
        found: The entries.
        reported: Numbers of the paper.
        title: What the figure shows.
        axis: What x is: `sparsity` or `depth`. A row that has one value there is a level line.
        groups: The rows of each panel, by its heading; a panel of each data set and network.
        stands_for: Networks of a small grid, and those of the paper that they take the place of.
    """
    drawn = []
    for data, network in dict.fromkeys((entry.data, entry.network) for entry in found):
        here = [entry for entry in found if (entry.data, entry.network) == (data, network)]
        wanted = sorted({float(entry.axes[axis]) for entry in here if _varies(here, entry, axis)})
        paper = [
            one for one in reported if one.data == data and one.network == (stands_for or {}).get(network, network)
        ]
        for heading, rows in groups.items():
            series = []
            for look, row in enumerate(rows):
                mine = [entry for entry in here if entry.row == row]
                points: list[tuple[float, float | None]] = [
                    (float(entry.axes[axis]), entry.last.mean if entry.last else None) for entry in mine
                ]
                if len(points) == 1 and points[0][0] not in wanted:
                    points = [(x, points[0][1]) for x in wanted]
                if any(y is not None for _, y in points):
                    series.append(Series(row, points, "both" if len(mine) > 1 else "line", look))
                theirs = [(one.value, one.accuracy) for one in paper if one.row == row and one.value in wanted]
                if theirs:
                    series.append(Series(f"{row}, paper", theirs, "points", look))
            if series:
                chart = line_chart(
                    series, title=heading, x_label=axis, y_label="test accuracy after the last epoch, %",
                    whole=axis == "depth", width=_WIDTH, height=_HEIGHT,
                )  # fmt: skip
                drawn.append((", ".join(part for part in (f"{network} on {data}", heading) if part), chart))
    return montage(drawn, columns=2, title=title)


def accuracy_maps(found: Sequence[Entry], *, title: str, x: str, y: str, by: str) -> str:
    """Test accuracy as maps of two axes: a line of maps for each row, a column for each value of a third axis."""
    drawn = []
    for row in dict.fromkeys(entry.row for entry in found):
        for one in dict.fromkeys(entry.axes[by] for entry in found):
            here = [entry for entry in found if entry.row == row and entry.axes[by] == one]
            xs, ys = (sorted({entry.axes[axis] for entry in here}) for axis in (x, y))
            at = {(entry.axes[x], entry.axes[y]): entry.last.mean if entry.last else None for entry in here}
            values = [[at.get((left, low)) for left in xs] for low in ys]
            chart = map_chart(
                values,
                x=range(len(xs)),
                y=range(len(ys)),
                x_names=[f"{value:g}" for value in xs],
                y_names=[f"{value:g}" for value in ys],
                names=[
                    (i, j, f"{value:.0f}")
                    for j, line in enumerate(values)
                    for i, value in enumerate(line)
                    if value is not None
                ],
                title=f"{row}, {one}",
                x_label=x,
                y_label=y,
                value_label="test accuracy, %",
                center=_MIDDLE,
                span=_SPAN,
                key=False,
                width=_WIDTH,
                height=34 * len(ys),
            )
            drawn.append((f"{row}, {one}", chart))
    head = shades("test accuracy after the last epoch, %", _MIDDLE, _SPAN, 2 * _WIDTH)
    return montage(drawn, columns=2, title=title, head=head)


def _varies(here: Sequence[Entry], entry: Entry, axis: str) -> bool:
    """Whether the entry's row has more than one value on the axis."""
    return len({one.axes[axis] for one in here if one.row == entry.row}) > 1
