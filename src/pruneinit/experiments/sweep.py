"""A sweep: the cells of a grid carried out in a folder that survives anything."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result
from pruneinit.experiments.executors import Executor, serial
from pruneinit.experiments.faults import refuse_impossible
from pruneinit.experiments.grid import Cell, Grid, choose
from pruneinit.experiments.jointly import jointly
from pruneinit.experiments.lock import claimed
from pruneinit.experiments.patience import Patience
from pruneinit.experiments.work import CELLS, Work
from pruneinit.files import write_text
from pruneinit.train import distributed
from pruneinit.train.distributed import world_size

EXPORTED = "cells.jsonl"


@dataclass(frozen=True)
class Standing:
    """How far a sweep is.

    Attributes:
        cells: Of the grid, or of one shard of it.
        results: Those that there are, by the hash of their cell.
        left_out: How many results in the folder are of another version of pruneinit, or were altered.
    """

    cells: tuple[Cell, ...]
    results: Mapping[str, Result]
    left_out: int = 0

    @property
    def done(self) -> list[Cell]:
        """The cells that were computed."""
        return [cell for cell in self.cells if cell.hash in self.results and not self.results[cell.hash].failed]

    @property
    def failed(self) -> list[Cell]:
        """The cells that raised an error."""
        return [cell for cell in self.cells if cell.hash in self.results and self.results[cell.hash].failed]

    @property
    def missing(self) -> list[Cell]:
        """The cells without a result."""
        return [cell for cell in self.cells if cell.hash not in self.results]

    @property
    def versions(self) -> dict[str, int]:
        """How many results each version of the code gave: of pruneinit, with a hash of its source, and of torch."""
        found = [self.results[cell.hash] for cell in self.cells if cell.hash in self.results]
        return dict(Counter(f"pruneinit {one.version} ({one.code}), torch {one.torch}" for one in found))

    def with_result(self, result: Result) -> Standing:
        """The standing once this result is there too."""
        return Standing(self.cells, {**self.results, result.cell: result}, self.left_out)

    def chosen(self, axis: str) -> list[Cell]:
        """The cells that `choose` takes by these results."""
        return choose(self.cells, axis, lambda cell: self.results[cell.hash].validation_accuracy)


OnResult = Callable[[Standing, Cell, Result], None]
OnElsewhere = Callable[[Cell], None]


def standing(grid: Grid, folder: str | os.PathLike[str], shard: tuple[int, int] = (1, 1)) -> Standing:
    """How far the sweep of a grid is in a folder, which need not exist.

    Args:
        grid: What is to be carried out.
        folder: Where results are: `cells/HASH.json`, and `cells.jsonl` with a result a line; the former go first.
        shard: (i, n): the i-th of n parts of the grid, i from 1. Each cell is in one of them, whatever there is by now.

    Raises:
        InputError: The grid or the shard is impossible, or a file is damaged.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise InputError(f"a shard must be i/n with i in 1..n, got {part}/{parts}; the first of four is 1/4")
    cells = grid.cells()
    # By hash, so that every part has its share of the long cells.
    mine = {cell.hash for cell in sorted(cells, key=lambda cell: cell.hash)[part - 1 :: parts]}
    results, left_out = read(Path(folder))
    return Standing(tuple(cell for cell in cells if cell.hash in mine), results, left_out)


def sweep(
    grid: Grid,
    folder: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    shard: tuple[int, int] = (1, 1),
    retry: bool = False,
    data_root: str | None = None,
    device: str | None = None,
    measure: bool = False,
    order: Callable[[Cell], Any] | None = None,
    patience: int = 4,
    on_result: OnResult | None = None,
    on_elsewhere: OnElsewhere | None = None,
) -> Standing:
    """Carry out what is missing of a grid, and nothing else.

    It may be killed at any moment and started again, here or where the folder was copied to, and several may work in
    one folder: no cell is computed twice at a time. A cell that raises an error has failed, and the others go on;
    where the very first ones all fail alike, it is not the cells that are wrong, and nothing else is begun. Under
    torchrun all processes train each cell together: rank 0 claims it, writes its result and calls back.

    Args:
        grid: What to carry out.
        folder: Where results are; it is made.
        executor: How; None is one cell after the other in this process, which it must be under torchrun.
        shard: See `standing`.
        retry: Compute anew what has failed.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.
        measure: Measure each network before it is trained, as `trainability` does, for `Result.measured`. It is no part
            of the recipe; results that are there stay as they are.
        order: A key to sort cells by, those to begin with first; None is their order in the grid.
        patience: Stop where the first so many cells of this call all fail with the same last line, unless a failed cell
            of an earlier call has that line too: who calls again wants to go on. 0 never stops.
        on_result: Called with the standing after each cell that this call has seen done, the cell, and its result.
        on_elsewhere: Called with each cell that another sweep has at work.

    Returns:
        The standing at the end. What another sweep has at work just then is missing in it.

    Raises:
        InputError: The grid is impossible, data are missing or go missing on the way, the first cells all fail alike,
            or files cannot be read or written. Results that were written before stay.

    Example:
        >>> import tempfile
        >>> shared = {"depth": 3, "width": 16, "training": {"epochs": 1, "augment": False}}
        >>> grid = Grid("sparsities", shared, over={"sparsity": [0.5, 0.9]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [result.survivors for result in sweep(grid, folder, device="cpu").results.values()]
        [720, 144]
    """
    call = _Call(
        grid,
        Path(folder),
        executor or serial(),
        shard,
        retry,
        data_root,
        device,
        measure,
        order,
        patience,
        on_result,
        on_elsewhere,
    )
    if world_size() == 1:  # without a look at the device: a cluster's machines may have others
        return _carry_out(call, lambda work: work)
    with distributed(device) as world:
        return jointly(world, partial(_carry_out, call))


