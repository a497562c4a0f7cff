"""`pruneinit edge`: Edge-of-Chaos points and phase diagrams."""

from __future__ import annotations

from jsonargparse import Namespace
from rich.text import Text

from pruneinit.flags import numbers
from pruneinit.meanfield import NAMED
from pruneinit.report import TEXT, check_page, diagram_of, edge_table, find_edges, phase_text, write_edges
from pruneinit.screen import open_console


def carry_out(settings: Namespace) -> None:
    """Print the points of the activations asked for, and draw their phase diagrams."""
    names = settings.activations or sorted(NAMED)
    if settings.out is not None:
        check_page(settings.out, len(names))  # before the work
    edges = find_edges(names, numbers("sigma_b", settings.sigma_b))
    page = None if settings.out is None else write_edges(edges, settings.out)
    console = open_console()
    console.print(edge_table(edges))
    for line in (line for one in edges for line in one.lacking):
        console.print(line, highlight=False)
    if page:
        console.print(f"written: {page}", soft_wrap=True, highlight=False)
    elif len(edges) == 1:
        (one,) = edges
        console.print(Text("\n".join(["", *phase_text(diagram_of(one.activation, one.points, TEXT))])))
