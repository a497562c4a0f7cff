"""How many directions get through a deep sparse network before training, by how it was pruned and rescaled.

    python benchmarks/directions.py [--depth 100] [--sparsity 0.9] [--seeds 5] [--write]

Fully connected networks of width 100 on digits, pruned and not trained: `pruneinit.trainability` of each, medians over
seeds. Writes `results/directions.json` and a table of `docs/edge.md`. A few minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from documents import parse, put_table, write_results

from pruneinit.data import load
from pruneinit.experiments.measured import measured
from pruneinit.experiments.prepare import ready
from pruneinit.experiments.recipe import Recipe

WAYS: Mapping[str, Mapping[str, Any]] = {
    "SBP": {"criterion": "snip"},
    "SBP, layer": {"criterion": "snip", "rescale": "layer"},
    "SBP, 20 rounds by neuron": {"criterion": "snip", "rounds": 20, "rescale": "neuron", "rescale_between": "neuron"},
    "magnitude per layer, layer": {"criterion": "magnitude", "scope": "layer", "rescale": "layer"},
    "random, layer": {"criterion": "random", "scope": "layer", "rescale": "layer"},
    "random, neuron": {"criterion": "random", "scope": "layer", "rescale": "neuron"},
    "orthogonal, magnitude per layer, layer": {
        "init": "orthogonal", "criterion": "magnitude", "scope": "layer", "rescale": "layer",
    },
    "mirrored orthogonal, magnitude per layer, layer": {
        "init": "orthogonal", "mirrored": True, "criterion": "magnitude", "scope": "layer", "rescale": "layer",
    },
    "sparse orthogonal, not mirrored": {
        "init": "sparse_orthogonal", "mirrored": False, "criterion": "magnitude", "scope": "layer",
    },
    "sparse orthogonal": {"init": "sparse_orthogonal", "criterion": "magnitude", "scope": "layer"},
}  # fmt: skip
SHOWN = ("moment", "gradient", "decorrelation", "jacobian_rank", "jacobian_max", "kernel_condition")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--seeds", type=int, default=5)
    arguments, commit = parse(parser)
    torch.set_num_threads(1)
    data, cpu = load("digits"), torch.device("cpu")
    found: dict[str, list[Mapping[str, float | None]]] = {}
    rows = []
    for activation in ("tanh", "relu"):
        for way, settings in WAYS.items():
            if activation == "tanh" and "mirrored" in settings:  # tanh has no halves to mirror
                continue
            networks = found.setdefault(f"{activation}, {way}", [])
            for seed in range(arguments.seeds):
                recipe = Recipe(
                    model="mlp", depth=arguments.depth, width=100, activation=activation,
                    sparsity=arguments.sparsity, score_images=256, seed=seed, **settings,
                )  # fmt: skip
                model, events = ready(recipe, data, cpu)
                networks.append(measured(model, recipe, data, events))
            rows.append([activation, way, *(_median(networks, name) for name in SHOWN)])
            print(*rows[-1], sep=" | ", flush=True)
    kept = {"depth": arguments.depth, "sparsity": arguments.sparsity, "width": 100, "data": "digits", "networks": found}
    write_results("directions", kept, commit)
    measures = ("second moment / dense", "gradient², first / last", "decorrelation", "directions",
                "largest singular value", "condition of the kernel")  # fmt: skip
    header = ("activation", "pruned and rescaled by", *measures)
    note = (
        f"Depth {arguments.depth}, sparsity {arguments.sparsity:g}, medians of {arguments.seeds} seeds, "
        "of those in which anything gets through."
    )
    put_table("edge.md", header, rows, note, commit, "directions")


def _median(networks: list[Mapping[str, float | None]], name: str) -> str:
    """The median of the networks in which anything gets through; the condition of a singular kernel is infinite."""
    singular = math.inf if name == "kernel_condition" else None
    values = [singular if one[name] is None else one[name] for one in networks]
    found = statistics.median(value for value in values if value is not None)
    return f"{found:.2g}" if math.isfinite(found) else "∞"


if __name__ == "__main__":
    main()
