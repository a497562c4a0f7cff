"""What rescaling between rounds brings: plain networks too deep and too sparse for pruning in one shot.

    python benchmarks/edge_prototype.py [--seeds 1 2 3] [--epochs 20] [--networks tanh tanh-0 relu] [--write]

Plain networks of depth 30 and width 100 on digits, on the Edge of Chaos: tanh pruned to 95 %, with biases (σ_b = 0.2)
and without (`tanh-0`), ReLU to 90 %; trained by SGD with momentum, the better of two learning rates. Writes
`results/edge_prototype.json` and a table of `docs/rescaling.md`, at other settings only with `--write`. Half an hour
on one core.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from typing import Any

from documents import parse, put_table, write_results

from pruneinit.data import Dataset, load
from pruneinit.experiments import Recipe
from pruneinit.experiments.prepare import network, prepare_
from pruneinit.train import Training, train

# Activation, σ_b, sparsity.
NETWORKS = {"tanh": ("tanh", 0.2, 0.95), "tanh-0": ("tanh", 0.0, 0.95), "relu": ("relu", 0.0, 0.9)}
RATES = (0.003, 0.01)
# Criterion, rounds, rescaling between them, rescaling at the end.
Way = tuple[str, int, Any, Any]
MAIN: tuple[Way, ...] = (
    ("snip", 1, "none", "none"),
    ("snip", 1, "none", "layer"),
    ("snip", 20, "none", "layer"),
    ("snip", 20, "layer", "layer"),
    ("snip", 20, "neuron", "neuron"),
    ("magnitude", 1, "none", "layer"),
)
WAYS: dict[str, tuple[Way, ...]] = {
    "tanh-0": MAIN,
    "tanh": (
        *MAIN,
        ("snip", 1, "none", "neuron"),
        ("magnitude", 1, "none", "neuron"),
        ("magnitude", 20, "neuron", "neuron"),
        ("random", 1, "none", "layer"),
        ("random", 1, "none", "neuron"),
    ),
    "relu": MAIN[1:2] + MAIN[4:],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--networks", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments, commit = parse(parser)
    data = load("digits")
    cells = []
    keys = ("activation", "sigma_b", "sparsity", "criterion", "rounds", "between", "rescale")
    for name, way in [(key, way) for key in arguments.networks for way in WAYS[key]]:
        runs = [best(data, name, way, seed, arguments.epochs) for seed in arguments.seeds]
        cells.append(dict(zip(keys, (*NETWORKS[name], *way), strict=True)) | {"runs": runs})
        print(" | ".join(row(cells[-1])), flush=True)
        keep(cells, arguments.seeds, arguments.epochs, commit)  # after each, since all of them take long


def keep(cells: list[dict[str, Any]], seeds: list[int], epochs: int, commit: bool) -> None:
    if not commit:
        return
    results = {"epochs": epochs, "width": 100, "depth": 30, "data": "digits", "rates": RATES, "cells": cells}
    write_results("edge_prototype", results)
    header = ("activation", "σ_b", "sparsity", "criterion", "rounds", "between", "rescaling", "test accuracy, %")
    note = f"Seeds {' '.join(map(str, seeds))}, {epochs} epochs, the better of lr = {' and '.join(map(str, RATES))}; "
    put_table(
        "rescaling.md", header, [row(c) for c in cells], note + "data: `results/edge_prototype.json`.", name="rounds"
    )


def best(data: Dataset, name: str, way: Way, seed: int, epochs: int) -> dict[str, Any]:
    """The run of the better learning rate."""
    activation, sigma_b, sparsity = NETWORKS[name]
    criterion, rounds, between, rescale = way
    recipe = Recipe(
        model="mlp", depth=30, width=100, activation=activation, sigma_b=sigma_b, sparsity=sparsity, seed=seed,
        criterion=criterion, rounds=rounds, rescale_between=between, rescale=rescale, score_images=256,
    )  # fmt: skip
    events: list[Any] = []
    with warnings.catch_warnings():  # of lost layers and dead neurons, which are what this is about
        warnings.simplefilter("ignore", UserWarning)
        model = prepare_(network(recipe, data), recipe, data, events.append)
    pruned = next(event for event in events if event["event"] == "prune")
    empty = sum(layer["kept"] == 0 for layer in pruned["layers"])
    runs = []
    for lr in RATES:
        training = Training(
            epochs=epochs, batch_size=64, lr=lr, weight_decay=0.0, schedule="constant", augment=False
        )  # fmt: skip
        last = train(copy.deepcopy(model), data, training, seed=seed, device="cpu")[-1]
        runs.append({"seed": seed, "lr": lr, "test_accuracy": last.test_accuracy, "diverged": last.diverged})
    return max(runs, key=lambda run: run["test_accuracy"]) | {"empty_layers": empty}


def row(found: dict[str, Any]) -> list[str]:
    accuracies = [f"{100 * run['test_accuracy']:.0f}" + (" (NaN)" if run["diverged"] else "") for run in found["runs"]]
    network = [found["activation"], str(found["sigma_b"]), f"{100 * found['sparsity']:.0f} %"]
    way = [str(found[key]) for key in ("criterion", "rounds", "between", "rescale")]
    return [*network, *way, " ".join(accuracies)]


if __name__ == "__main__":
    main()
