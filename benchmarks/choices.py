"""What one choice alone is worth: networks that are the same but for it, trained both ways; a table of docs/edge.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.offered import rounds
from pruneinit.experiments.recipe import Recipe
from pruneinit.paper.edge import TRAINS
from pruneinit.paper.predict import best_first

LEVEL = 2.0
"""Accuracies that differ by no more points than this are level."""


@dataclass(frozen=True)
class Choice:
    """One setting of a recipe with two values.

    Attributes:
        name: In the table.
        first: The settings of the network that is compared with.
        second: What they become.
    """

    name: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]


_NEURON, _LAYER = ({"rounds": 20, "rescale": way, "rescale_between": way} for way in ("neuron", "layer"))


def _criteria(first: str, second: str, **both: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"criterion": first, **both}, {"criterion": second, **both}


_SPARSE = {"init": "sparse_orthogonal", "mirrored": None, "scope": "layer"}

CHOICES = (
    Choice("calibrated by layer, not left as pruned", {"rescale": "none"}, {"rescale": "layer"}),
    Choice("calibrated by neuron, not left as pruned", {"rescale": "none"}, {"rescale": "neuron"}),
    Choice(
        "the paper's formula, not left as pruned (tanh)",
        {"activation": "tanh", "rescale": "none"},
        {"rescale": "formula"},
    ),
    Choice(
        "calibrated by layer, not by the formula (tanh)",
        {"activation": "tanh", "rescale": "formula"},
        {"rescale": "layer"},
    ),
    Choice("no biases, not those of sigma_b = 0.2 (tanh)", {"activation": "tanh", "sigma_b": None}, {"sigma_b": 0.0}),
    Choice(
        "by neuron, not by layer, no biases (tanh)",
        {"activation": "tanh", "sigma_b": 0.0, "rescale": "layer"},
        {"rescale": "neuron"},
    ),
    Choice(
        "by neuron, not by layer, sigma_b = 0.2 (tanh)",
        {"activation": "tanh", "sigma_b": None, "rescale": "layer"},
        {"rescale": "neuron"},
    ),
    Choice("by neuron, not by layer (ReLU)", {"activation": "relu", "rescale": "layer"}, {"rescale": "neuron"}),
    Choice("by neuron, not by layer, SBP", {"criterion": "snip", "rescale": "layer"}, {"rescale": "neuron"}),
    Choice("by neuron, not by layer, magnitude", {"criterion": "magnitude", "rescale": "layer"}, {"rescale": "neuron"}),
    Choice("by neuron, not by layer, random", {"criterion": "random", "rescale": "layer"}, {"rescale": "neuron"}),
    Choice("20 rounds by neuron, not one, SBP", {"criterion": "snip", "rounds": 1, "rescale": "neuron"}, _NEURON),
    Choice("20 rounds by layer, not one, SBP", {"criterion": "snip", "rounds": 1, "rescale": "layer"}, _LAYER),
    Choice(
        "20 rounds by neuron, not one, magnitude", {"criterion": "magnitude", "rounds": 1, "rescale": "neuron"}, _NEURON
    ),
    Choice(
        "a density for each layer, not one threshold, magnitude",
        {"criterion": "magnitude", "scope": "global"},
        {"scope": "layer"},
    ),
    Choice(
        "a density for each layer, not one threshold, SBP",
        {"criterion": "snip", "scope": "global"},
        {"scope": "layer"},
    ),
    Choice("SBP, not magnitude, per layer", *_criteria("magnitude", "snip", scope="layer")),
    Choice("ERK, not the same for all layers, random", {"criterion": "random", "scope": "layer"}, {"scope": "erk"}),
    *(
        Choice(f"{name}, not the same for all layers, sparse orthogonal", _SPARSE, {"scope": scope})
        for name, scope in (("uniform+", "uniform+"), ("ERK", "erk"), ("ERK+", "erk+"), ("ends", "ends"))
    ),
    Choice("ends, not ERK+, sparse orthogonal", _SPARSE | {"scope": "erk+"}, {"scope": "ends"}),
    Choice(
        "ends, not the same for all layers, magnitude by neuron, no biases (tanh)",
        {"criterion": "magnitude", "scope": "layer", "rescale": "neuron", "sigma_b": 0.0, "activation": "tanh"},
        {"scope": "ends"},
    ),
    Choice(
        "ends, not the same for all layers, magnitude by layer, mirrored (ReLU)",
        {"criterion": "magnitude", "scope": "layer", "rescale": "layer", "mirrored": True, "activation": "relu"},
        {"scope": "ends"},
    ),
    *(
        Choice(
            f"as many a layer as SBP in 20 rounds keeps, not ends, sparse orthogonal, depth {depth}",
            _SPARSE | {"scope": "ends", "criterion": "magnitude", "depth": depth},
            {"scope": "global", "criterion": "snip", "rounds": 20, "rescale_between": "neuron"},
        )
        for depth in (30, 50, 100)
    ),
    Choice("magnitude, not random, per layer", *_criteria("random", "magnitude", scope="layer")),
    Choice("SBP, not magnitude, one threshold", *_criteria("magnitude", "snip", scope="global")),
    Choice("orthogonal, not Gaussian", {"init": "edge"}, {"init": "orthogonal"}),
    Choice(
        "mirrored, not plain, orthogonal (ReLU)",
        {"activation": "relu", "init": "orthogonal", "mirrored": None},
        {"mirrored": True},
    ),
    Choice(
        "mirrored, not plain, sparse orthogonal (ReLU)",
        {"init": "sparse_orthogonal", "mirrored": False},
        {"mirrored": None},
    ),
    *(
        Choice(
            f"sparse orthogonal, not mirrored orthogonal with magnitude per layer, by {way} (ReLU)",
            {"init": "orthogonal", "mirrored": True, "criterion": "magnitude", "scope": "layer", "rescale": way},
            {"init": "sparse_orthogonal", "mirrored": None, "rescale": "none"},
        )
        for way in ("layer", "neuron")
    ),
    *(
        Choice(
            f"sparse orthogonal, not orthogonal without biases with magnitude per layer, by {way} (tanh)",
            {"init": "orthogonal", "sigma_b": 0.0, "criterion": "magnitude", "scope": "layer", "rescale": way},
            {"init": "sparse_orthogonal", "sigma_b": None, "rescale": "none"},
        )
        for way in ("layer", "neuron")
    ),
)


HEADER = ("choice", "networks", "train without it", "train with it", "better", "level", "worse")
NOTE = (
    "Networks of the same data, widths, activation, depth, sparsity, seed and all else. "
    f"They train above {TRAINS:.0f} % test accuracy; level is within {LEVEL:.0f} points; each has the learning rate of "
    "its best validation accuracy, or the one that is best for the seeds which were trained at all of them."
)


def worth(grids: Sequence[Grid], results: Mapping[str, Result]) -> list[list[str]]:
    """A line for each choice of which networks were trained both ways.

    Args:
        grids: Of the studies.
        results: By the hash of the cell.
    """
    known = [accuracies(grid, results) for grid in grids]
    return [found for choice in CHOICES if (found := line(choice, known)) is not None]


def accuracies(grid: Grid, results: Mapping[str, Result]) -> dict[str, tuple[Recipe, float]]:
    """The test accuracy in percent of each network of a grid, by what it is but for its learning rate."""
    return {
        identity(cell.recipe): (cell.recipe, 100 * (own[0].test_accuracy or 0.0))
        for cell, own in best_first(grid.cells(), grid.choose, results)
    }


def identity(recipe: Recipe) -> str:
    """What a network is, but for its learning rate."""
    return replace(recipe, training=replace(recipe.training, lr=1.0)).hash


def line(choice: Choice, known: Sequence[Mapping[str, tuple[Recipe, float]]]) -> list[str] | None:
    """What a choice is worth; None where no network was trained both ways."""
    pairs = np.array([pair for one in known for pair in pairs_of(choice, one)])
    if not len(pairs):
        return None
    gain = pairs[:, 1] - pairs[:, 0]
    shares = [
        *(pairs > TRAINS).mean(axis=0),
        *(np.mean(one) for one in (gain > LEVEL, abs(gain) <= LEVEL, gain < -LEVEL)),
    ]
    return [choice.name, f"{len(pairs):,}", *(f"{100 * share:.0f} %" for share in shares)]


def pairs_of(choice: Choice, known: Mapping[str, tuple[Recipe, float]]) -> list[tuple[float, float]]:
    """The accuracies of networks without and with it."""
    pairs = []
    for recipe, accuracy in known.values():
        plain = recipe.to_mapping() | {"rounds": rounds(recipe)}
        if any(plain[name] != value for name, value in choice.first.items()):
            continue
        with suppress(InputError):  # what cannot be has not been trained
            other = known.get(identity(replace(recipe, **choice.second)))
            if other is not None:
                pairs.append((accuracy, other[1]))
    return pairs
