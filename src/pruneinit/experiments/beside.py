"""Cells in one piece of work: small fully connected networks side by side, others prepared once for all rates."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pruneinit.data import Dataset
from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result, failed, finished, learnt, run_one
from pruneinit.experiments.executors import Executor
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.measured import Measured, measured
from pruneinit.experiments.prepare import ready
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.work import Work
from pruneinit.train import Training, can_share, distributed, train, train_side_by_side


@dataclass(frozen=True)
class Bundle(Cell):
    """A cell, and others to be carried out with it.

    Attributes:
        others: The other cells.
    """

    others: tuple[Cell, ...] = ()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All of them."""
        return (Cell(self.recipe, self.row, self.axes), *self.others)


@dataclass(frozen=True)
class SideBySide(Work):
    """What an executor does with a bundle."""

    def __call__(self, cell: Cell) -> Result | None:
        """Compute a bundle, but for cells that are there or somebody else is at; the result of its first cell."""
        first, mine = None, list[Cell]()
        with ExitStack() as held:
            for one in cell.cells if isinstance(cell, Bundle) else (cell,):
                free, result = self.begin(one, held)
                first = result if one.hash == cell.hash else first
                mine += [one] if free else []
            for result in run_together(mine, data_root=self.data_root, device=self.device, measure=self.measure):
                self.keep(result)
                first = result if result.cell == cell.hash else first
        return first


def side_by_side(executor: Executor, size: int, apart: Callable[[Cell], Any] | None = None) -> Executor:
    """Let an executor carry out bundles of cells whose networks are trained side by side, or prepared once.

    Trained side by side are fully connected networks of the same sizes, on the same data by the same seed, with
    settings that differ in what is done before training and in the learning rate. Prepared once are all other networks
    whose settings differ in training alone; they are trained one after the other. Other cells are carried out as ever.

    Args:
        executor: How bundles are carried out.
        size: Cells of a bundle, at most.
        apart: Cells of different values of this are not put into one bundle; None puts any together.
    """

    def execute(todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]:
        if size == 1 or type(work) is not Work:  # what several processes do jointly, they do cell by cell
            yield from executor(todo, work)
            return
        jointly = SideBySide(work.folder, work.stale, work.data_root, work.device, work.measure)
        for cell, result in executor(bundles(todo, size, apart), jointly):
            if not isinstance(cell, Bundle):
                yield cell, result
                continue
            there = {one.hash: work.there(one) for one in cell.cells}
            if result is not None and result.failed and there[cell.hash] != result:
                # Its process died, at the first one that has no result. Those that have one keep it.
                guilty = next((one for one in cell.cells if there[one.hash] is None), None)
                if guilty is not None:
                    there[guilty.hash] = failed(guilty.recipe, result.why, row=guilty.row)
            # What has no result is taken for somebody else's, and so tried again: a process that died had them all.
            yield from ((one, there[one.hash]) for one in cell.cells)

    return execute


def bundles(cells: Sequence[Cell], size: int, apart: Callable[[Cell], Any] | None = None) -> list[Cell]:
    """Cells in bundles, each where the first of its cells was; a cell that shares nothing stays itself.

    Networks that differ in the learning rate alone come together, and then those of similar sparsity: they are pruned
    once, and layers are equally sparse.

    Example:
        >>> from pruneinit.experiments import Grid
        >>> grid = Grid("g", {"model": "mlp"}, over={"seed": [0, 1], "sparsity": [0.5, 0.9]})
        >>> [len(bundle.cells) for bundle in bundles(grid.cells(), 8)]
        [2, 2]
    """
    place = {cell.hash: at for at, cell in enumerate(cells)}
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        together = _shared(cell.recipe) or _pruned(cell.recipe)
        groups.setdefault((together, apart(cell) if apart else None), []).append(cell)
    found: list[Cell] = []
    for group in groups.values():
        # By the first of those that are pruned alike, so that cells that come early in the sweep stay early.
        alike: dict[Recipe, int] = {}
        for cell in group:
            alike.setdefault(_pruned(cell.recipe), place[cell.hash])
        ordered = sorted(group, key=lambda cell: (cell.recipe.sparsity, alike[_pruned(cell.recipe)]))
        for start in range(0, len(ordered), size):
            members = sorted(ordered[start : start + size], key=lambda cell: place[cell.hash])
            first, others = members[0], tuple(members[1:])
            found.append(Bundle(first.recipe, first.row, first.axes, others) if others else first)
    return sorted(found, key=lambda cell: place[cell.hash])


