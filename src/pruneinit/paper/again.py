"""One cell of a study computed anew, beside what its results say of it: for whoever does not believe them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result, run_one
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.sweep import EXPORTED, read
from pruneinit.paper.study import Study
from pruneinit.report.words import several

_SHOWN = 5


@dataclass(frozen=True)
class Again:
    """A cell, and what it gave.

    Attributes:
        cell: Which.
        recorded: Its result in the folder; None where there is none.
        now: Its result now, trained alone.
        left_out: How many results in the folder are of another version of pruneinit, or were altered.
    """

    cell: Cell
    recorded: Result | None
    now: Result
    left_out: int = 0

    @property
    def lines(self) -> list[str]:
        """What to say of it: the cell, and each accuracy and measurement, recorded and now."""
        said = [f"cell {self.cell.hash}: {self.cell}"]
        for when, one in (("recorded", self.recorded), ("now", self.now)):
            if one is None:
                others = f"; left out: {several(self.left_out, 'result')} of other versions or altered"
                said.append(f"{when}: nothing{others if self.left_out else ''}")
                continue
            beside = f", one of {one.beside} trained side by side" if one.beside > 1 else ""
            code = f"pruneinit {one.version} ({one.code})"
            said.append(f"{when}: {_accuracies(one)}, {one.seconds:.0f} s, {code}{beside}")
        before = self.recorded.measured if self.recorded else None
        for name, value in (self.now.measured or {}).items():
            recorded = "" if before is None else f"recorded {_shown(before.get(name))}, "
            said.append(f"  {name}: {recorded}now {_shown(value)}")
        return said


def again(
    study: Study,
    out: str | os.PathLike[str],
    words: str,
    *,
    scale: str = "small",
    data_root: str | None = None,
    device: str | None = None,
) -> Again:
    """Compute one cell of a study anew. No file is written.

    Args:
        study: Which.
        out: The folder of all studies, with what is recorded.
        words: Which cell: its hash, or its row and values as the progress of `reproduce` names them; some of
            them are enough where only one cell has all.
        scale: As in `reproduce`.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.

    Raises:
        InputError: The study trains no networks, no cell or several are meant, or files are damaged.
    """
    if study.results_file != EXPORTED:
        raise InputError(f"{study.name} trains no networks, and has no cells to compute anew")
    cell = meant(study.grid(scale).cells(), words)
    results, left_out = read(study.folder(Path(out), scale))
    recorded = results.get(cell.hash)
    if recorded is not None:
        recorded.refuse_damaged(study.name)
    now = run_one(cell.recipe, row=cell.row, data_root=data_root, device=device, measure=study.measure)
    return Again(cell, recorded, now, left_out)


def meant(cells: Sequence[Cell], words: str) -> Cell:
    """The one cell of a hash or of some words.

    Raises:
        InputError: There is none, or there are several.

    Example:
        >>> from pruneinit.experiments import Grid
        >>> cells = Grid("g", rows={"a": {}, "a, b": {"depth": 3}}, over={"seed": [0, 1]}).cells()
        >>> str(meant(cells, "a, b, seed=1")), str(meant(cells, "a, seed=1"))
        ('a, b, seed=1', 'a, seed=1')
    """
    asked = set(_parts(words))
    exact = [cell for cell in cells if cell.hash == words or set(_parts(str(cell))) == asked]
    found = exact or [cell for cell in cells if asked and asked <= set(_parts(str(cell)))]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"no cell {words!r}: expected a hash, or words as in {str(cells[0])!r}")
    few = "; ".join(map(str, found[:_SHOWN]))
    raise InputError(f"{len(found)} cells have {words!r}: {few}{'; ...' if len(found) > _SHOWN else ''}")


def _parts(words: str) -> list[str]:
    return [part.strip() for part in words.split(",") if part.strip()]


def _accuracies(one: Result) -> str:
    if one.test_accuracy is None:
        return f"failed, {one.why}"
    held_out = "" if one.validation_accuracy is None else f", {100 * one.validation_accuracy:.2f}% on held-out images"
    return f"test accuracy {100 * one.test_accuracy:.2f}%{held_out}{', diverged' if one.diverged else ''}"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
