"""The page about the Edge of Chaos: a phase diagram of each activation, and what to do with the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pruneinit.errors import InputError
from pruneinit.files import write_text
from pruneinit.meanfield import EdgePoint, activation
from pruneinit.report.figures import NARROW, WIDE, Figure
from pruneinit.report.page import write_page
from pruneinit.report.phases import FINE, diagram_of, edge_points, phase_chart, remarks, settling
from pruneinit.report.standalone import standalone

_FEW = 4  # Activations on a page with tooltips, which make up most of its size.
_TABLE = (0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Edges:
    """What was found of the Edge of Chaos of one activation.

    Attributes:
        activation: Its name.
        points: The points asked for, in that order.
        lacking: Why others of them do not exist.
    """

    activation: str
    points: tuple[EdgePoint, ...]
    lacking: tuple[str, ...]


def find_edges(names: Sequence[str], sigma_bs: Sequence[float]) -> list[Edges]:
    """The points of the Edge of Chaos of each activation at each of `sigma_bs`, none being the activation's own.

    Raises:
        InputError: An activation is not known, a sigma_b is negative or not finite, or the only activation has no edge
            at any of them.

    Example:
        >>> [(one.activation, len(one.points)) for one in find_edges(["tanh", "softplus"], [])]
        [('tanh', 1), ('softplus', 0)]
    """
    found = []
    known = dict.fromkeys(activation(name).name for name in names)
    for name in known:
        points, lacking = edge_points(name, sigma_bs)
        if not points and len(known) == 1:
            raise InputError(lacking[0])
        found.append(Edges(name, tuple(points), tuple(lacking)))
    return found


def check_page(out: str | Path, activations: int) -> None:
    """Refuse a file that `write_edges` could not write, before the work.

    Raises:
        InputError: `out` is a folder, ends in neither .html nor .svg, or is one drawing for several activations.
    """
    file = Path(out)
    if file.is_dir():
        raise InputError(f"cannot write {file}: it is a folder; give the name of a file in it")
    if file.suffix.lower() not in (".html", ".svg"):
        raise InputError(f"out must end in .html (a page) or .svg (a drawing), got {str(out)!r}")
    if file.suffix.lower() == ".svg" and activations != 1:
        raise InputError(f"{file} would hold one drawing: name one activation, or give a file that ends in .html")


def write_edges(edges: Sequence[Edges], out: str | Path) -> Path:
    """Write the phase diagrams of `edges`: a page in one file, or for `.svg` the drawing alone.

    Args:
        edges: What `find_edges` returned.
        out: The file to write, `.html` or `.svg`.

    Returns:
        The path of the file.

    Raises:
        InputError: As `check_page`, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> write_edges(find_edges(["relu"], []), Path(tempfile.mkdtemp()) / "relu.html").name
        'relu.html'
    """
    check_page(out, len(edges))
    file = Path(out)
    if file.suffix.lower() == ".svg":
        (one,) = edges
        drawing = phase_chart(diagram_of(one.activation, one.points, FINE), one.points, tooltips=False)
        write_text(file, standalone(drawing))
        return file
    names = [one.activation for one in edges]
    several = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) <= _FEW else f"{len(names)} activations"
    return write_page(
        file,
        "edge.html",
        title=f"The Edge of Chaos of {names[0] if len(names) == 1 else several}",
        sections=[(one.activation, _figure(one, len(edges) <= _FEW), _table(one)) for one in edges],
        example=_example(edges),
    )


def _example(edges: Sequence[Edges]) -> tuple[str, EdgePoint] | None:
    """The first point at which to start a network: one asked for, or that of the activation if those are unstable."""
    asked = [(one.activation, point) for one in edges for point in one.points if point.stable]
    own = [(one.activation, point) for one in edges if not asked for point in edge_points(one.activation, [])[0]]
    chosen = asked or own
    return chosen[0] if chosen else None


def _figure(one: Edges, tooltips: bool) -> Figure:
    diagram = diagram_of(one.activation, one.points)
    return Figure(
        one.activation,
        "",
        phase_chart(diagram, one.points, width=WIDE, tooltips=tooltips),
        phase_chart(diagram, one.points, width=NARROW, height=300, tooltips=False),
        " ".join(remarks(diagram, one.lacking)),
    )


def _table(one: Edges) -> list[tuple[EdgePoint, bool, str]]:
    """Points across the diagram, whether each is one of those asked for, and how soon the variance settles there."""
    around, _ = edge_points(one.activation, _TABLE)
    asked = {point.sigma_b for point in one.points}
    return [(point, point.sigma_b in asked, settling(point)) for point in sorted({*one.points, *around})]
