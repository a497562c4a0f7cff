"""Sweeps under torchrun: two processes train each cell together."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pruneinit.commands.executor import chosen
from pruneinit.errors import InputError
from pruneinit.experiments import jointly as joint
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.sweep import read, sweep

SHARED = {"depth": 3, "width": 16, "training": {"epochs": 2, "augment": False, "batch_size": 125}}
OVER = {"sparsity": [0.5, 0.9]}
GRID = Grid("g", SHARED, over=OVER)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]

# The second process fails in the cell of sparsity 0.9, both in that of 0.7.
SCRIPT = """
import json, os, sys
from pathlib import Path
import pruneinit.experiments.cell as cell
from pruneinit.errors import InputError
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.sweep import sweep
from pruneinit.train import distributed
shared, folder, rank = json.loads(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
real = cell.outcome
def outcome(model, records):
    kept = sum(p.numel() for n, p in model.named_parameters() if "weight" in n)
    if kept < 500 and (rank == 1 or kept > 200):
        raise OSError(f"no disk in process {rank}" if kept < 200 else "no disk")
    return real(model, records)
cell.outcome = outcome
calls = []
grid = Grid("g", shared, over={"sparsity": [0.5, 0.7, 0.9]})
with distributed("cpu"):  # a second group of processes could not be made
    now = sweep(grid, folder, device="cpu", on_result=lambda now, cell, result: calls.append(str(cell)))
    whys = [now.results[cell.hash].why for cell in now.failed]
    (folder / f"calls-{rank}.json").write_text(json.dumps([calls, len(now.done), whys]))
    try:
        sweep(grid, folder, device="cpu", shard=(9, 3))
    except InputError as error:
        (folder / f"error-{rank}.txt").write_text(str(error))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, environment):
    place = tmp_path_factory.mktemp("jointly")
    (place / "script.py").write_text(SCRIPT)
    command = [*TORCHRUN, str(place / "script.py"), json.dumps(SHARED), str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_two_processes_give_the_results_of_one_up_to_rounding(folder, tmp_path):
    (cell, *_) = GRID.cells()
    found, alone = (read(place)[0][cell.hash] for place in (folder, _serial(tmp_path)))
    assert found.test_accuracy == pytest.approx(alone.test_accuracy, abs=2 / 359)
    assert (found.survivors, found.densities) == (alone.survivors, alone.densities)


def _serial(place):
    sweep(Grid("g", SHARED, over={"sparsity": [0.5]}), place, device="cpu")
    return place


def test_the_first_process_calls_back_and_all_return_the_standing(folder):
    first, second = (json.loads((folder / f"calls-{rank}.json").read_text()) for rank in (0, 1))
    assert first[0] == ["sparsity=0.5", "sparsity=0.7", "sparsity=0.9"]
    assert second[0] == []
    assert first[1:] == second[1:]


def test_a_cell_has_failed_where_any_process_has(folder):
    _, done, failed = json.loads((folder / "calls-0.json").read_text())
    assert (done, failed) == (1, ["OSError: no disk", "OSError: no disk in process 1"])


def test_an_error_of_the_first_process_is_raised_on_all(folder):
    first, second = ((folder / f"error-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second == "a shard must be i/n with i in 1..n, got 9/3; the first of four is 1/4"


def test_processes_that_have_parted_are_told_in_one_line(monkeypatch):
    def timed_out(*words):
        raise RuntimeError("Timed out waiting 300000ms for recv operation to complete")

    monkeypatch.setattr(joint, "run_one", lambda recipe, **where: joint.failed(recipe, "Traceback\nOSError: no disk"))
    monkeypatch.setattr(joint.processes, "gathered", timed_out)
    (cell, *_) = GRID.cells()
    with pytest.raises(InputError, match=r"have parted in sparsity=0.5 \(OSError: no disk\); start the same again"):
        joint._computed(cell, (None, "cpu", False), SimpleNamespace())


@pytest.mark.parametrize("words", [("ray",), ("processes", 2)])
def test_under_torchrun_there_are_no_other_workers(words, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="under torchrun all processes train each cell together"):
        chosen(*words)
    assert chosen("processes")[1] == 1


def test_the_command_says_each_line_once(tmp_path, environment):
    (tmp_path / "grid.yaml").write_text(json.dumps({"name": "small", "recipe": SHARED, "over": OVER}))
    words = ["-m", "pruneinit", "sweep", "grid.yaml", "--out", ".", "--device", "cpu"]
    done = subprocess.run(
        [*TORCHRUN, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(("1/2", "2/2"))] == lines[1:3]
    assert lines.count("small: 2 done, 0 failed, 0 missing") == 1
    assert len((tmp_path / "small" / "cells.jsonl").read_text().splitlines()) == 2
