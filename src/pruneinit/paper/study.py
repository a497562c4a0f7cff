"""A study: one figure or table of the paper, what is computed for it, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pruneinit.data import data_root
from pruneinit.errors import InputError
from pruneinit.experiments.beside import side_by_side
from pruneinit.experiments.executors import Stop, cores, processes, serial
from pruneinit.experiments.grid import Cell, Grid
from pruneinit.experiments.progress import Watch
from pruneinit.experiments.sweep import EXPORTED, Standing, export, standing, sweep
from pruneinit.experiments.work import CELLS
from pruneinit.paper.entries import Entry, at_chosen, entries
from pruneinit.paper.order import Order, extremes_first
from pruneinit.paper.published import Reported, published
from pruneinit.paper.tables import csv_rows, entry_table, progress_of, unmeasured

NOTE = (
    "Accuracies are test accuracies in percent, the mean ± the standard deviation over seeds. *Last epoch* is after "
    "all epochs; *best epoch* is picked on test data, as published figures often are. *Difference* is the last epoch "
    "less the published number. Published numbers are from the tables of the paper; their last digits may be off."
)
_BESIDE = 8  # processes that share a GPU, which one network of small images leaves idle most of the time
GRIDS = Path(__file__).parent / "grids"

Following = Callable[[str, Standing, int | None], AbstractContextManager[Watch]]


def unseen(name: str, before: Standing, at_once: int | None) -> AbstractContextManager[Watch]:
    """Follow a sweep without showing anything of it."""
    return nullcontext(Watch(before, at_once))


@dataclass(frozen=True)
class Means:
    """What a study is carried out with.

    Attributes:
        stop: Asked before each cell: whether the time is over.
        workers: Processes; None is as many as cores, or at most eight that share a GPU where there is one.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.
        retry: Compute anew what has failed.
        following: Makes what is told of the cells of a sweep, from its name, its standing, and how many are at work.
        on_line: Called with a line to tell.
    """

    stop: Stop
    workers: int | None = None
    data_root: str | None = None
    device: str | None = None
    retry: bool = False
    following: Following = unseen
    on_line: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Findings:
    """What there is to show of a study.

    Attributes:
        done: How many cells there are.
        planned: How many the grid has.
        progress: How far it is, and by which versions of the code, a sentence each.
        rows: One for each entry of the table, to be written as CSV.
        table: All entries in Markdown.
        summary: A table short enough for a page of all studies, in Markdown.
        remarks: What the numbers say, a sentence each.
        figure: A drawing; None where there is nothing to draw.
    """

    done: int
    planned: int
    progress: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    table: str
    summary: str
    remarks: Sequence[str]
    figure: str | None


Figure = Callable[[Sequence[Entry], Sequence[Reported]], str]
Table = Callable[[Sequence[Entry], Sequence[Reported]], str]
Remarks = Callable[[Sequence[Entry]], list[str]]


@dataclass(frozen=True)
class Study:
    """A figure or table of networks that are trained.

    Attributes:
        name: Of the command and the files.
        title: Of its pages.
        shows: What the paper shows with it.
        differs: By scale: what is not as in the paper, and what that does to the numbers.
        figure: Draws the entries.
        table: Writes all of them in Markdown; `summary` the short form.
        summary: The same for a page of all studies.
        remarks: What the numbers say.
        order: Which cells to begin with, by scale; `extremes_first` where it is not given. Where the results that are
            there tell which value the grid chooses, the others come last for further seeds.
        beside: How many of its cells are carried out together: trained side by side, or else prepared once.
        stands_for: Networks of the small grid, and the network of the paper that each takes the place of.
        measure: Whether its networks are measured before training, as `trainability` does.
        needs: By scale: what to do where a folder of images is not there.
    """

    name: str
    title: str
    shows: str
    differs: Mapping[str, str]
    figure: Figure
    table: Table = entry_table
    summary: Table = entry_table
    remarks: Remarks = lambda found: []
    order: Mapping[str, Order] = field(default_factory=dict)
    stands_for: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    beside: int = 1
    measure: bool = False

    results_file: ClassVar[str] = EXPORTED
    note: ClassVar[str] = NOTE

    @property
    def scales(self) -> tuple[str, ...]:
        """The scales that it has a grid for."""
        return tuple(self.differs)

    def grid(self, scale: str) -> Grid:
        """The grid of a scale, which `pruneinit sweep` reads too.

        Raises:
            InputError: There is none.
        """
        if scale not in self.scales:
            raise InputError(f"{self.name} has no scale {scale!r}: expected one of {', '.join(self.scales)}")
        return Grid.from_yaml(GRIDS / f"{self.name}.{scale}.yaml")

    def folder(self, out: Path, scale: str) -> Path:
        """Where its results are."""
        return out / (self.name if scale == "small" else f"{self.name}-{scale}")

    def carry_out(self, scale: str, folder: Path, means: Means) -> None:
        """Compute what is missing until the time is over.

        Raises:
            InputError: Data are missing, or files cannot be read or written.
        """
        grid = self.grid(scale)
        self._refuse_missing(grid, scale, means.data_root)
        workers = _workers(means)
        executor = serial(stop=means.stop) if workers == 1 else processes(workers, stop=means.stop)
        before = standing(grid, folder)
        chosen, key = at_chosen(before.cells, grid.choose, before.results), self.order.get(scale, extremes_first)(grid)

        def late(cell: Cell) -> bool:
            """Further seeds of the values that were not chosen say least."""
            return not chosen.get(cell.hash, True)

        with means.following(self.name, before, workers) as watch:
            sweep(
                grid,
                folder,
                executor=side_by_side(executor, self.beside, apart=late),
                retry=means.retry,
                data_root=means.data_root,
                device=means.device,
                measure=self.measure,
                order=lambda cell: (late(cell), key(cell)),
                on_result=watch.result,
                on_elsewhere=watch.elsewhere,
            )

    def gather(self, folder: Path) -> None:
        """Put single results, also those of a call that was interrupted, into the one file to commit.

        Raises:
            InputError: A file cannot be read or written, or is damaged.
        """
        if (folder / CELLS).is_dir():
            export(folder)

    def findings(self, scale: str, folder: Path) -> Findings:
        """What the results in a folder show; nothing is computed and no data are read.

        Raises:
            InputError: A file cannot be read, or is damaged.
        """
        grid = self.grid(scale)
        return self.told(scale, grid, standing(grid, folder))

    def told(self, scale: str, grid: Grid, now: Standing) -> Findings:
        """What a standing of a scale's grid shows."""
        reported = published(self.name)
        found = entries(grid, now.results, reported, self.stands_for if scale == "small" else {})
        measured = [entry for entry in found if entry.last is not None]
        rest = unmeasured(reported, found)
        return Findings(
            done=len(now.done),
            planned=len(now.cells),
            progress=progress_of(now),
            rows=csv_rows(self.name, scale, found, rest),
            table=self.table(found, rest),
            summary=self.summary(found, rest),
            remarks=self.remarks(measured),
            figure=self.figure(found, reported) if measured else None,
        )

    def _refuse_missing(self, grid: Grid, scale: str, root: str | None) -> None:
        """Say how to get a folder of images that is not there: its loader cannot know."""
        for name in dict.fromkeys(cell.recipe.data for cell in grid.cells()):
            folder = data_root(root) / name.removeprefix("folder:")
            if name.startswith("folder:") and scale in self.needs and not folder.is_dir():
                raise InputError(f"no folder {folder}: {self.needs[scale]}")


def _workers(means: Means) -> int:
    """How many cells to carry out at a time."""
    import torch

    gpu = torch.cuda.is_available() if means.device is None else means.device.startswith("cuda")
    return means.workers or (min(_BESIDE, cores()) if gpu else cores())
