"""How much faster small networks train side by side than one by one, on cells of the grid of figure 2.

    python benchmarks/side_by_side.py                 # about a quarter of an hour on a quiet core
    python benchmarks/side_by_side.py --images 6400   # shorter trainings

For each depth and activation one bundle of cells is drawn from `pruneinit reproduce ffnn-grid` and carried out both
ways, with everything that a cell is: preparing, pruning, training, evaluating.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from documents import parse, put_table, write_results
from measure import figure, judge

from pruneinit.experiments.beside import Bundle, bundles, run_together
from pruneinit.experiments.cell import Result, run_one
from pruneinit.experiments.grid import Cell
from pruneinit.paper import study

FASTER = 5  # times the cells a minute, at least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=None, help="to learn from; as in the grid if not given")
    parser.add_argument("--beside", type=int, default=8)
    arguments, commit = parse(parser)
    torch.set_num_threads(1)
    drawn = random.Random(0)
    groups: dict[tuple[Any, ...], list[Bundle]] = {}
    for bundle in bundles(study("ffnn-grid").grid("small").cells(), arguments.beside):
        if isinstance(bundle, Bundle):
            groups.setdefault((bundle.recipe.depth, bundle.recipe.activation), []).append(bundle)
    chosen = [drawn.choice(group) for group in groups.values()]
    cells = [[_shortened(cell, arguments.images) for cell in bundle.cells] for bundle in chosen]
    run_together(cells[0][:2])  # reads the data, imports what is imported late
    found = [compared(own) for own in cells]
    together, alone = (sum(one[way] for one in found) for way in ("together, s", "alone, s"))
    figures = [figure("time side by side / time one by one", together / alone, "x", 1 / FASTER)]
    rows = judge(figures)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, 1 thread"
    write_results("side_by_side", {"machine": machine, "bundles": found, "figures": figures}, commit)
    header = ("network", "cells", "one by one", "side by side", "faster", "accuracies differ by, points (median, most)")
    put_table("sweeps.md", header, [row(one) for one in found], f"Machine: {machine}.", commit, "beside")
    print(*rows, sep="\n")


def compared(cells: list[Cell]) -> dict[str, Any]:
    """Seconds of both ways, and how far their results differ."""
    seconds: list[float] = []
    results: list[list[Result]] = []
    for together in (True, False):
        start = time.perf_counter()
        results.append(run_together(cells) if together else [run_one(cell.recipe, row=cell.row) for cell in cells])
        seconds.append(time.perf_counter() - start)
    apart = [100 * abs((a.test_accuracy or 0.0) - (b.test_accuracy or 0.0)) for a, b in zip(*results, strict=True)]
    same = all(a.survivors == b.survivors and a.diverged == b.diverged for a, b in zip(*results, strict=True))
    recipe = cells[0].recipe
    found = {
        "depth": recipe.depth, "activation": recipe.activation, "cells": [str(cell) for cell in cells],
        "together, s": seconds[0], "alone, s": seconds[1], "same survivors and divergences": same,
        "apart": apart, "beside": [result.beside for result in results[0]],
        "accuracies": [[result.test_accuracy for result in way] for way in results],
    }  # fmt: skip
    print(f"{recipe.activation}, depth {recipe.depth}: {seconds[1] / seconds[0]:.1f} times faster, ", end="")
    print(
        f"accuracies differ by {statistics.median(apart):.2f} points, at most {max(apart):.2f}; same: {same}",
        flush=True,
    )
    return found


def row(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['activation']}, depth {found['depth']}",
        str(len(found["cells"])),
        f"{found['alone, s']:.0f} s",
        f"{found['together, s']:.0f} s",
        f"{found['alone, s'] / found['together, s']:.1f} times",
        f"{statistics.median(found['apart']):.2f}, {max(found['apart']):.2f}",
    ]


def _shortened(cell: Cell, images: int | None) -> Cell:
    return cell if images is None else replace(cell, recipe=replace(cell.recipe, train_images=images))


if __name__ == "__main__":
    main()
