"""A drawing as a file of its own, for places that show pictures and no pages: Markdown, slides, papers."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pruneinit.errors import InputError

_MARGIN = 16
_FONT = '"Helvetica Neue", Helvetica, Arial, "DejaVu Sans", sans-serif'


def standalone(svg: str) -> str:
    """A drawing with its own style and a light ground, as the text of an `.svg` file.

    Args:
        svg: What `line_chart`, `bar_chart` or `map_chart` returned.

    Raises:
        InputError: `svg` is no such drawing.

    Example:
        >>> from pruneinit.report.charts import Bar, bar_chart
        >>> standalone(bar_chart([Bar("fc", 50, "50 %", "")], title="densities"))[:58]
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 -16 9'
    """
    opening = re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)" width="[\d.]+" height="[\d.]+"', svg)
    if not opening:
        raise InputError(f"expected a drawing from pruneinit.report, '<svg viewBox=...', got {svg[:40]!r}")
    width, height = (float(side) + 2 * _MARGIN for side in opening.groups())
    style, ground = _style()
    box = f'x="{-_MARGIN}" y="{-_MARGIN}" width="{width:g}" height="{height:g}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-_MARGIN} {-_MARGIN} {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}"'
    )
    attributes, rest = svg[opening.end() :].split(">", 1)
    return f'{head}{attributes}><style>{style}</style><rect {box} fill="{ground}"/>{rest}\n'


@cache
def _style() -> tuple[str, str]:
    """The rules of the reports' drawings with their light colours written out, and the colour of the ground.

    Written out, since not every program that shows an SVG knows variables.
    """
    sheet = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", sheet.split("@media", 1)[0]))
    rules = [line for line in sheet.splitlines() if line.startswith("svg ") and ":hover" not in line]
    style = re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found.group(1)], "\n".join(rules))
    return f"{style}\nsvg {{ font-family: {_FONT}; }}", colours["ground"]
