"""A look at a network before it is trained: one of ours, or one that the user's own function builds."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import warnings

import torch
from torch import nn

from pruneinit.calibration import Unit
from pruneinit.data import load
from pruneinit.diagnosis import Diagnosis, diagnose
from pruneinit.errors import InputError, unknown
from pruneinit.experiments.offered import criterion
from pruneinit.experiments.prepare import held_out, network, pruned, redraw_, scoring_batch, stabilize_
from pruneinit.experiments.recipe import Recipe
from pruneinit.masks import Masks
from pruneinit.seeds import derived


def look(
    recipe: Recipe,
    *,
    builder: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
) -> Diagnosis:
    """Prune a network as a recipe says, and diagnose it; nothing is trained or written.

    Args:
        recipe: Data, network and pruning; of `rescale` only whether it is `none` counts: where it is not, the verdict
            is about the network with calibrated factors.
        builder: `package.module:function`, which takes no arguments and returns a model that takes the images of the
            recipe's data set, with its own initialisation, for which PyTorch's random numbers are seeded with the
            recipe's seed; None for the recipe's network.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache.
        device: Where to compute.

    Returns:
        The diagnosis of the dense network and its masks.

    Raises:
        InputError: The recipe cannot be carried out, or there is no such function, or what it returns is no model.

    Example:
        >>> look(Recipe(depth=3, width=20, activation="tanh", sparsity=0.5)).collapsed
        False
    """
    dataset = held_out(recipe, load(recipe.data, data_root)).to(device)
    model = (network(recipe, dataset) if builder is None else _drawn(builder, recipe.seed)).to(device)
    batch = scoring_batch(recipe, dataset)
    if recipe.residuals == "stable":
        stabilize_(model, batch[0][:1], builder or recipe.model)
    masks = _masks(model, recipe, batch, redraw=recipe.redraws and builder is None)
    scored = None if recipe.criterion == "none" else criterion(recipe)
    unit: Unit = "neuron" if recipe.rescale == "neuron" else "layer"
    found = diagnose(
        model, [batch], masks, criterion=scored, activation=recipe.activation, rescale=unit, norm=recipe.norm
    )
    return found if recipe.rescale == "none" else dataclasses.replace(found, judge="rescaled")


def built_by(spec: str) -> nn.Module:
    """The model that `package.module:function` returns; modules in the current folder are found too.

    Raises:
        InputError: The form is another, there is no such module or function, it fails, or returns no model.
    """
    module, colon, name = spec.partition(":")
    if not (colon and module and name):
        raise InputError(f"a network is given as package.module:function, got {spec!r}; recipes go behind --config")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a script that exits would else choose our exit code
        raise InputError(
            f"cannot import {module}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; "
            "run from the folder that holds it, or set PYTHONPATH"
        ) from error
    function = getattr(imported, name, None)
    if not callable(function):
        names = [n for n, value in vars(imported).items() if callable(value) and not n.startswith("_")]
        raise unknown(f"function of {module}", name, names)
    try:
        model = function()
    except (Exception, SystemExit) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{spec} failed: {type(error).__name__}: {reason}; it is called without arguments") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{spec} returned {type(model).__name__}: expected a torch.nn.Module")
    return model


def _drawn(builder: str, seed: int) -> nn.Module:
    """The user's network, the same for the same seed; PyTorch's random numbers go on as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived("network", seed))
        return built_by(builder)


def _masks(model: nn.Module, recipe: Recipe, batch: tuple[torch.Tensor, torch.Tensor], *, redraw: bool) -> Masks | None:
    if recipe.criterion == "none":
        return None
    with warnings.catch_warnings():  # of scores that are all 0: the diagnosis says so itself
        warnings.simplefilter("ignore", UserWarning)
        return redraw_(model, recipe, batch) if redraw else pruned(model, recipe, batch)
