"""`pruneinit report`: the pages of what was computed."""

from __future__ import annotations

import contextlib
from pathlib import Path

from jsonargparse import Namespace

from pruneinit.errors import InputError
from pruneinit.experiments.results import find_results, sweeps_below
from pruneinit.paper import at_sparsities
from pruneinit.report import RESULTS, write_index, write_report, write_results
from pruneinit.screen import open_console


def carry_out(settings: Namespace) -> None:
    """Write the page of a run, or of all that is below a folder."""
    folder = Path(settings.folder)
    pages = []
    if (folder / "recipe.yaml").is_file():
        pages.append(write_report(folder))
    else:
        recipes, sweeps = sorted(folder.glob("*/recipe.yaml")), sweeps_below(folder)
        if folder.is_dir() and not recipes and not sweeps:
            raise InputError(
                f"{folder} holds no runs and no results of a sweep: expected folders with a recipe.yaml, as "
                "'pruneinit run' makes them, or with a cells.jsonl, as 'pruneinit sweep' does"
            )
        if sweeps:
            found = find_results(folder)
            title = f"Results in {folder.resolve().name}"
            page = write_results(
                found.outcomes,
                folder / RESULTS,
                title,
                sources=found.sources,
                left_out=found.left_out,
                unread=found.unread,
                published=at_sparsities(),
            )
            pages.append(page)
        if recipes or not sweeps:
            for recipe in recipes:
                with contextlib.suppress(InputError):  # the index names the runs that cannot be read, and why
                    write_report(recipe.parent)
            pages.append(write_index(folder))
    for page in pages:
        open_console().print(f"report: {page}", soft_wrap=True, highlight=False)
