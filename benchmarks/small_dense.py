"""Is a small dense network of as many weights as good as a large sparse one? On MNIST, at depth 50 and 100.

    python benchmarks/small_dense.py [--workers 2]

Trains as `pruneinit reproduce edge-mnist` does: a fully connected network of width 100, sparse and orthogonal from the
start, and dense ones of the width that gives them as many weights, Gaussian and orthogonal (mirrored for ReLU) on the
Edge of Chaos. Results go to `results/small-dense/`, which a call that was stopped goes on with; the table to
`docs/edge.md`. Five minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from typing import Any

from documents import PROJECT, parse, put_table

from pruneinit.experiments.beside import side_by_side
from pruneinit.experiments.executors import processes
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.sweep import export, sweep
from pruneinit.paper import study
from pruneinit.paper.entries import Entry, entries

WIDTH, INPUTS, CLASSES = 100, 784, 10
PLACES = tuple(itertools.product(("relu", "tanh"), (50, 100), (0.9, 0.95, 0.98)))
WAYS = ("small, Gaussian", "small, orthogonal", "sparse orthogonal")
FOLDER = PROJECT / "results" / "small-dense"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    arguments, commit = parse(parser, places=("workers",))
    own = grid()
    results = sweep(own, FOLDER, executor=side_by_side(processes(arguments.workers), 8)).results
    export(FOLDER)
    found = {entry.row: entry for entry in entries(own, results)}
    rows = [
        [activation, str(depth), f"{100 * sparsity:g} %", str(small(depth, sparsity)),
         *(told(found[named(way, activation, depth, sparsity)]) for way in WAYS)]
        for activation, depth, sparsity in PLACES
    ]  # fmt: skip
    header = ("activation", "depth", "sparsity", "width of the small ones", *WAYS)
    note = "Test accuracy in percent, mean ± standard deviation over 3 seeds; as many weights in all three of a line."
    put_table("edge.md", header, rows, note, commit, "small dense")


def grid() -> Grid:
    """All networks, at the seeds and learning rates of `edge-mnist`."""
    model = study("edge-mnist").grid("small")
    rows: dict[str, Mapping[str, Any]] = {}
    for activation, depth, sparsity in PLACES:
        at = {"activation": activation, "depth": depth}
        dense = {**at, "width": small(depth, sparsity), "criterion": "none", "sparsity": 0.0}
        settings: tuple[Mapping[str, Any], ...] = (
            {**dense, "init": "edge"},
            {**dense, "init": "orthogonal", **({"mirrored": True} if activation == "relu" else {"sigma_b": 0.0})},
            {**at, "width": WIDTH, "init": "sparse_orthogonal", "criterion": "magnitude", "scope": "ends",
             "sparsity": sparsity},
        )  # fmt: skip
        rows |= {named(way, activation, depth, sparsity): one for way, one in zip(WAYS, settings, strict=True)}
    over = {"seed": [0, 1, 2], "training.lr": model.over["training.lr"]}
    return Grid("small-dense", {**model.recipe, "model": "mlp"}, rows, over, "training.lr")


def small(depth: int, sparsity: float) -> int:
    """The even width whose dense network has as many weights as the sparse one, or as nearly as can be."""
    kept = (1 - sparsity) * weights(WIDTH, depth)
    return min(range(2, WIDTH + 1, 2), key=lambda width: abs(weights(width, depth) - kept))


def weights(width: int, depth: int) -> int:
    """Of a fully connected network of one width."""
    return INPUTS * width + (depth - 2) * width * width + width * CLASSES


def named(way: str, activation: str, depth: int, sparsity: float) -> str:
    """The row of the grid."""
    return f"{way}, {activation}, {depth}, {100 * sparsity:g} %"


def told(entry: Entry) -> str:
    """Mean and standard deviation."""
    if entry.last is None:
        return "-"
    return f"{entry.last.mean:.1f} ± {entry.last.sd or 0.0:.1f}"


if __name__ == "__main__":
    main()
