"""Which rescaling brings a pruned network back: the signal at initialisation, and what it learns.

    python benchmarks/rescaling.py [--seeds 3] [--epochs 6] [--write]

Plain networks of width 100 on digits, on the Edge of Chaos, pruned by SBP in one shot. Writes `results/rescaling.json`
and the table of `docs/rescaling.md`, at other settings only with `--write`. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from typing import Any

from documents import parse, put_table, write_results

from pruneinit.data import Dataset, load
from pruneinit.experiments import Recipe
from pruneinit.experiments.prepare import network, prepare_
from pruneinit.experiments.recipe import Rescale
from pruneinit.train import Training, train

METHODS: tuple[Rescale, ...] = ("none", "formula", "layer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    arguments, commit = parse(parser)
    data = load("digits")
    cells = []
    for activation, depth, sparsity in itertools.product(("tanh", "relu"), (30, 60), (0.5, 0.9)):
        for method in METHODS:
            runs = [
                cell(data, activation, depth, sparsity, method, seed, arguments.epochs)
                for seed in range(arguments.seeds)
            ]
            cells.append(
                {"activation": activation, "depth": depth, "sparsity": sparsity, "method": method, "runs": runs}
            )
            print(row(cells[-1]), flush=True)
    write_results("rescaling", {"epochs": arguments.epochs, "width": 100, "data": "digits", "cells": cells}, commit)
    header = ("activation", "depth", "sparsity", "rescaling", "q, dense", "q, pruned network", "test accuracy, %")
    note = f"Median of q and accuracies of {arguments.seeds} seeds after {arguments.epochs} epochs; "
    put_table("rescaling.md", header, [row(c) for c in cells], note + "data: `results/rescaling.json`.", commit)


def cell(
    data: Dataset, activation: str, depth: int, sparsity: float, method: Rescale, seed: int, epochs: int
) -> dict[str, Any]:
    recipe = Recipe(
        model="mlp", depth=depth, width=100, activation=activation, sparsity=sparsity, rescale=method, seed=seed,
        score_images=256,
        training=Training(
            epochs=epochs, batch_size=64, lr=0.02, weight_decay=0.0, schedule="onecycle", augment=False
        ),
    )  # fmt: skip
    events: list[Any] = []
    model = prepare_(network(recipe, data), recipe, data, events.append)
    moments = [list(e["layers"])[-1]["value"] for e in events if e["event"] == "moments"]
    last = train(model, data, recipe.training, seed=seed, device="cpu")[-1]
    # JSON has no infinity
    dense, now = (value if math.isfinite(value) else None for value in (moments[0], moments[-1]))
    return {"seed": seed, "dense": dense, "now": now, "test_accuracy": last.test_accuracy, "diverged": last.diverged}


def row(found: dict[str, Any]) -> list[str]:
    moments = [
        statistics.median(math.inf if run[stage] is None else run[stage] for run in found["runs"])
        for stage in ("dense", "now")
    ]
    accuracies = [f"{100 * run['test_accuracy']:.0f}" + (" (NaN)" if run["diverged"] else "") for run in found["runs"]]
    settings = [found["activation"], str(found["depth"]), f"{100 * found['sparsity']:.0f} %", found["method"]]
    return [*settings, *(f"{q:.2g}" for q in moments), " ".join(accuracies)]


if __name__ == "__main__":
    main()
