"""All results below a folder: of sweeps, and of runs that have ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.sweep import EXPORTED, read
from pruneinit.experiments.work import CELLS
from pruneinit.report import Outcome, RunRecord, read_run
from pruneinit.report.read import METRICS
from pruneinit.report.words import several


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        outcomes: The results, each recipe once for each row that it was computed for.
        sources: How many results each folder of a sweep holds; of runs that have ended, how many there are.
        left_out: How many results of each folder are of another version of pruneinit, or were altered.
        unread: Folders of runs that have not ended or cannot be read.
    """

    outcomes: tuple[Outcome, ...]
    sources: Mapping[str, int]
    left_out: Mapping[str, int]
    unread: tuple[str, ...]


def sweeps_below(root: str | os.PathLike[str]) -> list[Path]:
    """The folders that hold results of sweeps, `root` and all below it."""
    exported = {path.parent for path in Path(root).rglob(EXPORTED)}
    single = {path.parent.parent for path in Path(root).rglob(f"{CELLS}/[!.]*.json")}
    return sorted(exported | single)


def find_results(root: str | os.PathLike[str]) -> Found:
    """Read the results of all sweeps, and of all runs that have ended, below a folder.

    A recipe that two sweeps hold for one row counts once: a computed result goes before a failed one, and the first
    folder by name before the others.

    Raises:
        InputError: There is no result, or one is damaged.
    """
    root = Path(root)
    taken: dict[tuple[str, str | None], Outcome] = {}
    sources: dict[str, int] = {}
    left_out: dict[str, int] = {}
    for folder in sweeps_below(root):
        results, others = read(folder)
        sources[_name(folder, root)] = len(results)
        if others:
            left_out[_name(folder, root)] = others
        for result in results.values():
            _take(taken, _of_result(result, folder))
    runs, unread = 0, []
    for folder in sorted(path.parent for path in root.rglob(METRICS)):
        try:
            record = read_run(folder)
            recipe = Recipe.from_mapping(record.recipe)
        except InputError:
            unread.append(_name(folder, root))
            continue
        if record.result is None:
            unread.append(_name(folder, root))
        elif recipe.hash != record.run:
            left_out[_name(folder, root)] = 1
        else:
            runs += 1
            _take(taken, _of_run(record, recipe))
    if runs:
        sources[several(runs, "run")] = runs
    if not taken:
        others = sum(left_out.values())
        hint = f"; {others} are of another version of pruneinit, sweep again" if others else "; sweep first"
        raise InputError(f"there is no result below {root} that can be shown{hint}")
    return Found(tuple(taken.values()), sources, left_out, tuple(unread))


def _take(taken: dict[tuple[str, str | None], Outcome], one: Outcome) -> None:
    before = taken.get((one.name, one.row))
    if before is None or (before.failed and not one.failed):
        taken[one.name, one.row] = one


def _of_result(result: Result, folder: Path) -> Outcome:
    result.refuse_damaged(str(folder))
    return Outcome(
        result.cell,
        result.row,
        Recipe.from_mapping(result.recipe).to_mapping(),
        f"pruneinit {result.version} ({result.code}), torch {result.torch}",
        why=(result.why or "failed, without a traceback") if result.failed else "",
        diverged=bool(result.diverged),
        densities=result.densities,
        empty=result.empty,
        test_accuracy=result.test_accuracy,
        best_test_accuracy=result.best_test_accuracy,
        validation_accuracy=result.validation_accuracy,
    )


def _of_run(record: RunRecord, recipe: Recipe) -> Outcome:
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return Outcome(
        recipe.hash,
        None,
        recipe.to_mapping(),
        f"{versions} (runs)",
        test_accuracy=record.test_accuracy,
        best_test_accuracy=record.best[1] if record.best else None,
        validation_accuracy=record.epochs[-1].validation_accuracy if record.epochs else None,
        diverged=record.diverged,
        densities={layer.name: layer.density for layer in record.layers},
        empty=tuple(layer.name for layer in record.empty),
    )


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
