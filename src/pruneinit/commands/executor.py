"""The executor that a command line asks for."""

from __future__ import annotations

from pruneinit.errors import InputError
from pruneinit.experiments.cluster import cluster
from pruneinit.experiments.executors import Executor, cores, processes, serial
from pruneinit.train.distributed import world_size


def chosen(
    kind: str, workers: int | None = None, threads: int = 1, address: str | None = None, gpus: float = 0.0
) -> tuple[Executor, int | None]:
    """The executor that a command line asks for, and how many cells it has at work at a time, None where that varies.

    Args:
        kind: `"processes"` of this machine, or a cluster by `"ray"`.
        workers: Processes; None is as many as cores allow.
        threads: Of each cell.
        address: Of the cluster.
        gpus: Of the cluster, for each cell.

    Raises:
        InputError: A number makes no sense, or is not for this executor.
    """
    if threads < 1:
        raise InputError(f"threads must be 1 or more, got {threads}")
    if world_size() > 1:
        if kind == "ray" or workers not in (None, 1):
            raise InputError("under torchrun all processes train each cell together: leave out executor and workers")
        workers = 1
    if kind == "ray":
        if workers is not None:
            raise InputError("workers is for --executor processes; a cluster has as many as it has room for")
        return cluster(address, threads=threads, gpus=gpus), None
    if address is not None or gpus:
        raise InputError("address and gpus_per_cell are for --executor ray")
    if workers is None:
        workers = max(1, cores() // threads)
    if workers < 1:
        raise InputError(f"workers must be 1 or more, got {workers}")
    return (serial(threads) if workers == 1 else processes(workers, threads)), workers
