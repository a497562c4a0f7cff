"""Why this project exists, on the user's own data and network: pruned as ever, and by the remedies one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from pruneinit.data import Dataset
from pruneinit.errors import InputError
from pruneinit.experiments.prepare import network, scoring_batch
from pruneinit.experiments.recipe import Recipe
from pruneinit.residual import find_residuals

_SPARSE_ORTHOGONAL: Mapping[str, Any] = {
    "init": "sparse_orthogonal",
    "criterion": "magnitude",
    "scope": "ends",
    "rounds": None,
    "rescale_between": "none",
}
# What a comparison chooses itself, and how.
_CHOSEN = {
    "sigma_w": "has no Gaussian of your own among its ways",
    "init": "takes PyTorch's ordinary initialisation and then the Edge of Chaos",
    "residuals": "shows the Stable ResNet as the third way of a residual network",
    "fold": "keeps the rescaling of its third way as a factor",
    "rescale": "shows rescaling by layer as the third way of a plain network",
}


def ways(
    recipe: Recipe, dataset: Dataset, tell: Callable[[str], object] = lambda line: None
) -> list[tuple[str, Recipe]]:
    """The recipe with ordinary initialisation, on the Edge of Chaos, with the paper's cure on top, and with ours.

    The paper's cure is rescaling for plain networks, and the Stable ResNet for residual ones, which live on the Edge of
    Chaos before and after pruning and need no rescaling (Hayou et al. 2021, sections 3.3 and 4). Ours, for plain
    networks, are layers that are sparse and orthogonal from the start, shared out by `ends` (docs/edge.md). It is left
    out where the recipe spoils masks to check them, since these are drawn at random, and where they cannot be drawn.

    Args:
        recipe: What all have in common. What they differ in must have its default: `init`, `sigma_w`, `residuals`,
            `rescale`, `fold`. `sigma_b` is that of the Edge of Chaos.
        dataset: Its data, on which the network is looked at for residual branches.
        tell: Called with a sentence about what is left out, and why.

    Returns:
        Labels and recipes.

    Raises:
        InputError: The recipe sets what they differ in, or prunes nothing.
    """
    _refuse_ignored(recipe)
    plain = dataclasses.replace(recipe, init="default", sigma_b=None)
    edge = dataclasses.replace(recipe, init="edge")
    found = [("ordinary initialisation", plain), ("Edge of Chaos", edge)]
    model = network(edge, dataset)
    if len(find_residuals(model, scoring_batch(edge, dataset)[0][:1])):
        return [*found, ("Edge of Chaos + Stable ResNet", dataclasses.replace(edge, residuals="stable"))]
    found.append(("Edge of Chaos + rescaling", dataclasses.replace(edge, rescale="layer")))
    sparse = dataclasses.replace(edge, **_SPARSE_ORTHOGONAL)
    if reason := _no_sparse_orthogonal(sparse, dataset):
        tell(f"left out is 'sparse orthogonal': {reason}")
        return found
    return [*found, ("sparse orthogonal", sparse)]


def _no_sparse_orthogonal(recipe: Recipe, dataset: Dataset) -> str:
    """Why there is no such way; empty where there is."""
    if recipe.sanity != "none":
        return f"its masks are drawn at random, so that sanity={recipe.sanity!r} would check nothing"
    try:
        network(recipe, dataset)
    except InputError as error:
        return str(error)
    return ""


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
    if "init" in left_out and recipe.mirrored is not None:
        left_out["mirrored"] = recipe.mirrored  # goes with it
    plain = dataclasses.replace(recipe, **{name: getattr(usual, name) for name in left_out})
    return plain, [f"{name}={value!r}" for name, value in left_out.items()]


def _refuse_ignored(recipe: Recipe) -> None:
    if recipe.criterion == "none":
        raise InputError("a comparison prunes the network, got criterion='none'; give another criterion")
    usual = Recipe()
    for name, instead in _CHOSEN.items():
        given = getattr(recipe, name)
        if given != getattr(usual, name):
            raise InputError(
                f"a comparison does not take {name}={given!r}, it {instead}; leave {name} out, or use 'pruneinit run'"
            )
