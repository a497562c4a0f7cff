"""A sweep whose cells are each trained by all processes of torchrun: rank 0 leads, the others follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from pruneinit import processes
from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result, failed, run_one
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.work import Work
from pruneinit.train import World

T = TypeVar("T")

# A process that fails alone leaves the others waiting for its gradients. It waits so long for theirs, and ends.
_PATIENCE = timedelta(minutes=5)


def jointly(world: World, lead: Callable[[Callable[[Work], Work]], T]) -> T:
    """Let rank 0 lead a sweep and the others follow.

    Args:
        world: The processes; every one must call.
        lead: Carries out the sweep on rank 0, with work that it has made joint by the function it is given.

    Returns:
        What `lead` returns, on every process.

    Raises:
        InputError: Of `lead`, on every process; or a process has failed in a cell where the others have not.
    """
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)  # what is told must not mix with what is trained
    if not world.first:
        followed: T = _follow(group)
        return followed
    try:
        found = lead(
            lambda work: _Joint(work.folder, work.stale, work.data_root, work.device, work.measure, group=group)
        )
    except InputError as error:
        with suppress(RuntimeError):  # the others may be gone
            _tell(group, error)
        raise
    _tell(group, _Over(found))
    return found


@dataclass(frozen=True)
class _Joint(Work):
    """Work whose cells all processes compute together."""

    group: Any = None

    def compute(self, cell: Cell) -> Result:
        """Compute a cell with the processes that follow."""
        how = (self.data_root, self.device, self.measure)
        _tell(self.group, (cell, how))
        return _computed(cell, how, self.group)


@dataclass(frozen=True)
class _Over:
    found: Any


def _follow(group: Any) -> Any:
    while True:
        told: list[Any] = [None]
        dist.broadcast_object_list(told, src=0, group=group)
        if isinstance(told[0], _Over):
            return told[0].found
        if isinstance(told[0], InputError):
            raise told[0]
        cell, how = told[0]
        _computed(cell, how, group)


def _tell(group: Any, what: object) -> None:
    dist.broadcast_object_list([what], src=0, group=group)


def _computed(cell: Cell, how: tuple[str | None, str | None, bool], group: Any) -> Result:
    """The result of a cell on rank 0; one that any process has failed in has failed."""
    data_root, device, measure = how
    result = run_one(cell.recipe, row=cell.row, data_root=data_root, device=device, measure=measure)
    try:
        every = processes.gathered((result.failed, result.traceback), (group,))
    except RuntimeError as error:  # they are still waiting for this one
        why = result.why or "it was done"
        raise InputError(f"the processes of torchrun have parted in {cell} ({why}); start the same again") from error
    others = [traceback or "" for broken, traceback in every if broken]
    if others and not result.failed:
        return failed(cell.recipe, others[0], row=cell.row, seconds=result.seconds)
    return result
