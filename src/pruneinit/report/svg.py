"""Small pieces of SVG as text: escaping, numbers, text widths, markers and the look of the n-th series.

Colours and fonts are in style.css: an inline SVG takes them from the page, in light and in dark.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

COLORS = 6
FONT = 12
_DASHES = ("", "7 4", "2 4", "10 4 2 4")
# Each drawn from the point where the path stands, about 7 units across.
_MARKERS = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.7l3.4 6.2h-6.8z",
    "m0-4l4 4l-4 4l-4-4z",
    "m-3.5-1h2.5v-2.5h2v2.5h2.5v2h-2.5v2.5h-2v-2.5h-2.5z",
)

Point = tuple[float, float]
Shown = Literal["both", "line", "points"]


def escape(text: str) -> str:
    """`text` fit for XML text and attributes; characters that XML cannot hold become a question mark.

    Example:
        >>> escape('<script>"x"')
        '&lt;script&gt;&quot;x&quot;'
    """
    return html.escape("".join(c if _allowed(c) else "?" for c in text))


def fit(text: str, width: float, size: float = FONT) -> str:
    """`text`, or as much of its end as `width` units hold: the end of a layer's name tells it from others.

    Example:
        >>> fit("features.layer1.0.conv1", 80)
        '…r1.0.conv1'
    """
    if text_width(text, size) <= width:
        return text
    while text and text_width("…" + text, size) > width:
        text = text[1:]
    return "…" + text


def text_width(text: str, size: float = FONT) -> float:
    """About how wide `text` is; on the generous side, since the reader's font is not known.

    Example:
        >>> text_width("mm") > text_width("nn") > text_width("ii")
        True
    """
    return sum(_width(c) for c in text) * size


def num(value: float) -> str:
    """A coordinate to a tenth of a unit.

    Example:
        >>> num(12.0), num(3.14159), num(-0.01)
        ('12', '3.1', '0')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def text_at(x: float, y: float, text: str, kind: str = "") -> str:
    """A `<text>`; `kind` is its class, which decides how it is anchored and coloured."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{num(x)}" y="{num(y)}"{attribute}>{escape(text)}</text>'


def frame(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """The `<svg>` around `parts`; `title` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {num(width)} {num(height)}" width="{num(width)}" height="{num(height)}" '
        f'role="img" aria-label="{escape(title)}">' + "".join(parts) + "</svg>"
    )


def line(index: int, runs: Iterable[list[Point]]) -> str:
    """The line of series `index`: a stretch for each unbroken run of points."""
    stretches = ("M" + "L".join(f"{num(x)} {num(y)}" for x, y in run) for run in runs if len(run) > 1)
    dash = _DASHES[index % len(_DASHES)]
    attribute = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path class="line c{index % COLORS}"{attribute} d="{"".join(stretches)}"/>'


def markers(index: int, points: Iterable[Point]) -> str:
    """The markers of series `index`, all in one path."""
    shape = _MARKERS[index % len(_MARKERS)]
    return f'<path class="mark c{index % COLORS}" d="{"".join(f"M{num(x)} {num(y)}{shape}" for x, y in points)}"/>'


def strokes(look: int, shown: Shown, runs: list[list[Point]], marked: Iterable[Point]) -> str:
    """A series as it is to be shown: its line, markers at the `marked` ones of its points, or both."""
    found = list(marked)
    return ("" if shown == "points" else line(look, runs)) + (markers(look, found) if found else "")


def legend(entries: Iterable[tuple[str, int, Shown]], width: float) -> tuple[str, float]:
    """A sample and the label of each series, in rows from the top; also how high they are together.

    Args:
        entries: The label of each series, its look, and how it is shown.
        width: How wide a row may be.
    """
    parts, x, y = [], 2.0, 10.0
    for label, look, shown in entries:
        text = fit(label, width - 44)
        needed = 38 + text_width(text) + 20
        if x > 2 and x + needed > width:
            x, y = 2.0, y + 20
        parts.append(strokes(look, shown, [[(x, y), (x + 30, y)]], [] if shown == "line" else [(x + 15, y)]))
        parts.append(text_at(x + 38, y + 4, text, "key"))
        x += needed
    return "".join(parts), y + 16


def bands(places: list[float], low: float, high: float) -> list[tuple[float, float]]:
    """The stretch of [low, high] nearest to each of the sorted `places`: where the pointer finds its tooltip."""
    edges = [low, *((a + b) / 2 for a, b in pairwise(places)), high]
    return list(pairwise(edges))


def _width(character: str) -> float:
    """In units of the font's size, after the metrics of a wide sans-serif (DejaVu Sans)."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in "ijlI.,:;|!'()[] ftr-":
        return 0.38
    return 0.98 if character in "mwMW@%—" else 0.72 if character.isupper() else 0.63


def _allowed(character: str) -> bool:
    """XML 1.0 holds neither control characters nor halves of surrogate pairs."""
    return character in "\t\n\r" or (
        unicodedata.category(character) not in ("Cc", "Cs") and ord(character) & ~1 != 0xFFFE
    )
