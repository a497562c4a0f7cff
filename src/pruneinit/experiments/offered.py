"""The criteria that a recipe can name: a line each, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pruneinit.criteria import Criterion, Force, IterativeSnip, Magnitude, Random, Snip

if TYPE_CHECKING:
    from pruneinit.experiments.recipe import Recipe

OFFERED: Mapping[str, Callable[[Recipe], Criterion]] = {
    "random": lambda recipe: Random(seed=recipe.seed),
    "magnitude": lambda recipe: Magnitude(),
    "snip": lambda recipe: Snip(norm=recipe.norm),
    "iterative_snip": lambda recipe: IterativeSnip(norm=recipe.norm),
    "force": lambda recipe: Force(norm=recipe.norm),
}


def criterion(recipe: Recipe) -> Criterion:
    """The recipe's criterion with its settings; the recipe prunes.

    Example:
        >>> from pruneinit.experiments.recipe import Recipe
        >>> criterion(Recipe(criterion="random", seed=3))
        Random(seed=3)
    """
    return OFFERED[recipe.criterion](recipe)


def rounds(recipe: Recipe) -> int:
    """How many rounds the recipe prunes in: its own, or those of its criterion, 1 where it has none.

    Example:
        >>> from pruneinit.experiments.recipe import Recipe
        >>> rounds(Recipe(criterion="force")), rounds(Recipe(criterion="force", rounds=5)), rounds(Recipe())
        (60, 5, 1)
    """
    if recipe.rounds is not None:
        return recipe.rounds
    own = 1 if recipe.criterion == "none" else getattr(criterion(recipe), "rounds", 1)
    return int(own)
