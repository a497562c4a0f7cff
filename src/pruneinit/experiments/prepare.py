"""From a recipe to a network that is ready to train, and a record of what was done to it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

import pruneinit
from pruneinit.calibration import Targets
from pruneinit.criteria import Magnitude
from pruneinit.data import Dataset, batches
from pruneinit.errors import InputError
from pruneinit.exact_orthogonal import sparse_orthogonal_
from pruneinit.experiments.offered import criterion
from pruneinit.experiments.recipe import Recipe
from pruneinit.initialize import delta_orthogonal_, edge_of_chaos_, mean_field_, orthogonal_
from pruneinit.masks import Masks
from pruneinit.models import build
from pruneinit.moments import neuron_moments, second_moments
from pruneinit.pruning import prune
from pruneinit.rescale import apply_rescaling_, rescaling_factors
from pruneinit.residual import Residuals, stabilize_residuals_
from pruneinit.seeds import derived
from pruneinit.survivors import sparsify_
from pruneinit.weights import Weight, prunable

Event = Mapping[str, Any]
Record = Callable[[Event], None]

# What every family of networks has where no activation is asked for; a network of one layer has none to be read off.
_ACTIVATION = "relu"
_NO_ROOM = re.compile("alloc|overflow|out of memory", re.IGNORECASE)


def network(recipe: Recipe, dataset: Dataset) -> nn.Module:
    """The recipe's network for a data set, initialised as the recipe says, on the CPU.

    Raises:
        InputError: There is no such network, or it does not fit into memory.
    """
    with _room(recipe):
        with torch.random.fork_rng([]):
            # What PyTorch's own initialisation draws from.
            torch.default_generator.manual_seed(derived("weights", recipe.seed))
            model = build(
                recipe.model,
                input_shape=dataset.shape,
                classes=len(dataset.classes),
                depth=recipe.depth,
                width=recipe.width,
                activation=recipe.activation,
            )
        generator = torch.Generator().manual_seed(derived("weights", recipe.seed))
        activation = recipe.activation or _ACTIVATION
        if recipe.init == "edge":
            edge_of_chaos_(model, activation, sigma_b=recipe.sigma_b, generator=generator)
        elif recipe.init == "orthogonal" and recipe.mirrored:
            sparse_orthogonal_(
                model, activation, sparsity=0.0, mirrored=True, sigma_b=recipe.sigma_b, generator=generator
            )
        elif recipe.init == "orthogonal":
            orthogonal_(model, activation, sigma_b=recipe.sigma_b, generator=generator)
        elif recipe.init == "delta_orthogonal":
            delta_orthogonal_(model, activation, sigma_b=recipe.sigma_b, generator=generator)
        elif recipe.init == "sparse_orthogonal":
            # A criterion that is to say how many weights each layer keeps scores the dense network: see `prepare_`.
            sparsity, scope = (0.0, "layer") if recipe.redraws else (recipe.sparsity, recipe.scope)
            sparse_orthogonal_(
                model,
                activation,
                sparsity=sparsity,
                scope=scope,
                mirrored=recipe.mirrored,
                sigma_b=recipe.sigma_b,
                generator=generator,
            )
        elif recipe.init == "gaussian" and recipe.sigma_w is not None:
            mean_field_(model, recipe.sigma_w, recipe.sigma_b or 0.0, generator=generator)
        return model


@contextmanager
def _room(recipe: Recipe) -> Iterator[None]:
    """Tell of a network that is too large as of what it is: a wrong setting."""
    try:
        yield
    except InputError:
        raise
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
        if not isinstance(error, (MemoryError, OverflowError)) and not _NO_ROOM.search(str(error)):
            raise
        size = ", ".join(f"{name}={getattr(recipe, name)}" for name in ("depth", "width") if getattr(recipe, name))
        asked = re.search(r"\d+ bytes", str(error))
        raise InputError(
            f"{recipe.model} with {size or 'these sizes'} cannot be built, it does not fit into memory"
            f"{f' (one tensor needs {asked.group()})' if asked else ''}; choose a smaller one"
        ) from error


def scoring_batch(recipe: Recipe, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Training images to score and calibrate on, drawn by the recipe's seed; on the data set's device."""
    generator = torch.Generator().manual_seed(derived("scoring images", recipe.seed))
    return next(iter(batches(dataset.train, dataset, recipe.score_images, generator=generator)))


def held_out(recipe: Recipe, dataset: Dataset) -> Dataset:
    """The data set with the recipe's share of the training images as validation split."""
    if recipe.validation:
        dataset = dataset.hold_out(recipe.validation, recipe.seed)
    return dataset if recipe.train_images is None else dataset.draw(recipe.train_images, recipe.seed)


