"""What is done with one cell of a sweep: claim it, compute it, write its result."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result, run_one
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.lock import claimed
from pruneinit.files import write_text

CELLS = "cells"


@dataclass(frozen=True)
class Work:
    """What an executor does with a cell: all of it by a call, or in steps, of which only `compute` may be far away.

    Attributes:
        folder: Where results are.
        stale: Results that are to be replaced.
        data_root: As `sweep` is given it.
        device: As `sweep` is given it.
        measure: As `sweep` is given it.
    """

    folder: Path
    stale: Mapping[str, Result] = field(default_factory=dict)
    data_root: str | None = None
    device: str | None = None
    measure: bool = False

    def __call__(self, cell: Cell) -> Result | None:
        """Compute a cell and write its result, unless somebody has done so or is at it (None)."""
        with ExitStack() as held:
            mine, result = self.begin(cell, held)
            return self.keep(self.compute(cell)) if mine else result

    def begin(self, cell: Cell, held: ExitStack) -> tuple[bool, Result | None]:
        """Claim a cell until `held` is closed.

        Returns:
            Whether it is to be computed; if not, its result, or None where somebody else is at it.
        """
        file = _file(self.folder, cell.hash)
        if not held.enter_context(claimed(file.with_name(f".{cell.hash}.lock"))):
            return False, None
        if (there := self.there(cell)) is not None:
            return False, there
        for part in file.parent.glob(f".{file.name}.*"):  # of a sweep that was killed while it wrote
            with suppress(OSError):
                part.unlink()
        return True, None

    def compute(self, cell: Cell) -> Result:
        """Only compute a cell: no file is read but data, and none is written."""
        return run_one(cell.recipe, row=cell.row, data_root=self.data_root, device=self.device, measure=self.measure)

    def keep(self, result: Result) -> Result:
        """Write a result, unless it is there."""
        file = _file(self.folder, result.cell)
        if _there(file) != result:
            write_text(file, f"{result.to_json()}\n")
        return result

    def there(self, cell: Cell) -> Result | None:
        """The result of a cell as it is in the folder; None where there is none, or one that is to be replaced."""
        found = _there(_file(self.folder, cell.hash))
        return None if found == self.stale.get(cell.hash) else found


def _there(file: Path) -> Result | None:
    try:
        return Result.from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}; remove it, and sweep again") from error


def _file(folder: Path, name: str) -> Path:
    return folder / CELLS / f"{name}.json"
