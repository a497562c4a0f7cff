"""`pruneinit diagnose`: will a pruned network train?"""

from __future__ import annotations

from jsonargparse import Namespace

from pruneinit.commands.recipes import recipe_of
from pruneinit.experiments import look
from pruneinit.report import check_diagnosis, diagnosis_table, facts, write_diagnosis
from pruneinit.screen import open_console
from pruneinit.train import distributed

_COLLAPSED = 3


def carry_out(settings: Namespace) -> int:
    """Prune, measure and tell; returns 3 for a collapse where that is asked for."""
    recipe = recipe_of(settings)
    if settings.page is not None:
        check_diagnosis(settings.page)  # before the work
    with distributed(settings.device) as world:  # checks that there is such a device
        device = world.device
    found = look(recipe, builder=settings.network, data_root=settings.data_dir, device=device)
    title = f"{settings.network or recipe.model} on {recipe.data}, {100 * found.sparsity:.4g} % removed"
    console = open_console()
    console.print(diagnosis_table(found, title=title))
    for name, value in facts(found):
        console.print(f"{name}: {value}", highlight=False)
    for line in ("", found.verdict, *found.advice):
        console.print(line, highlight=False)
    if settings.page is not None:
        page = write_diagnosis(found, settings.page, title)
        console.print(f"page: {page}", soft_wrap=True, highlight=False)
    return _COLLAPSED if settings.fail_on_collapse and found.collapsed else 0
