"""`pruneinit reproduce`: a figure or table of the paper, or the page of all."""

from __future__ import annotations

from functools import partial

from jsonargparse import Namespace

from pruneinit.errors import InputError
from pruneinit.following import following
from pruneinit.paper import STUDIES, Budget, Means, again, parse_budget, reproduce, study, write_results_page
from pruneinit.screen import open_console, say


def carry_out(settings: Namespace) -> int:
    """Carry out a study as far as its budget allows, or one cell of it anew, or write the page of all studies."""
    console = open_console()
    if settings.study == "docs":
        if settings.cell is not None:
            raise InputError("docs is a page of all studies and has no cells: name a study")
        page = write_results_page(STUDIES.values(), settings.out, settings.page)
        console.print(f"page: {page}", soft_wrap=True, highlight=False)
        return 0
    asked = study(settings.study)
    if settings.cell is not None:
        found = again(
            asked,
            settings.out,
            settings.cell,
            scale=settings.scale,
            data_root=settings.data_dir,
            device=settings.device,
        )
        for line in found.lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        return int(found.now.failed)
    if settings.workers is not None and settings.workers < 1:
        raise InputError(f"workers must be 1 or more, got {settings.workers}")
    seconds = parse_budget(settings.budget)
    budget = Budget(seconds)
    means = Means(
        stop=budget.over,
        workers=settings.workers,
        data_root=settings.data_dir,
        device=settings.device,
        retry=settings.retry,
        following=partial(following, budget=budget.left),
        on_line=say,
    )
    written = reproduce(asked, settings.out, means if seconds else None, scale=settings.scale)
    for line in written.findings.progress:
        say(f"{asked.name}: {line}")
    if written.findings.done < written.findings.planned:
        how = "the same command goes on" if seconds else "with a --budget it goes on"
        say(f"{how} with the cells that are missing")
    console.print(f"table and figure: {written.page}", soft_wrap=True, highlight=False)
    return 0
