"""Several drawings as one, side by side and below each other, each under a heading."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pruneinit.errors import InputError
from pruneinit.report.svg import frame, num, text_at

_GAP = 36
_HEADING = 24


def montage(
    drawings: Sequence[tuple[str, str]], *, columns: int, title: str, head: tuple[str, float] = ("", 0.0)
) -> str:
    """One `<svg>` of many.

    Args:
        drawings: Headings and drawings, as `line_chart`, `bar_chart` or `map_chart` return them, line by line. An empty
            drawing leaves its place free.
        columns: How many stand side by side.
        title: What the whole shows, for screen readers.
        head: What stands above all of them, and how high it is: a legend that they share.

    Raises:
        InputError: One of them is no such drawing.

    Example:
        >>> from pruneinit.report.charts import Bar, bar_chart
        >>> one = bar_chart([Bar("fc", 50, "50 %", "")], title="densities")
        >>> montage([("before", one), ("after", one)], columns=2, title="densities")[:27]
        '<svg viewBox="0 0 1836 ...'
    """
    sized = [(heading, *_opened(svg)) for heading, svg in drawings]
    width = max((wide for _, _, wide, _ in sized), default=0.0)
    parts, y = [head[0]], head[1]
    for start in range(0, len(sized), columns):
        line = sized[start : start + columns]
        y += _GAP / 2 if start or head[1] else 0
        for column, (heading, inner, _, _) in enumerate(line):
            x = column * (width + _GAP)
            parts.append(text_at(x, y + 14, heading, "head"))
            parts.append(f'<g transform="translate({num(x)} {num(y + _HEADING)})">{inner}</g>')
        y += _HEADING + max(high for _, _, _, high in line)
    beside = min(columns, max(len(sized), 1))
    return frame(beside * width + (beside - 1) * _GAP, y, title, parts)


def _opened(svg: str) -> tuple[str, float, float]:
    """What is inside of a drawing, its width and its height."""
    if not svg:
        return "", 0.0, 0.0
    opening = re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg)
    if not opening or not svg.endswith("</svg>"):
        raise InputError(f"expected a drawing from pruneinit.report, '<svg viewBox=...', got {svg[:40]!r}")
    return svg[opening.end() : -len("</svg>")], float(opening[1]), float(opening[2])
