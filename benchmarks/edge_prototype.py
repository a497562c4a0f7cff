"""What rescaling between rounds brings: plain networks too deep and too sparse for pruning in one shot.

    python benchmarks/edge_prototype.py [--seeds 1 2 3] [--epochs 20] [--networks tanh tanh-0 relu] [--write]

Plain networks of depth 30 and width 100 on digits, on the Edge of Chaos: tanh pruned to 95 %, with biases (σ_b = 0.2)
and without (`tanh-0`), ReLU to 90 %; trained by SGD with momentum, the better of two learning rates. Writes
`results/edge_prototype.json` and a table of `docs/rescaling.md`, at other settings only with `--write`. Half an hour
on one core. What these results hold already is not run again: remove the file to measure anew.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from documents import PROJECT, parse, put_table, write_results

import pruneinit as pi
from pruneinit.calibration import calibrated
from pruneinit.data import load
from pruneinit.experiments import Recipe
from pruneinit.experiments.prepare import network, prepare_, pruned, scoring_batch
from pruneinit.functional import cross_entropy
from pruneinit.train import Training, train

# Activation, σ_b, sparsity.
NETWORKS = {"tanh": ("tanh", 0.2, 0.95), "tanh-0": ("tanh", 0.0, 0.95), "relu": ("relu", 0.0, 0.9)}
RATES = (0.003, 0.01)
CLAMPS = (3.0, 10.0, 100.0)
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
        ("random", 1, "none", "layer"),
        ("magnitude", 20, "neuron", "neuron"),
    ),
    "relu": MAIN[1:2] + MAIN[4:],
}

BOUNDED: tuple[Way, ...] = (
    ("snip", 1, "none", "neuron"),
    ("snip", 20, "neuron", "neuron"),
    ("magnitude", 1, "none", "neuron"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--networks", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    arguments, commit = parse(parser, places=("jobs",))
    before = kept(arguments.seeds, arguments.epochs) if commit else []
    cells = []
    keys = ("activation", "sigma_b", "sparsity", "criterion", "rounds", "between", "rescale")
    for name, way in [(key, way) for key in arguments.networks for way in WAYS[key]]:
        settings = dict(zip(keys, (*NETWORKS[name], *way), strict=True))
        found = next((cell for cell in before if cell.items() >= settings.items()), None)
        if found is None:
            with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
                runs = pool.map(partial(best, name, way, arguments.epochs), arguments.seeds)
                found = settings | {"runs": list(runs)}
        cells.append(found)
        print(" | ".join(row(cells[-1])), flush=True)
        keep(cells, [], arguments.seeds, arguments.epochs, commit)  # after each, since all of them take long
    ends = [beyond(name, way) for name in arguments.networks for way in BOUNDED]
    header = ("network", "criterion", "rounds", "neurons", "dead", *(f"beyond {clamp:g} times" for clamp in CLAMPS))
    rows = [bounds(end) for end in ends]
    keep(cells, ends, arguments.seeds, arguments.epochs, commit)
    put_table("rescaling.md", header, rows, "Seed 1; data: `results/edge_prototype.json`.", commit, name="clamps")


def keep(cells: list[dict[str, Any]], ends: list[dict[str, Any]], seeds: list[int], epochs: int, commit: bool) -> None:
    if not commit:
        return
    results = {"epochs": epochs, "width": 100, "depth": 30, "data": "digits", "rates": RATES, "cells": cells}
    write_results("edge_prototype", results | {"clamps": ends})
    header = ("activation", "σ_b", "sparsity", "criterion", "rounds", "between", "rescaling", "test accuracy, %")
    note = f"Seeds {' '.join(map(str, seeds))}, {epochs} epochs, the better of lr = {' and '.join(map(str, RATES))}; "
    put_table(
        "rescaling.md", header, [row(c) for c in cells], note + "data: `results/edge_prototype.json`.", name="rounds"
    )


def beyond(name: str, way: Way) -> dict[str, Any]:
    """How many neurons of one network ask for a factor that is far from their layer's, and how many are dead."""
    data = load("digits")
    recipe = recipe_of(name, way, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model, batch = network(recipe, data), scoring_batch(recipe, data)
        masks = pruned(model, recipe, batch)
    targets = pi.neuron_moments(model, [batch])
    found: dict[str, Any] = {"network": name, "way": way, "clamped": {}}
    for clamp in CLAMPS:
        result = calibrated(model, batch, masks, targets, "neuron", clamp=clamp, loss=cross_entropy, norm=None)
        found["clamped"][str(clamp)] = sum(some for some, _ in result.clamped.values())
        found["dead"] = sum(some for some, _ in result.dead.values())
    return found | {"neurons": sum(len(value) for value in targets.values())}


def kept(seeds: list[int], epochs: int) -> list[dict[str, Any]]:
    """What an earlier call has measured at the same settings."""
    path = PROJECT / "results" / "edge_prototype.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    cells: list[dict[str, Any]] = results.get("cells", [])
    if results.get("epochs") != epochs or results.get("rates") != list(RATES):
        return []
    return [cell for cell in cells if [run["seed"] for run in cell["runs"]] == seeds]


def recipe_of(name: str, way: Way, seed: int) -> Recipe:
    activation, sigma_b, sparsity = NETWORKS[name]
    criterion, rounds, between, rescale = way
    return Recipe(
        model="mlp", depth=30, width=100, activation=activation, sigma_b=sigma_b, sparsity=sparsity, seed=seed,
        criterion=criterion, rounds=rounds, rescale_between=between, rescale=rescale, score_images=256,
    )  # fmt: skip


def best(name: str, way: Way, epochs: int, seed: int) -> dict[str, Any]:
    """The run of the better learning rate."""
    data = load("digits")
    recipe = recipe_of(name, way, seed)
    events: list[Any] = []
    with warnings.catch_warnings():  # of lost layers and dead neurons, which are what this is about
        warnings.simplefilter("ignore", UserWarning)
        model = prepare_(network(recipe, data), recipe, data, events.append)
    event = next(event for event in events if event["event"] == "prune")
    empty = sum(layer["kept"] == 0 for layer in event["layers"])
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


def bounds(found: dict[str, Any]) -> list[str]:
    criterion, rounds, *_ = found["way"]
    counts = [str(found["neurons"]), str(found["dead"]), *map(str, found["clamped"].values())]
    return [found["network"], criterion, str(rounds), *counts]


if __name__ == "__main__":
    main()