def run_together(
    cells: Sequence[Cell], *, data_root: str | None = None, device: str | None = None, measure: bool = False
) -> Iterator[Result]:
    """What `run_one` gives for each cell, but for rounding where they are trained side by side, as soon as it is there.

    Args:
        cells: That `bundles` put together. Where one of them cannot be prepared, or they cannot be trained together,
            each is carried out alone.
        data_root: As in `run_one`.
        device: As in `run_one`.
        measure: As in `run_one`.
    """
    left = {cell.hash: cell for cell in cells}
    if len(cells) > 1:
        with suppress(Exception):  # whoever raised it raises it again alone, and has failed
            for result in _together(cells, data_root, device, measure):
                del left[result.cell]
                yield result
    for cell in left.values():
        yield run_one(cell.recipe, row=cell.row, data_root=data_root, device=device, measure=measure)


def _together(cells: Sequence[Cell], data_root: str | None, device: str | None, measure: bool) -> Iterator[Result]:
    start = time.perf_counter()
    with distributed(device) as world:
        if world.size > 1:
            raise InputError("several processes train one network at a time")
        dataset = learnt(cells[0].recipe, data_root, world.device)
        prepared: dict[Recipe, nn.Module] = {}
        found: dict[Recipe, Measured | None] = {}
        for cell in cells:
            way = _pruned(cell.recipe)
            if way not in prepared:
                prepared[way], events = ready(cell.recipe, dataset, world.device)
                found[way] = measured(prepared[way], cell.recipe, dataset, events) if measure else None
        each = [(cell, prepared[_pruned(cell.recipe)], found[_pruned(cell.recipe)]) for cell in cells]
        if _shared(cells[0].recipe) is None:
            yield from _in_turn(each, dataset, world.device, (time.perf_counter() - start) / len(cells))
            return
        models = [copy.deepcopy(model) for _, model, _ in each]
        trainings = [cell.recipe.training for cell in cells]
        records = train_side_by_side(models, dataset, trainings, seed=cells[0].recipe.seed)
    seconds = (time.perf_counter() - start) / len(cells)
    for (cell, _, told), model, epochs in zip(each, models, records, strict=True):
        yield finished(cell.recipe, model, epochs, row=cell.row, seconds=seconds, beside=len(cells), measured=told)


def _in_turn(
    each: Sequence[tuple[Cell, nn.Module, Measured | None]], dataset: Dataset, device: torch.device, shared: float
) -> Iterator[Result]:
    """Train copies of prepared networks one after the other; each bears its share of the seconds before."""
    for cell, model, told in each:
        start, own = time.perf_counter(), copy.deepcopy(model)
        records = train(own, dataset, cell.recipe.training, seed=cell.recipe.seed, device=device)
        seconds = shared + time.perf_counter() - start
        yield finished(cell.recipe, own, records, row=cell.row, seconds=seconds, measured=told)


def _pruned(recipe: Recipe) -> Recipe:
    """The recipe with what it says of training left out, but for what a network is prepared by."""
    return replace(recipe, training=Training())


def _shared(recipe: Recipe) -> tuple[object, ...] | None:
    """What recipes must have in common to be trained side by side; None where one can only be trained alone."""
    training = recipe.training
    if recipe.model.partition("-")[0] != "mlp" or not can_share(training):
        return None
    names = ("data", "validation", "train_images", "model", "depth", "width", "activation", "seed")
    return (*(getattr(recipe, name) for name in names), replace(training, lr=1.0))
