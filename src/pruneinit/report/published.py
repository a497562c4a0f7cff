"""Numbers of papers, to stand beside the results that repeat them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pruneinit.report.collect import Line, Network, Point


@dataclass(frozen=True)
class Published:
    """A test accuracy that a paper gives.

    Attributes:
        study: The paper.
        row: The name of the row of the grid that repeats it, or of the line on the page.
        data: The data set, as recipes name it.
        network: The model as recipes name it (`"resnet32"`), or the network as the page does
            (`"mlp, depth 10, width 100"`).
        sparsity: The fraction removed.
        accuracy: A fraction.
        source: Where in the paper.
    """

    study: str
    row: str
    data: str
    network: str
    sparsity: float
    accuracy: float
    source: str


def beside(published: Iterable[Published], network: Network, line: Line, point: Point) -> list[Published]:
    """The published numbers that a point repeats; often none.

    Example:
        >>> from pruneinit.report.outcomes import Outcome
        >>> from pruneinit.report.collect import collect
        >>> recipe = {"data": "mnist", "model": "mlp", "criterion": "snip", "sparsity": 0.9, "training": {"lr": 0.1}}
        >>> (network,) = collect([Outcome("a", "SBP", recipe, "1", test_accuracy=0.95)])
        >>> line = network.lines[0]
        >>> paper = Published("A. Author", "SBP", "mnist", "mlp", 0.9, 0.96, "table 1")
        >>> beside([paper], network, line, line.points[0]) == [paper]
        True
    """
    return [
        one
        for one in published
        if one.row in (line.row, line.label)
        and one.data == network.data
        and one.network in (network.model, network.name)
        and math.isclose(one.sparsity, point.sparsity, rel_tol=0, abs_tol=1e-9)
    ]
