"""Why this project exists, on the user's own data and network: the same pruning three ways."""

from __future__ import annotations

import dataclasses

from pruneinit.data import Dataset
from pruneinit.experiments.prepare import network, scoring_batch
from pruneinit.experiments.recipe import Recipe
from pruneinit.residual import find_residuals


def three_ways(recipe: Recipe, dataset: Dataset) -> list[tuple[str, Recipe]]:
    """The recipe with ordinary initialisation, on the Edge of Chaos, and with the paper's cure on top.

    The cure is rescaling for plain networks, and the Stable ResNet for residual ones, which live on the Edge of Chaos
    before and after pruning and need no rescaling (Hayou et al. 2021, sections 3.3 and 4).

    Args:
        recipe: What the three have in common; its `init`, `residuals` and `rescale` do not matter.
        dataset: Its data, on which the network is looked at for residual branches.

    Returns:
        Labels and recipes.
    """
    changes = {"sigma_w": None, "sigma_b": None, "residuals": "plain", "rescale": "none", "fold": False}
    plain = dataclasses.replace(recipe, init="default", **changes)  # type: ignore[arg-type]
    edge = dataclasses.replace(plain, init="edge", sigma_b=recipe.sigma_b)
    ways = [("ordinary initialisation", plain), ("Edge of Chaos", edge)]
    if len(find_residuals(network(edge, dataset), scoring_batch(edge, dataset)[0][:1])):
        return [*ways, ("Edge of Chaos + Stable ResNet", dataclasses.replace(edge, residuals="stable"))]
    return [*ways, ("Edge of Chaos + rescaling", dataclasses.replace(edge, rescale="layer"))]
