"""What is measured of a recipe's network between its preparation and its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from pruneinit.data import Dataset
from pruneinit.experiments.prepare import Event, scoring_batch
from pruneinit.experiments.recipe import Recipe
from pruneinit.trainability import trainability

Measured = Mapping[str, float | None]
"""By the names of `pruneinit.trainability.MEASURES`."""


def measured(model: nn.Module, recipe: Recipe, dataset: Dataset, events: Sequence[Event]) -> Measured:
    """Measure a prepared network on the images that it was scored on, to six digits.

    Args:
        model: As `ready` returns it.
        recipe: What it was made by.
        dataset: What `ready` was given.
        events: As `ready` returns them: the moments of the dense network are among them.
    """
    dense = next(event for event in events if event["event"] == "moments" and event["stage"] == "dense")
    moments = {layer["name"]: layer["value"] for layer in dense["layers"]}
    batch = scoring_batch(recipe, dataset.to(next(model.parameters()).device))
    found = trainability(model, batch, dense=moments, norm=recipe.norm)
    return {name: None if value is None else float(f"{value:.6g}") for name, value in found.items()}
