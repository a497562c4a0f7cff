"""From a recipe to a network that is ready to train, and a record of what was done to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from pruneinit.criteria import Criterion, Magnitude, Random, Snip
from pruneinit.data import Dataset, batches
from pruneinit.errors import InputError
from pruneinit.experiments.recipe import Recipe
from pruneinit.initialize import delta_orthogonal_, edge_of_chaos_, mean_field_, orthogonal_
from pruneinit.masks import Masks
from pruneinit.models import build
from pruneinit.moments import second_moments
from pruneinit.prune import prune
from pruneinit.reparametrize import factor
from pruneinit.rescale import rescale_
from pruneinit.residual import stabilize_residuals_
from pruneinit.survivors import sparsify_
from pruneinit.weights import Weight, prunable

Event = Mapping[str, Any]
Record = Callable[[Event], None]


def network(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """The recipe's network for a data set, initialised as the recipe says, on the CPU."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(recipe.seed)  # what PyTorch's own initialisation draws from
        model = build(
            recipe.model,
            input_shape=dataset.shape,
            classes=len(dataset.classes),
            depth=recipe.depth,
            width=recipe.width,
            activation=recipe.activation,
        )
    generator = torch.Generator().manual_seed(recipe.seed)
    if recipe.init == "edge":
        edge_of_chaos_(model, sigma_b=recipe.sigma_b, generator=generator)
    elif recipe.init == "orthogonal":
        orthogonal_(model, sigma_b=recipe.sigma_b, generator=generator)
    elif recipe.init == "delta_orthogonal":
        delta_orthogonal_(model, sigma_b=recipe.sigma_b, generator=generator)
    elif recipe.init == "gaussian" and recipe.sigma_w is not None:
        mean_field_(model, recipe.sigma_w, recipe.sigma_b or 0.0, generator=generator)
    return model


def scoring_batch(recipe: Recipe, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Training images to score and calibrate on, drawn by the recipe's seed; on the data set's device."""
    generator = torch.Generator().manual_seed(recipe.seed)
    return next(iter(batches(dataset.train, dataset, recipe.score_images, generator=generator)))


def prepare_(model: nn.Module, recipe: Recipe, dataset: Dataset, record: Record) -> nn.Module:
    """Stabilise, prune, rescale and sparsify a network in place as the recipe says.

    Args:
        model: The initialised network, on the device of the data set.
        recipe: What to do.
        dataset: The data to score on.
        record: Called with each event of the run's record, as `docs/runs.md` lists them.

    Returns:
        The model.

    Raises:
        InputError: The recipe asks for what the network cannot do.
    """
    batch = scoring_batch(recipe, dataset)
    if recipe.residuals == "stable":
        found = stabilize_residuals_(model, batch[0][:1])
        if not len(found):
            raise InputError(f"residuals='stable' needs a residual network; {recipe.model} has no residual branches")
        branches = [branch.parameters[0] for branch in found.branches]
        record({"event": "residuals", "factor": found.factor, "branches": branches})
    record(_moments("dense", model, recipe, batch))
    if recipe.criterion == "none":
        return model
    start = time.perf_counter()
    masks = prune(model, criterion(recipe), [batch], sparsity=recipe.sparsity, scope=recipe.scope, rounds=recipe.rounds)
    record(_pruning(model, recipe, masks, time.perf_counter() - start))
    record(_moments("pruned", model, recipe, batch, masks))
    if recipe.rescale != "none":
        rescale_(model, [batch], masks=masks, method=recipe.rescale, norm=recipe.norm, fold=recipe.fold)
        record(_rescaling(model, recipe, masks))
        record(_moments("rescaled", model, recipe, batch, masks))
    return sparsify_(model, masks)


def criterion(recipe: Recipe) -> Criterion:
    """The recipe's criterion with its settings."""
    if recipe.criterion == "magnitude":
        return Magnitude()
    if recipe.criterion == "random":
        return Random(seed=recipe.seed)
    return Snip(norm=recipe.norm)


def layers(weights: Mapping[str, Weight]) -> list[dict[str, Any]]:
    """The prunable weights as the record lists them."""
    return [{"name": w.name, "kind": w.kind, "shape": list(w.shape), "total": w.numel} for w in weights.values()]


def _pruning(model: nn.Module, recipe: Recipe, masks: Masks, seconds: float) -> Event:
    described = [layer | {"kept": masks.counts[layer["name"]][0]} for layer in layers(prunable(model))]
    return {
        "event": "prune",
        "criterion": recipe.criterion,
        "sparsity": recipe.sparsity,
        "total": masks.total,
        "kept": masks.kept,
        "seconds": seconds,
        "layers": described,
    }


def _moments(stage: str, model: nn.Module, recipe: Recipe, batch: Any, masks: Masks | None = None) -> Event:
    values = second_moments(model, [batch], masks=masks, norm=recipe.norm)
    return {
        "event": "moments",
        "stage": stage,
        "layers": [{"name": name, "value": value} for name, value in values.items()],
    }


def _rescaling(model: nn.Module, recipe: Recipe, masks: Masks) -> Event:
    # A factor per kernel tap is listed as its mean; a folded one is in the weights and no longer to be seen.
    factors = {name: float(factor(model, name, "rescale").mean()) for name in masks}
    return {
        "event": "rescale",
        "method": recipe.rescale,
        "layers": [{"name": name, "factor": value} for name, value in factors.items()],
    }