@dataclass(frozen=True)
class _Call:
    """The arguments of `sweep`."""

    grid: Grid
    folder: Path
    executor: Executor
    shard: tuple[int, int]
    retry: bool
    data_root: str | None
    device: str | None
    measure: bool
    order: Callable[[Cell], Any] | None
    patience: int
    on_result: OnResult | None
    on_elsewhere: OnElsewhere | None


def _carry_out(call: _Call, shared: Callable[[Work], Work]) -> Standing:
    now = standing(call.grid, call.folder, call.shard)
    stale = {cell.hash: now.results[cell.hash] for cell in now.failed} if call.retry else {}
    todo = [cell for cell in now.cells if cell.hash not in now.results or cell.hash in stale]
    todo = todo if call.order is None else sorted(todo, key=call.order)
    root = None if call.data_root is None else os.path.abspath(call.data_root)  # workers may be in another folder
    refuse_impossible({str(cell): cell.recipe for cell in todo}, root)
    work = shared(Work(call.folder, stale, root, call.device, call.measure))
    known = {now.results[cell.hash].why for cell in now.failed if cell.hash not in stale}
    seen = Patience(call.patience, known)
    while todo:
        elsewhere, before = [], len(todo)
        for cell, result in call.executor(todo, work):
            if result is None:
                elsewhere.append(cell)
                if call.on_elsewhere is not None:
                    call.on_elsewhere(cell)
                continue
            if result.failed:
                work.keep(result)  # of a process that died nobody has written it
            now = now.with_result(result)
            if call.on_result is not None:
                call.on_result(now, cell, result)
            seen.add(result)
            if seen.over:
                refuse_impossible({str(cell): cell.recipe for cell in now.missing}, root)
            seen.refuse(len(now.missing))
        # Another sweep has these; what it has ended or left meanwhile is taken in, and the rest is its own.
        todo = elsewhere if len(elsewhere) < before else []
    _tidy(call.folder)
    return now


def read(folder: Path) -> tuple[dict[str, Result], int]:
    """The results in a folder by their hash, and how many were left out as they are of another version.

    Raises:
        InputError: A file cannot be read, or is damaged.
    """
    found: dict[str, Result] = {}
    others: set[str] = set()
    for name, where, text in _texts(folder):
        try:
            result = Result.from_json(text)
        except InputError as error:
            raise InputError(f"{where} is damaged: {error}") from error
        if result is None or name not in ("", result.cell):
            others.add(name or json.loads(text)["cell"])  # the same one may be in a file of its own too
        else:
            found[result.cell] = result
    return dict(sorted(found.items())), len(others - set(found))


def export(folder: str | os.PathLike[str]) -> Path:
    """Write all results of a folder to its `cells.jsonl`, the form to commit, a line each, sorted by hash.

    Raises:
        InputError: A file cannot be read or written, or is damaged.
    """
    results, _ = read(Path(folder))
    path = Path(folder) / EXPORTED
    write_text(path, "".join(f"{result.to_json()}\n" for result in results.values()))
    return path


def _tidy(folder: Path) -> None:
    """Remove the locks of sweeps that were killed after they had written a result."""
    for lock in (folder / CELLS).glob(".*.lock"):
        with suppress(InputError), claimed(lock):
            pass


def _texts(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The hash in the file's name, the place, and the text of each result; those of `cells.jsonl` first."""
    try:
        exported = folder / EXPORTED
        if exported.is_file():
            # Not splitlines: a traceback may hold other characters that end a line, such as U+2028.
            text = exported.read_text(encoding="utf-8").removesuffix("\n")
            lines = text.split("\n") if text else []
            for number, line in enumerate(lines, start=1):
                yield "", f"{exported}, line {number},", line
        for file in sorted((folder / CELLS).glob("[!.]*.json")):
            yield file.stem, str(file), file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the results in {folder}: {error}") from error
