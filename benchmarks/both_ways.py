"""Does it help to calibrate the gradient too? Deep sparse networks on digits, rescaled forward alone and both ways.

    python benchmarks/both_ways.py [--seeds 3] [--write]

A factor for each layer brings the signal back, and one for each neuron each neuron's own. *Rows and columns* gives the
weights factors on both sides, so that all outputs of a layer have the same sum of squares and all inputs too (Sinkhorn,
Knopp 1967): then neither the signal on its way forward nor the gradient on its way back has strong and weak neurons.
Then it is calibrated by layer. Fully connected networks of width 100 without biases, trained as `pruneinit reproduce
edge` does. Writes `results/both-ways.json` and a table of `docs/edge.md`. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from documents import parse, put_table, write_results
from torch import Tensor, nn

from pruneinit import Masks, prunable, sparsify_
from pruneinit.data import Dataset, load
from pruneinit.experiments.prepare import held_out, network, pruned, scoring_batch
from pruneinit.experiments.recipe import Recipe
from pruneinit.moments import neuron_moments, second_moments
from pruneinit.paper import study
from pruneinit.paper.entries import Spread
from pruneinit.rescale import apply_rescaling_, rescaling_factors
from pruneinit.train import Training, train_side_by_side
from pruneinit.trainability import trainability

PLACES = ((50, 0.95), (100, 0.9))
MASKS: Mapping[str, Mapping[str, Any]] = {
    "random": {"criterion": "random", "scope": "layer"},
    "magnitude per layer": {"criterion": "magnitude", "scope": "layer"},
    "sparse orthogonal": {"init": "sparse_orthogonal", "criterion": "magnitude", "scope": "layer"},
}
WAYS = ("layer", "neuron", "rows and columns")
ROUNDS = 20
MEASURES = ("gradient", "decorrelation", "jacobian_rank", "learnable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments, commit = parse(parser)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # neurons that lost all weights: random masks leave some at 95 %
    data, grid = load("digits"), study("edge").grid("small")
    trainings = [Training(**{**grid.recipe["training"], "lr": rate}) for rate in grid.over["training.lr"]]
    found: dict[str, list[dict[str, Any]]] = {}
    rows = []
    for activation, masks in itertools.product(("tanh", "relu"), MASKS):
        ways = WAYS if masks != "sparse orthogonal" else ("layer",)
        for depth, sparsity in PLACES:
            recipe = Recipe(
                model="mlp", depth=depth, width=100, activation=activation, sigma_b=0.0, sparsity=sparsity,
                score_images=256, validation=0.2, **MASKS[masks],
            )  # fmt: skip
            for seed, way in itertools.product(range(arguments.seeds), ways):
                name = f"{activation}, {masks}, {way}, {told(depth, sparsity)}"
                found.setdefault(name, []).append(measured(recipe, data, trainings, way, seed))
        for way in ways:
            here = [found[f"{activation}, {masks}, {way}, {told(*place)}"] for place in PLACES]
            medians = (median(here[-1], measure) for measure in MEASURES)
            rows.append([activation, masks, way, *(spread(networks) for networks in here), *medians])
            print(*rows[-1], sep=" | ", flush=True)
    write_results("both-ways", {"width": 100, "data": "digits", "rounds": ROUNDS, "networks": found}, commit)
    places = [told(*place) for place in PLACES]
    header = ("activation", "masks", "calibrated by", *places, "gradient², first / last", "decorrelation", "directions",
              "learnable")  # fmt: skip
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {arguments.seeds} seeds, at the best of three "
        f"learning rates on held-out images; measures are medians at {places[-1]}."
    )
    put_table("edge.md", header, rows, note, commit, "both ways")


def measured(recipe: Recipe, data: Dataset, trainings: Sequence[Training], way: str, seed: int) -> dict[str, Any]:
    """A network's measures before training, and its accuracy after it."""
    recipe = replace(recipe, seed=seed)
    dataset = held_out(recipe, data)
    model, batch = network(recipe, dataset), scoring_batch(recipe, dataset)
    dense = second_moments(model, [batch])
    targets = neuron_moments(model, [batch]) if way == "neuron" else dense
    masks = pruned(model, recipe, batch)
    if way == "rows and columns":
        balance_(model, masks)
    sparsify_(model, masks)
    method = "neuron" if way == "neuron" else "layer"
    apply_rescaling_(model, rescaling_factors(model, [batch], method=method, targets=targets))
    measures = trainability(model, batch, dense=dense)
    records = train_side_by_side([copy.deepcopy(model) for _ in trainings], dataset, trainings, seed=seed)
    last = max((one[-1] for one in records), key=lambda epoch: epoch.validation_accuracy or 0.0)
    return {"accuracy": last.test_accuracy, **{name: measures[name] for name in MEASURES}}


def balance_(model: nn.Module, masks: Masks) -> None:
    """Give the kept weights of each inner layer factors by output and by input, in place."""
    weights = prunable(model)
    with torch.no_grad():
        for name in list(weights)[1:-1]:
            parameter = model.get_parameter(name)
            parameter.copy_(balanced((parameter * masks[name]).double()))


def balanced(weight: Tensor, rounds: int = ROUNDS) -> Tensor:
    """A matrix whose rows have equal sums of squares, and nearly so its columns; what is empty stays so.

    Args:
        weight: [outputs, inputs], zero where pruned.
        rounds: Of columns, then rows. Their sums never become equal where the mask is such that they cannot.
    """
    total = weight.square().sum()
    for _, dim in itertools.product(range(rounds), (0, 1)):
        sums = weight.square().sum(dim, keepdim=True)
        wanted = total / (sums > 0).sum()
        weight = weight * torch.where(sums > 0, (wanted / sums).sqrt(), 1.0)
    return weight


def told(depth: int, sparsity: float) -> str:
    """A place in words."""
    return f"depth {depth}, {100 * sparsity:g} %"


def spread(networks: list[dict[str, Any]]) -> str:
    """Test accuracy in percent over the seeds."""
    found = Spread.of([100 * one["accuracy"] for one in networks])
    assert found is not None
    return f"{found.mean:.1f}" + ("" if found.sd is None else f" ± {found.sd:.1f}")


def median(networks: list[dict[str, Any]], name: str) -> str:
    """Of the networks of which it is known."""
    values = [one[name] for one in networks if one[name] is not None]
    return f"{statistics.median(values):.2g}" if values else "-"


if __name__ == "__main__":
    main()
