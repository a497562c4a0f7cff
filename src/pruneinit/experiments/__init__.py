"""Recipes, and the runs made from them."""

from pruneinit.experiments.compare import three_ways
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.run import run

__all__ = ["Recipe", "run", "three_ways"]
