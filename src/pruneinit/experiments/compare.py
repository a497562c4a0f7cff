"""Why this project exists, on the user's own data and network: the same pruning three ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pruneinit.data import Dataset
from pruneinit.errors import InputError
from pruneinit.experiments.prepare import network, scoring_batch
from pruneinit.experiments.recipe import Recipe
from pruneinit.residual import find_residuals

# What a comparison chooses itself, and how.
_CHOSEN = {
    "sigma_w": "has no Gaussian of your own among its three ways",
    "init": "takes PyTorch's ordinary initialisation and then the Edge of Chaos",
    "residuals": "shows the Stable ResNet as the third way of a residual network",
    "fold": "keeps the rescaling of its third way as a factor",
    "rescale": "shows rescaling by layer as the third way of a plain network",
}


def three_ways(recipe: Recipe, dataset: Dataset) -> list[tuple[str, Recipe]]:
    """The recipe with ordinary initialisation, on the Edge of Chaos, and with the paper's cure on top.

    The cure is rescaling for plain networks, and the Stable ResNet for residual ones, which live on the Edge of Chaos
    before and after pruning and need no rescaling (Hayou et al. 2021, sections 3.3 and 4).

    Args:
        recipe: What the three have in common. What they differ in must have its default: `init`, `sigma_w`,
            `residuals`, `rescale`, `fold`. `sigma_b` is that of the Edge of Chaos.
        dataset: Its data, on which the network is looked at for residual branches.

    Returns:
        Labels and recipes.

    Raises:
        InputError: The recipe sets what the three ways differ in, or prunes nothing.
    """
    _refuse_ignored(recipe)
    plain = dataclasses.replace(recipe, init="default", sigma_b=None)
    edge = dataclasses.replace(recipe, init="edge")
    ways = [("ordinary initialisation", plain), ("Edge of Chaos", edge)]
    if len(find_residuals(network(edge, dataset), scoring_batch(edge, dataset)[0][:1])):
        return [*ways, ("Edge of Chaos + Stable ResNet", dataclasses.replace(edge, residuals="stable"))]
    return [*ways, ("Edge of Chaos + rescaling", dataclasses.replace(edge, rescale="layer"))]


def without_chosen(recipe: Recipe, given: Mapping[str, Any]) -> tuple[Recipe, list[str]]:
    """A recipe without those of some settings that a comparison chooses itself, so that any recipe can be compared.

    Args:
        recipe: Any recipe.
        given: Settings that may be left out, as far as the recipe has these values: what a file says.

    Returns:
        The recipe with these settings at their defaults, and what was left out, in words.

    Example:
        >>> without_chosen(Recipe(model="resnet32", residuals="stable"), {"residuals": "stable"})[1]
        ["residuals='stable'"]
    """
    usual = Recipe()
    chosen = {name: getattr(recipe, name) for name in _CHOSEN if name in given}
    left_out = {n: v for n, v in chosen.items() if v == given[n] and v != getattr(usual, n)}
    plain = dataclasses.replace(recipe, **{name: getattr(usual, name) for name in left_out})
    return plain, [f"{name}={value!r}" for name, value in left_out.items()]


def _refuse_ignored(recipe: Recipe) -> None:
    if recipe.criterion == "none":
        raise InputError("a comparison prunes the network three ways, got criterion='none'; give another criterion")
    usual = Recipe()
    for name, instead in _CHOSEN.items():
        given = getattr(recipe, name)
        if given != getattr(usual, name):
            raise InputError(
                f"a comparison does not take {name}={given!r}, it {instead}; leave {name} out, or use 'pruneinit run'"
            )
