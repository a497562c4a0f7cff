"""`pruneinit run`: one recipe, from initialisation to report."""

from __future__ import annotations

from jsonargparse import Namespace

from pruneinit.commands.recipes import recipe_of, run_shown
from pruneinit.report import read_run, result_table
from pruneinit.screen import open_console


def carry_out(settings: Namespace) -> None:
    """Carry out the recipe, and show what came out."""
    folder = run_shown(recipe_of(settings), settings)
    console = open_console()
    console.print(result_table([(folder.name, read_run(folder))]))
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
