"""Recipes, and the runs made from them."""

from pruneinit.experiments.compare import three_ways, without_chosen
from pruneinit.experiments.look import look
from pruneinit.experiments.pace import Pace
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.run import run
from pruneinit.experiments.start import Start

__all__ = ["Pace", "Recipe", "Start", "look", "run", "three_ways", "without_chosen"]
