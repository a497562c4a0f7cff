"""How much faster small networks train side by side than one by one, on cells of the grid of figure 2.

    python benchmarks/side_by_side.py                 # about a quarter of an hour on a quiet core
    python benchmarks/side_by_side.py --images 6400   # shorter trainings

For each depth and activation one bundle of cells is drawn from `pruneinit reproduce ffnn-grid` and carried out both
ways on one core, with everything that a cell is: preparing, pruning, training, evaluating. Then all of them together on
all cores: one cell after the other with a thread for each core, and as `reproduce` does it, a process for each core
with bundles. The floor is the time of the products of training and evaluation at the speed of one large product: no way
of batching them can be faster, but by leaving out the products with zeros. Pruning is not in it.

Sums in another order are rounded otherwise, and some of these trainings make points of accuracy of that. What rounding
alone does is measured beside it: each cell is trained once more, one by one, with its starting weights a rounding off.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from documents import parse, put_table, write_results
from measure import figure, judge, timed

from pruneinit.experiments.beside import Bundle, bundles, run_together, side_by_side
from pruneinit.experiments.cell import Result, learnt, run_one
from pruneinit.experiments.executors import Executor, cores, processes, serial
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.prepare import ready
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.work import Work
from pruneinit.paper import study
from pruneinit.train import train

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
    list(run_together(cells[0][:2]))  # reads the data, imports what is imported late
    speed = matmul_speed()
    found = [compared(own, speed) for own in cells]
    together, alone = (sum(one[way] for one in found) for way in ("together, s", "alone, s"))
    every = [cell for own in cells for cell in own]
    in_turn = seconds_of(serial(cores()), every)
    bundled = seconds_of(side_by_side(processes(cores()), arguments.beside), every)
    figures = [
        figure("one core: time side by side / time one by one", together / alone, "x", 1 / FASTER),
        figure(f"{cores()} cores: time of processes with bundles / time one by one", bundled / in_turn, "x", 1 / FASTER,
               in_turn=in_turn, bundled=bundled),
    ]  # fmt: skip
    rows = judge(figures)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    kept = {"machine": machine, "products, GFLOP/s": speed / 1e9, "bundles": found, "figures": figures}
    write_results("side_by_side", kept, commit)
    header = ("network", "sparsities", "one by one", "side by side", "faster", "floor of the products",
              "accuracies differ by, points (median, most)", "by one rounding of the weights")  # fmt: skip
    note = f"Eight cells each, one thread. Machine: {machine}, {speed / 1e9:.0f} GFLOP/s in one large product."
    put_table("sweeps.md", header, [row(one) for one in found], note, commit, "beside")
    put_table("sweeps.md", ("figure", "measured", "at most", "met"), rows, note, commit, "beside figures")


def matmul_speed(size: int = 2048, repeats: int = 5) -> float:
    """Operations a second, a multiplication and an addition being two, of a float32 product of large matrices."""
    a, b = torch.randn(2, size, size)
    return 2.0 * size**3 / min(timed(lambda: a @ b) for _ in range(repeats + 1))


def floor(cells: Sequence[Cell], speed: float) -> float:
    """Seconds that the products of training and evaluating these cells take if no zero is left out."""
    recipe = cells[0].recipe
    width, inner = recipe.width or 100, (recipe.depth or 3) - 2
    forward = 784 * width + inner * width * width + width * 10
    # Back to weights and to inputs too; nothing goes back to the images.
    both_ways = 3 * forward - 784 * width
    held_out = round(recipe.validation * 60_000) + 10_000
    weights = (recipe.train_images or 60_000) * both_ways + held_out * forward
    return len(cells) * recipe.training.epochs * 2 * weights / speed


def seconds_of(executor: Executor, cells: Sequence[Cell]) -> float:
    """How long an executor takes for all cells, with its start."""
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder))
        return timed(lambda: list(executor(cells, work)))


def compared(cells: list[Cell], speed: float) -> dict[str, Any]:
    """Seconds of both ways, and how far their results differ."""
    seconds: list[float] = []
    results: list[list[Result]] = []
    for together in (True, False):
        start = time.perf_counter()
        results.append(
            list(run_together(cells)) if together else [run_one(cell.recipe, row=cell.row) for cell in cells]
        )
        seconds.append(time.perf_counter() - start)
    if bad := next((one for way in results for one in way if one.state != "done"), None):
        raise SystemExit(f"a cell has failed, nothing is measured: {bad.traceback}")
    accuracies = [[result.test_accuracy or 0.0 for result in way] for way in results]
    accuracies.append([a_rounding_off(cell.recipe) for cell in cells])
    apart, off = ([100 * abs(a - b) for a, b in zip(way, accuracies[1], strict=True)] for way in accuracies[::2])
    same = all(a.survivors == b.survivors and a.diverged == b.diverged for a, b in zip(*results, strict=True))
    recipe = cells[0].recipe
    found = {
        "depth": recipe.depth, "activation": recipe.activation, "cells": [str(cell) for cell in cells],
        "sparsities": sorted({cell.recipe.sparsity for cell in cells}),
        "together, s": seconds[0], "alone, s": seconds[1], "floor, s": floor(cells, speed),
        "same survivors and divergences": same,
        "apart": apart, "a rounding off": off, "beside": [result.beside for result in results[0]],
        "accuracies": accuracies,
    }  # fmt: skip
    print(f"{recipe.activation}, depth {recipe.depth}: {seconds[1] / seconds[0]:.1f} times faster, ", end="")
    print(
        f"accuracies differ by {_spread(apart)} points (median, most), from one rounding by {_spread(off)}; "
        f"same: {same}",
        flush=True,
    )
    return found


def a_rounding_off(recipe: Recipe) -> float:
    """The test accuracy of a recipe, one by one, from starting weights that are each the next float up or down."""
    device = torch.device("cpu")
    dataset = learnt(recipe, None, device)
    model, _ = ready(recipe, dataset, device)
    drawn = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for weight in model.parameters():
            up = torch.rand(weight.shape, generator=drawn) < 0.5
            off = torch.where(
                up, weight.nextafter(weight.new_tensor(torch.inf)), weight.nextafter(weight.new_tensor(-torch.inf))
            )
            weight.copy_(torch.where(weight == 0, weight, off))  # what is pruned stays so
    return train(model, dataset, recipe.training, seed=recipe.seed, device=device)[-1].test_accuracy or 0.0


def row(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['activation']}, depth {found['depth']}",
        ", ".join(f"{sparsity:g}" for sparsity in found["sparsities"]),
        f"{found['alone, s']:.0f} s",
        f"{found['together, s']:.0f} s",
        f"{found['alone, s'] / found['together, s']:.1f} times",
        f"{found['floor, s']:.0f} s",
        _spread(found["apart"]),
        _spread(found["a rounding off"]),
    ]


def _spread(points: Sequence[float]) -> str:
    return f"{statistics.median(points):.2f}, {max(points):.2f}"


def _shortened(cell: Cell, images: int | None) -> Cell:
    return cell if images is None else replace(cell, recipe=replace(cell.recipe, train_images=images))


if __name__ == "__main__":
    main()
