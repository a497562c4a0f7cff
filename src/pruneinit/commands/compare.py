"""`pruneinit compare`: one network, pruned in several ways."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jsonargparse import Namespace

from pruneinit.commands.recipes import recipe_of, run_shown
from pruneinit.data import load
from pruneinit.experiments import ways, without_chosen
from pruneinit.flags import in_files
from pruneinit.report import read_run, result_table, write_comparison
from pruneinit.screen import open_console


def carry_out(settings: Namespace) -> None:
    """Carry out a run for each way, and write the page that sets them side by side."""
    recipe, left_out = without_chosen(recipe_of(settings), in_files(settings.config))
    console = open_console()
    tell = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    if left_out:
        tell(f"a comparison chooses for itself what the recipe says of {', '.join(left_out)}")
    runs = []
    for label, way in ways(recipe, load(recipe.data, settings.data_dir), tell):
        runs.append((label, run_shown(way, settings, label)))
    title = f"{recipe.model} on {recipe.data}, {100 * recipe.sparsity:.4g} % of the weights removed before training"
    page = Path(settings.out) / f"comparison-{recipe.hash}.html"
    write_comparison(runs, page, title=title)
    console.print(result_table([(label, read_run(folder)) for label, folder in runs], title=title))
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
