"""A phase diagram as a drawing and as text: which part of the plane it covers, what is drawn, and what to say of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pruneinit.errors import InputError
from pruneinit.meanfield import (
    EdgePoint,
    NoEdgeOfChaos,
    PhaseDiagram,
    activation,
    edge_curve,
    edge_point,
    phase_diagram,
)
from pruneinit.report.charts import Series
from pruneinit.report.maps import map_chart

COARSE, FINE, TEXT = (41, 29), (121, 84), (61, 13)
"""Columns and rows: with tooltips, for print, and for the terminal."""
_WIDEST = 2.0  # σ_b up to here, where no larger one is asked for
_SPAN = 1.0  # |log χ| of the strongest shade: a factor e a layer
_SMALLEST = 2  # A region whose middle is no more cells than this from its border goes without a name.
_NAMES = {"ordered": "ordered phase", "chaotic": "chaotic phase", "diverges": "variance diverges"}
_SIGNS = {"ordered": "░", "chaotic": "▓", "diverges": " "}
_STABLE, _UNSTABLE = "●", "○"
_LEGEND = (
    [("░", "ordered: inputs become alike, gradients fade")],
    [("▓", "chaotic: inputs drift apart, gradients explode")],
    [("●", "Edge of Chaos"), ("○", "the same, but the variance is unstable")],
    [(" ", "blank: the variance grows without bound")],
)


def edge_points(name: str, sigma_bs: Sequence[float]) -> tuple[list[EdgePoint], list[str]]:
    """The point of the Edge of Chaos at each of `sigma_bs` (none: the activation's own), and why others have none.

    Raises:
        InputError: The activation is not known, or a sigma_b is negative or not finite.

    Example:
        >>> points, lacking = edge_points("relu", [0.0, 0.5])
        >>> [round(point.sigma_w, 3) for point in points], lacking[0][:44]
        ([1.414], 'relu is on the Edge of Chaos only at sigma_b')
    """
    points, lacking = [], []
    for sigma_b in sigma_bs or (None,):
        try:
            points.append(edge_point(name, sigma_b))
        except NoEdgeOfChaos as error:
            lacking.append(str(error))
    return points, lacking


def settling(point: EdgePoint) -> str:
    """In how many layers the variance comes closer to its fixed point by e.

    Example:
        >>> [settling(edge_points(name, [0.2])[0][0]) for name in ("tanh", "gelu")]
        ['1.6 layers', 'unstable']
    """
    if not point.stable:
        return "unstable"
    layers = point.variance_scale
    if not np.isfinite(layers):
        return "never"
    return f"{layers:,.0f} layers" if layers >= 10 else f"{layers:.2g} layers"


def diagram_of(name: str, points: Sequence[EdgePoint] = (), size: tuple[int, int] = COARSE) -> PhaseDiagram:
    """The phase diagram of a named activation over a part of the plane that shows its edge and all of `points`.

    Example:
        >>> diagram = diagram_of("tanh", size=(11, 7))
        >>> diagram.chi.shape, float(diagram.sigma_bs[-1])
        ((7, 11), 2.0)
    """
    furthest = max([_WIDEST, *(1.1 * point.sigma_b for point in points)])
    curve = edge_curve(name, np.linspace(0, furthest, 21))
    heights = [point.sigma_w for point in (*curve, *points)] or [0.9, 1.6]
    columns, rows = size
    return phase_diagram(
        name, np.linspace(0, furthest, columns), np.linspace(0.5 * min(heights), 1.25 * max(heights), rows)
    )


def phase_chart(
    diagram: PhaseDiagram,
    points: Sequence[EdgePoint] = (),
    *,
    width: int = 900,
    height: int = 420,
    tooltips: bool = True,
) -> str:
    """The logarithm of χ as colours over sigma_b and sigma_w, with the Edge of Chaos and the names of the phases.

    Args:
        diagram: What to draw.
        points: Points of the edge to mark.
        width: Width in CSS pixels.
        height: Height of the plot itself in CSS pixels.
        tooltips: As `map_chart`.

    Example:
        >>> svg = phase_chart(diagram_of("tanh"))
        >>> "ordered phase" in svg, "chaotic phase" in svg
        (True, True)
    """
    with np.errstate(divide="ignore"):
        colours = np.log(diagram.chi)
    return map_chart(
        colours.tolist(),
        x=diagram.sigma_bs.tolist(),
        y=diagram.sigma_ws.tolist(),
        curves=_curves(diagram, points),
        names=[(*place, text) for kind, text in _NAMES.items() if (place := _middle(diagram, kind))],
        title=f"Phase diagram of {diagram.activation}",
        x_label="bias scale σ_b",
        y_label="weight scale σ_w",
        value_label="log χ",
        span=_SPAN,
        width=width,
        height=height,
        tooltips=tooltips,
    )


def remarks(diagram: PhaseDiagram, lacking: Sequence[str] = ()) -> list[str]:
    """What a reader has to know about this diagram besides what all of them have in common."""
    name, found = diagram.activation, [f"{reason}." for reason in lacking]
    if activation(name).scale_free:
        found.append(
            f"{name} is scale-free: it is on the Edge of Chaos at the one marked point. With biases, σ_b above 0, the "
            "variance grows without bound from that σ_w on."
        )
        return found
    if (diagram.phase == "diverges").any():
        found.append("Where there is no colour, the variance, coming from 1, grows without bound: there is no χ.")
    unstable = [point for point in diagram.edge if not point.stable]
    stable = [point for point in diagram.edge if point.stable]
    if unstable:
        worst = max(abs(point.variance_slope) for point in unstable)
        steady = next((point for point in stable if point.sigma_b > unstable[-1].sigma_b), None)
        advice = f"; at σ_b = {steady.sigma_b:.3g} and above it is stable" if steady else ""
        found.append(
            f"Dashed: the variance leaves its fixed point, by a factor of up to {worst:.3g} a layer, and with it a "
            f"deep network leaves the edge{advice}."
        )
    return found


def phase_text(diagram: PhaseDiagram) -> list[str]:
    """The diagram in block characters, for a terminal, with axes and a legend: a line each.

    Raises:
        InputError: The diagram is too small for labels: fewer than 2 rows or 24 columns.

    Example:
        >>> lines = phase_text(diagram_of("tanh", size=TEXT))
        >>> len(lines) <= 20, max(map(len, lines)) <= 80
        (True, True)
    """
    rows, columns = diagram.chi.shape
    if rows < 2 or columns < 24:
        raise InputError(f"a text map needs 2 rows and 24 columns, got {rows} and {columns}")
    # The edge itself is marked below: a cell next to it takes the side of it that it is on.
    sides = np.where(diagram.phase == "edge", np.where(diagram.chi < 1, "ordered", "chaotic"), diagram.phase)
    signs = [[_SIGNS[side] for side in row] for row in sides]
    low, high = diagram.sigma_ws[[0, -1]]
    for point in diagram.edge:
        if low <= point.sigma_w <= high:
            row = int(np.abs(diagram.sigma_ws - point.sigma_w).argmin())
            column = int(np.abs(diagram.sigma_bs - point.sigma_b).argmin())
            signs[row][column] = _STABLE if point.stable else _UNSTABLE
    labels = [f"{value:.2f}" if i % 3 == 0 else "" for i, value in enumerate(diagram.sigma_ws)]
    left = max(map(len, labels))
    lines = [f"{label:>{left}} ┤{''.join(row)}" for label, row in zip(labels, signs, strict=True)][::-1]
    ends = diagram.sigma_bs[[0, columns // 2, -1]]
    ticks = f"{ends[0]:<{columns // 2}.3g}{ends[1]:<{columns - columns // 2 - 6}.3g}{ends[2]:>6.3g}"
    shown = {sign for row in signs for sign in row}
    legend = [
        "   ".join(f"{sign} {text}".lstrip() for sign, text in line if sign in shown)
        for line in _LEGEND
        if shown & {sign for sign, _ in line}
    ]
    return [f"{'σ_w':>{left}}", *lines, f"{'':{left}} └{'─' * columns}", f"{'':{left + 2}}{ticks} σ_b", *legend]


def _curves(diagram: PhaseDiagram, points: Sequence[EdgePoint]) -> list[Series]:
    """The edge, dashed where the variance is unstable, and the marked points."""
    curves = []
    for label, stable, look in (("Edge of Chaos, χ = 1", True, 0), ("Edge of Chaos, variance unstable", False, 1)):
        line: list[tuple[float, float | None]] = []
        for before, point in zip((None, *diagram.edge), diagram.edge, strict=False):
            if point.stable == stable:
                if before and not before.stable and stable:
                    line.append((before.sigma_b, before.sigma_w))  # so that the two lines meet
                line.append((point.sigma_b, point.sigma_w))
            elif line and line[-1][1] is not None:
                line.append((point.sigma_b, None))
        if len(line) > 1:
            curves.append(Series(label, line, "line", look))
    alone = list(diagram.edge) if not curves else []
    marked = [(point.sigma_b, point.sigma_w) for point in dict.fromkeys([*alone, *points])]
    if marked:
        (sigma_b, sigma_w), *more = marked
        label = "marked points" if more else f"σ_b = {sigma_b:.4g}, σ_w = {sigma_w:.4g}"
        curves.append(Series(f"Edge of Chaos, χ = 1: {label}" if alone else label, marked, "points", 0))
    return curves


def _middle(diagram: PhaseDiagram, kind: str) -> tuple[float, float] | None:
    """A place for the name of a phase, as far from its border as can be; None where it is too small for one."""
    inner: NDArray[np.bool_] = diagram.phase == kind
    depth = 0
    while (shrunk := _shrunk(inner)).any():
        inner, depth = shrunk, depth + 1
    if depth < _SMALLEST:
        return None
    rows, columns = np.nonzero(inner)
    i = len(rows) // 2
    return float(diagram.sigma_bs[columns[i]]), float(diagram.sigma_ws[rows[i]])


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells of `mask` that are surrounded by it."""
    wide = np.pad(mask, 1)
    return mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
