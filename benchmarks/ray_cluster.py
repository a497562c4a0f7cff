"""Carry out a sweep on a Ray cluster of two machines of which one dies on the way, and see that nothing is lost.

    python benchmarks/ray_cluster.py [--cells 16] [--epochs 60] [--write]

Needs `pip install 'pruneinit[ray]'`. The machines are Ray nodes on this one, with a core each. The second is killed
while it has its third cell at work; the sweep must end with every cell done, none computed to its end twice, and the
results of a serial sweep. Writes `results/ray.json`, at other settings only with `--write`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
from documents import parse, write_results
from ray.cluster_utils import Cluster

from pruneinit.experiments import Cell, Grid, Result
from pruneinit.experiments.cluster import cluster
from pruneinit.experiments.sweep import read, sweep
from pruneinit.experiments.work import Work

_LOG = "PRUNEINIT_LOG"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=60)
    arguments, commit = parse(parser)
    training = {"epochs": arguments.epochs, "augment": False}
    grid = Grid("ray", {"depth": 3, "width": 64, "training": training}, over={"seed": list(range(arguments.cells))})
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        os.environ[_LOG] = str(log)  # which the nodes inherit
        machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        second = machines.add_node(num_cpus=1)
        ray.init(address=machines.address, log_to_driver=False)

        def kill() -> None:
            while count(log, "begun", second.node_id) < 3:
                time.sleep(0.01)
            machines.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        standing = sweep(grid, Path(folder, "ray"), executor=noted, device="cpu")
        killed = not killer.is_alive()
        ray.shutdown()
        machines.shutdown()
        sweep(grid, Path(folder, "serial"), device="cpu")
        results, serial = numbers(Path(folder, "ray")), numbers(Path(folder, "serial"))
        found = {
            "ray": ray.__version__,
            "cells": arguments.cells,
            "machine_killed": killed,
            "begun_on_it": count(log, "begun", second.node_id),
            "ended_on_it": count(log, "ended", second.node_id),
            "done": len(standing.done),
            "failed": len(standing.failed),
            "lost": len(serial.keys() - results.keys()),
            "doubled": sum(number > 1 for number in Counter(lines(log, "ended")).values()),
            "different": sum(results.get(name) != result for name, result in serial.items()),
        }
    print(found)
    write_results("ray", found, commit)


def noted(todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]:
    return cluster()(todo, Noted(work.folder, work.stale, work.data_root, work.device))


class Noted(Work):
    """Work that notes on which machine a cell begins and ends."""

    def compute(self, cell: Cell) -> Result:
        """Compute a cell."""
        note("begun", cell)
        result = super().compute(cell)
        note("ended", cell)
        return result


def note(what: str, cell: Cell) -> None:
    handle = os.open(os.environ[_LOG], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    # In one piece, which no other process's can cut.
    os.write(handle, f"{what} {cell.hash} {ray.get_runtime_context().get_node_id()}\n".encode())
    os.close(handle)


def lines(log: Path, what: str, machine: str = "") -> list[str]:
    """The cells that began or ended, on one machine or on any."""
    words = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [cell for event, cell, where in words if event == what and where.startswith(machine)]


def count(log: Path, what: str, machine: str) -> int:
    return len(lines(log, what, machine))


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """All that results hold but their seconds."""
    return {name: asdict(result) | {"seconds": None} for name, result in read(folder)[0].items()}


if __name__ == "__main__":
    main()
