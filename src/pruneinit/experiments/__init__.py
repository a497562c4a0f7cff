"""Recipes, the runs made from them, and sweeps over grids of them."""

from pruneinit.experiments.cell import Result, run_one
from pruneinit.experiments.compare import ways, without_chosen
from pruneinit.experiments.grid import Cell, Grid
from pruneinit.experiments.look import look
from pruneinit.experiments.pace import Pace
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.run import run
from pruneinit.experiments.start import Start

__all__ = [
    "Cell",
    "Grid",
    "Pace",
    "Recipe",
    "Result",
    "Start",
    "look",
    "run",
    "run_one",
    "ways",
    "without_chosen",
]
