"""Networks that a benchmark trains as a study does, outside of the study's grid."""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pruneinit.data import Dataset, load
from pruneinit.experiments.prepare import held_out
from pruneinit.experiments.recipe import Recipe
from pruneinit.train import Training, stackable, train, train_side_by_side

read = functools.cache(load)


def images_of(settings: Mapping[str, Any], seed: int) -> tuple[Recipe, Dataset]:
    """What of a study's settings is of its images, as a recipe, and the images, part of them held out."""
    names = ("data", "validation", "train_images", "score_images")
    recipe = Recipe(seed=seed, **{name: settings[name] for name in names if name in settings})
    return recipe, held_out(recipe, read(recipe.data))


def at_better_rate(
    model: nn.Module, dataset: Dataset, settings: Mapping[str, Any], rates: Sequence[float], seed: int
) -> float | None:
    """Test accuracy at the rate that is better on held-out images; `model` is left as it was."""
    trainings = [Training(**{**settings["training"], "lr": rate}) for rate in rates]
    copies = [copy.deepcopy(model) for _ in trainings]
    if stackable(copies, trainings):
        records = train_side_by_side(copies, dataset, trainings, seed=seed)
    else:
        records = [[*train(one, dataset, how, seed=seed)] for one, how in zip(copies, trainings, strict=True)]
    return max((one[-1] for one in records), key=lambda epoch: epoch.validation_accuracy or 0.0).test_accuracy


def told(networks: Sequence[Mapping[str, Any]]) -> str:
    """Test accuracy in percent over the seeds, - where no such network can be made."""
    if any(one["accuracy"] is None for one in networks):
        return "-"
    values = [100 * one["accuracy"] for one in networks]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.1f}"
