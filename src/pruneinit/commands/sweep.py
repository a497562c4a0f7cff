"""`pruneinit sweep`: what is missing of a grid of recipes."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from pruneinit.commands.executor import chosen
from pruneinit.errors import InputError, check_whole
from pruneinit.experiments import Grid
from pruneinit.experiments.beside import side_by_side
from pruneinit.experiments.sweep import export, standing, sweep
from pruneinit.following import following
from pruneinit.screen import open_console, say, speaks


def carry_out(settings: Namespace) -> None:
    """Carry out the cells that are missing, and gather the results."""
    part, _, parts = settings.shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise InputError(f"shard must be i/n, such as 1/4, got {settings.shard!r}")
    shard = int(part), int(parts)
    executor, at_once = chosen(
        settings.executor, settings.workers, settings.threads, settings.address, settings.gpus_per_cell
    )
    check_whole("beside", settings.beside)
    if settings.beside > 1 and settings.executor == "ray":
        raise InputError("beside is for --executor processes; a task of a cluster is one cell")
    executor = side_by_side(executor, settings.beside)
    grid = Grid.from_yaml(settings.grid)
    folder = Path(settings.out) / grid.name
    before = standing(grid, folder, shard)
    found = len(before.cells) - len(before.missing)
    say(f"{grid.name}: {len(before.cells)} cells, {found} there already, {len(before.failed)} of them failed")
    if before.left_out:
        say(f"{grid.name}: {before.left_out} results of other versions or altered ones are left out")
    with following(grid.name, before, at_once) as watch:
        now = sweep(
            grid,
            folder,
            executor=executor,
            shard=shard,
            retry=settings.retry,
            data_root=settings.data_dir,
            device=settings.device,
            patience=max(4, 2 * (at_once or 1)),
            on_result=watch.result,
            on_elsewhere=watch.elsewhere,
        )
    say(f"{grid.name}: {len(now.done)} done, {len(now.failed)} failed, {len(now.missing)} missing")
    for version, count in now.versions.items():
        say(f"{count} by {version}")
    if len(now.versions) > 1:
        say("results of several versions of the code are in one folder: compare them with care")
    if speaks():
        open_console().print(f"results: {export(folder)}", soft_wrap=True, highlight=False)
