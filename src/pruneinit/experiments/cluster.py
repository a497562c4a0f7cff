"""An executor on a cluster of machines, by Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result, failed
from pruneinit.experiments.executors import Executor
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.work import Work


def cluster(address: str | None = None, *, threads: int = 1, gpus: float = 0.0, tries: int = 3) -> Executor:
    """One task a cell on a Ray cluster, as many at a time as it has room for, also on machines that join later.

    Cells are claimed and results written by this process, so that the machines need share no folder; each needs
    pruneinit, the same version of it, and the data. A cell whose machine or process dies is begun anew, elsewhere if
    need be; one that brings down all its tries has failed.

    Args:
        address: Of the cluster, `"auto"` for one that runs on this machine. None takes that of `$RAY_ADDRESS`, and
            without it all cores of this machine. A Ray that was joined before is used as it is.
        threads: Of PyTorch, and the cores that a cell takes.
        gpus: GPUs that a cell takes; 0.25 puts four on each.
        tries: How often a cell is begun at most.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or a number makes no sense; as it starts.
    """
    if threads < 1 or tries < 1:
        raise InputError(f"threads and tries must be 1 or more, got {threads} and {tries}")
    if not gpus >= 0 or (gpus > 1 and gpus != int(gpus)):
        raise InputError(f"gpus_per_cell must be 0, a fraction of 1 or a whole number, as 0.25 or 2, got {gpus}")

    def execute(todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]:
        ray = _ray()
        joined = _join(ray, address)
        task = ray.remote(_compute).options(num_cpus=threads, num_gpus=gpus, max_retries=tries - 1)
        left, running = list(todo), dict[Any, tuple[Cell, ExitStack]]()
        try:
            while left or running:
                while left and len(running) < _room(ray, threads, gpus):
                    cell, held = left.pop(0), ExitStack()
                    mine, there = work.begin(cell, held)
                    if mine:
                        running[task.remote(work, cell, threads)] = cell, held
                    else:
                        held.close()
                        yield cell, there
                over, _ = ray.wait(list(running), num_returns=1) if running else ([], [])
                for reference in over:
                    cell, held = running.pop(reference)
                    with held:
                        result = work.keep(_result(ray, reference, cell))
                    yield cell, result
        finally:
            for reference, (_, held) in running.items():
                ray.cancel(reference, force=True)
                held.close()
            if joined:
                ray.shutdown()

    return execute


def _compute(work: Work, cell: Cell, threads: int) -> Result:
    torch.set_num_threads(threads)
    return work.compute(cell)


def _result(ray: Any, reference: Any, cell: Cell) -> Result:
    try:
        found: Result = ray.get(reference)
        return found
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        why = f"the machine or the process of this cell died in every try: {type(error).__name__}: {lines[0]}"
        return failed(cell.recipe, why, row=cell.row)


def _room(ray: Any, threads: int, gpus: float) -> int:
    """How many cells the cluster can have at work, one at least: it may still be growing."""
    has = ray.cluster_resources()
    room = has.get("CPU", 0) / threads
    if gpus:
        room = min(room, has.get("GPU", 0) / gpus)
    return max(1, int(room))


def _join(ray: Any, address: str | None) -> bool:
    """Join the cluster, unless that was done before; whether it was done here."""
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = "here" if address is None else f"at {address}"
        said = str(error).strip().partition("\n")[0]
        raise InputError(
            f"no Ray cluster {where} ({said}); start one with 'ray start --head', or leave it out"
        ) from error
    return True


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("a cluster needs Ray: pip install 'pruneinit[ray]', or --executor processes") from error
    return ray
