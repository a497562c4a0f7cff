"""Kill a sweep again and again, with all its workers, and see that nothing is lost, doubled or different at its end.

    python benchmarks/sweep_kills.py [--kills 200] [--seed 0] [--write]

One start in eight is of two workers (loky), the others of two sweeps at once in one folder, which start faster; a sweep
that was begun one way goes on the other way. Three of four kills come within two seconds of the first cell's beginning,
while short cells come and go, the others at any moment of the start. Every cell notes in a file that it began, and that
its result is written. A result counts as doubled where a second was written or its file was replaced. Writes
`results/sweep_kills.json`, at other settings only with `--write`. 200 kills take about seven minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from documents import parse, write_results

from pruneinit.data import load
from pruneinit.experiments import Cell, Grid, Result
from pruneinit.experiments.executors import Executor, processes, serial
from pruneinit.experiments.sweep import read, sweep
from pruneinit.experiments.work import CELLS, Work

LOG = "log.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments, commit = parse(parser)
    chance = random.Random(arguments.seed)
    load("digits")  # imports what would take longer than most children live
    found: Counter[str] = Counter(
        kills=0, of_workers=0, sweeps=0, cells=0, cut=0, lost=0, doubled=0, different=0, stray_files=0
    )
    while found["kills"] < arguments.kills:
        with tempfile.TemporaryDirectory() as folder:
            found.update(one_round(found["sweeps"], Path(folder), arguments.kills - found["kills"], chance))
        found["sweeps"] += 1
        print(", ".join(f"{number} {name}" for name, number in found.items()), flush=True)
    write_results("sweep_kills", {"workers": 2, **found}, commit)


def grid(number: int) -> Grid:
    """Cells of a twentieth of a second to a fifth of one, other ones each round."""
    shared = {"depth": 3, "width": 16, "training": {"augment": False}}
    seeds = list(range(4 * number, 4 * number + 4))
    return Grid("kills", shared, over={"sparsity": [0.5, 0.9], "training.epochs": [1, 2, 8], "seed": seeds})


def one_round(number: int, folder: Path, most: int, chance: random.Random) -> dict[str, int]:
    """Kill one sweep until it ends before it is killed; what was found."""
    kills, of_workers, replaced, before = 0, 0, 0, dict[str, int]()
    while kills < most and killed(number, folder / "cut", chance, workers := chance.random() < 1 / 8):
        kills += 1
        of_workers += workers
        now = written(folder / "cut")
        replaced += sum(now.get(name) != when for name, when in before.items())
        before = now
    for name in ("cut", "whole"):
        _, status = os.waitpid(started(number, folder / name, workers=False), 0)
        if status:
            raise SystemExit(f"a sweep that nobody killed ended with {status}")
    now = written(folder / "cut")
    replaced += sum(now.get(name) != when for name, when in before.items())
    cut, whole = numbers(folder / "cut"), numbers(folder / "whole")
    log = Counter((folder / "cut" / LOG).read_text().splitlines())
    expected = {f"{cell.hash}.json" for cell in grid(number).cells()}
    return {
        "kills": kills,
        "of_workers": of_workers,
        "cells": len(whole),
        "cut": sum(log[f"begun {name}"] - 1 for name in whole),
        "lost": len(whole.keys() - cut.keys()),
        "doubled": replaced + sum(log[f"written {name}"] > 1 for name in whole),
        "different": sum(cut.get(name) != result for name, result in whole.items()),
        "stray_files": len({path.name for path in (folder / "cut" / CELLS).iterdir()} ^ expected),
    }


def killed(number: int, folder: Path, chance: random.Random, workers: bool) -> bool:
    """Start the sweep and kill its whole group of processes at a random moment; False if it has ended before."""
    begun = len(lines(folder))
    process = started(number, folder, workers)
    deadline = time.monotonic() + chance.uniform(0.0, 8.0 if workers else 1.0)
    if chance.random() < 0.75:
        while running(process) and len(lines(folder)) == begun:
            time.sleep(0.01)
        deadline = time.monotonic() + chance.uniform(0.0, 2.0)
    while running(process) and time.monotonic() < deadline:
        time.sleep(0.001)
    if not running(process):
        os.waitpid(process, 0)
        return False
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def started(number: int, folder: Path, workers: bool) -> int:
    """Carry out a sweep in a child, with a group of processes of its own; gives the child's number.

    It is forked, as importing PyTorch would take longer than most children live. Its workers are fresh processes.
    """
    child = os.fork()
    if child == 0:
        os.setsid()
        status = 1
        try:
            if workers:
                carry_out(grid(number), folder, processes(2))
                status = 0
            else:
                other = os.fork()
                carry_out(grid(number), folder, serial())
                status = os.waitpid(other, 0)[1] if other else 0
        finally:
            os._exit(status)
    while os.getpgid(child) != child:  # it has not come to be the head of a group
        time.sleep(0.001)
    return child


def running(process: int) -> bool:
    found = os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is None


def carry_out(cells: Grid, folder: Path, executor: Executor) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def execute(todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]:
        return executor(todo, Noted(work.folder, work.stale, work.data_root, work.device))

    sweep(cells, folder, executor=execute, device="cpu")


class Noted(Work):
    """Work that notes when a cell begins, and when its result is written."""

    def compute(self, cell: Cell) -> Result:
        """Compute a cell."""
        note(self.folder, f"begun {cell.hash}")
        return super().compute(cell)

    def keep(self, result: Result) -> Result:
        """Write a result."""
        super().keep(result)
        note(self.folder, f"written {result.cell}")
        return result


def note(folder: Path, line: str) -> None:
    handle = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(handle, f"{line}\n".encode())  # in one piece, which no other process's can cut
    os.close(handle)


def lines(folder: Path) -> list[str]:
    return (folder / LOG).read_text().splitlines() if (folder / LOG).exists() else []


def written(folder: Path) -> dict[str, int]:
    """When each result was written."""
    return {file.name: file.stat().st_mtime_ns for file in (folder / CELLS).glob("[!.]*.json")}


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """All that results hold but their seconds."""
    return {name: asdict(result) | {"seconds": None} for name, result in read(folder)[0].items()}


if __name__ == "__main__":
    main()