def ready(recipe: Recipe, dataset: Dataset, device: torch.device) -> tuple[nn.Module, list[Event]]:
    """The recipe's network, ready to train on a device, and the record so far: its start and what was done to it.

    Raises:
        InputError: The network cannot be built, or the recipe asks for what it cannot do.
    """
    model = network(recipe, dataset)
    weights = prunable(model)
    events: list[Event] = [
        {
            "event": "start",
            "run": recipe.hash,
            "version": pruneinit.__version__,
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights": sum(w.numel for w in weights.values()),
            "layers": layers(weights),
        }
    ]
    return prepare_(model.to(device), recipe, dataset.to(device), events.append), events


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
        found = stabilize_(model, batch[0][:1], recipe.model)
        branches = [branch.parameters[0] for branch in found.branches]
        record({"event": "residuals", "factor": found.factor, "branches": branches})
    start = time.perf_counter()
    # Drawn anew before it is looked at: what rescaling brings back is the signal of these weights.
    masks = redraw_(model, recipe, batch) if recipe.redraws else None
    seconds = time.perf_counter() - start
    dense = second_moments(model, [batch], norm=recipe.norm)
    record(_moments("dense", dense))
    if recipe.criterion == "none":
        return model
    targets: Targets = neuron_moments(model, [batch], norm=recipe.norm) if recipe.rescale == "neuron" else dense
    if masks is None:
        start = time.perf_counter()
        masks = pruned(model, recipe, batch)
        seconds = time.perf_counter() - start
    record(_pruning(model, recipe, masks, seconds))
    sparsify_(model, masks)
    record(_moments("pruned", second_moments(model, [batch], norm=recipe.norm)))
    if recipe.rescale != "none":
        factors = rescaling_factors(model, [batch], method=recipe.rescale, targets=targets, norm=recipe.norm)
        record(_rescaling(recipe, factors))
        apply_rescaling_(model, factors, fold=recipe.fold)
        record(_moments("rescaled", second_moments(model, [batch], norm=recipe.norm)))
    return model


def stabilize_(model: nn.Module, example: torch.Tensor, name: str) -> Residuals:
    """Make a Stable ResNet of the residual network `name` in place; `example` is a batch of one image.

    Raises:
        InputError: It is none.
    """
    found = stabilize_residuals_(model, example)
    if not len(found):
        raise InputError(f"residuals='stable' needs a residual network; {name} has no residual branches")
    return found


def pruned(model: nn.Module, recipe: Recipe, batch: tuple[torch.Tensor, torch.Tensor]) -> Masks:
    """The masks that the recipe prunes with. That whole layers can be lost is what a run shows, so that it goes on."""
    return prune(
        model,
        criterion(recipe),
        [batch],
        sparsity=recipe.sparsity,
        scope=recipe.scope,
        rounds=recipe.rounds,
        allow_empty=True,
        sanity=None if recipe.sanity == "none" else recipe.sanity,
        seed=recipe.seed,
        rescale=None if recipe.rescale_between == "none" else recipe.rescale_between,
        norm=recipe.norm,
    )


def redraw_(model: nn.Module, recipe: Recipe, batch: tuple[torch.Tensor, torch.Tensor]) -> Masks:
    """Draw the weights anew in place, sparse and orthogonal, as many in each layer as the recipe's criterion keeps.

    Returns:
        The masks of these weights.

    Raises:
        InputError: The criterion leaves too little of a layer.
    """
    shares = pruned(model, recipe, batch).densities
    try:
        sparse_orthogonal_(
            model,
            recipe.activation or _ACTIVATION,
            scope=shares,
            mirrored=recipe.mirrored,
            sigma_b=recipe.sigma_b,
            generator=torch.Generator().manual_seed(derived("weights", recipe.seed)),
        )
    except InputError as error:
        raise InputError(
            f"{recipe.criterion} at sparsity={recipe.sparsity:g}: {error}, by a lower sparsity, more rounds or another "
            "criterion"
        ) from error
    return prune(model, Magnitude(), sparsity=None, scope=shares)


def layers(weights: Mapping[str, Weight]) -> list[dict[str, Any]]:
    """The prunable weights as the record lists them."""
    return [{"name": w.name, "kind": w.kind, "shape": list(w.shape), "total": w.numel} for w in weights.values()]


def _pruning(model: nn.Module, recipe: Recipe, masks: Masks, seconds: float) -> Event:
    counts = masks.counts
    described = [layer | {"kept": counts[layer["name"]][0]} for layer in layers(prunable(model))]
    return {
        "event": "prune",
        "criterion": recipe.criterion,
        "sparsity": recipe.sparsity,
        "total": masks.total,
        "kept": masks.kept,
        "seconds": seconds,
        "layers": described,
    }


def _moments(stage: str, values: Mapping[str, float]) -> Event:
    layers = [{"name": name, "value": value} for name, value in values.items()]
    return {"event": "moments", "stage": stage, "layers": layers}


def _rescaling(recipe: Recipe, factors: Mapping[str, torch.Tensor]) -> Event:
    # The factors of a weight's kernel taps or neurons are listed as their mean.
    layers = [{"name": name, "factor": float(value.mean())} for name, value in factors.items()]
    return {"event": "rescale", "method": recipe.rescale, "layers": layers}
