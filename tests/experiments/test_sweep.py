import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from pruneinit.cli import main
from pruneinit.errors import InputError
from pruneinit.experiments import run
from pruneinit.experiments import work as works
from pruneinit.experiments.cell import failed, run_one
from pruneinit.experiments.executors import processes, serial
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.sweep import export, read, standing, sweep

SHARED = {"depth": 3, "width": 16, "training": {"epochs": 1, "augment": False}}
GRID = Grid("g", SHARED, over={"sparsity": [0.5, 0.9], "seed": [0, 1]})


def numbers(results):
    return {name: (r.test_accuracy, r.survivors, r.densities) for name, r in results.items()}


def test_a_cell_has_the_numbers_of_a_run(tmp_path):
    (cell, *_) = GRID.cells()
    result = run_one(cell.recipe, device="cpu")
    folder = run(cell.recipe, tmp_path, device="cpu")
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (ended,) = [event for event in events if event["event"] == "result"]
    assert result.test_accuracy == ended["test_accuracy"]
    assert result.survivors == ended["survivors"]


def test_what_is_there_is_not_computed_again_and_an_exported_file_is_enough(tmp_path):
    first = sweep(GRID, tmp_path / "a", device="cpu")
    assert len(first.done) == 4
    seen = []
    sweep(GRID, tmp_path / "a", device="cpu", on_result=lambda now, cell, result: seen.append(cell))
    assert not seen
    lines = export(tmp_path / "a").read_text()
    assert [json.loads(line)["cell"] for line in lines.splitlines()] == sorted(first.results)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "cells.jsonl").write_text(lines)
    assert numbers(sweep(GRID, tmp_path / "b", device="cpu").results) == numbers(first.results)
    assert not (tmp_path / "b" / "cells").exists()


def test_workers_shards_and_one_process_give_the_same_numbers(tmp_path):
    alone = sweep(GRID, tmp_path / "a", device="cpu").results
    assert numbers(sweep(GRID, tmp_path / "b", executor=processes(2), device="cpu").results) == numbers(alone)
    parts = [sweep(GRID, tmp_path / "c", shard=(i, 3), device="cpu") for i in (1, 2, 3)]
    assert sum(len(part.cells) for part in parts) == 4
    assert numbers(read(tmp_path / "c")[0]) == numbers(alone)
    with pytest.raises(InputError, match="a shard must be i/n"):
        standing(GRID, tmp_path, (4, 3))


@pytest.mark.parametrize("make", [serial, lambda stop: processes(2, stop=stop)], ids=["serial", "processes"])
def test_no_cell_is_begun_once_it_is_to_stop_and_the_next_sweep_goes_on(tmp_path, make):
    seen = []

    def note(now, cell, result):
        seen.append(str(cell))

    def order(cell):
        return -cell.axes["seed"], cell.axes["sparsity"]

    assert not sweep(GRID, tmp_path, executor=make(stop=lambda: True), device="cpu", on_result=note).results
    executor = make(stop=lambda: bool(seen))
    first = sweep(GRID, tmp_path, executor=executor, device="cpu", order=order, on_result=note)
    assert 1 <= len(first.done) <= 2
    assert "sparsity=0.5, seed=1" in seen
    assert len(sweep(GRID, tmp_path, device="cpu").done) == 4


def test_a_cell_that_fails_is_recorded_and_can_be_tried_again(tmp_path, monkeypatch):
    real = works.run_one

    def broken(recipe, **where):
        if recipe.seed == 1:
            monkeypatch.setattr("pruneinit.experiments.cell.train", lambda *a, **k: 1 / 0)
        try:
            return real(recipe, **where)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(works, "run_one", broken)

    monkeypatch.setattr(works, "run_one", broken)
    now = sweep(GRID, tmp_path, device="cpu")
    assert (len(now.done), len(now.failed)) == (2, 2)
    assert all("ZeroDivisionError" in now.results[cell.hash].why for cell in now.failed)
    monkeypatch.undo()
    assert len(sweep(GRID, tmp_path, device="cpu").failed) == 2
    assert len(sweep(GRID, tmp_path, device="cpu", retry=True).done) == 4


def test_results_of_another_version_are_left_out_and_counted(tmp_path):
    sweep(GRID, tmp_path, device="cpu")
    file = next((tmp_path / "cells").glob("*.json"))
    values = json.loads(file.read_text())
    values["recipe"]["width"] = 17  # as a recipe of before would have had another hash
    file.write_text(json.dumps(values))
    now = standing(GRID, tmp_path)
    assert (len(now.done), len(now.missing), now.left_out) == (3, 1, 1)
    assert len(sweep(GRID, tmp_path, device="cpu").done) == 4


def test_nothing_is_exported_and_read_as_nothing(tmp_path):
    assert export(tmp_path).read_text() == ""
    assert read(tmp_path) == ({}, 0)


def test_an_exported_traceback_may_hold_any_character(tmp_path):
    (cell, *_) = GRID.cells()
    (tmp_path / "cells.jsonl").write_text(failed(cell.recipe, "a\u2028b\x85c").to_json() + "\n", encoding="utf-8")
    assert read(tmp_path)[0][cell.hash].traceback == "a\u2028b\x85c"


def test_a_damaged_file_is_named(tmp_path):
    sweep(GRID, tmp_path, device="cpu")
    file = next((tmp_path / "cells").glob("*.json"))
    file.write_text("{")
    with pytest.raises(InputError, match=f"{file.name} is damaged: it is not whole JSON"):
        standing(GRID, tmp_path)


def fails(monkeypatch, when, error):
    """Let training raise an error in the cells for which `when` is true."""
    real = works.run_one

    def broken(recipe, **where):
        with monkeypatch.context() as patched:
            if when(recipe):
                patched.setattr("pruneinit.experiments.cell.train", lambda *a, **k: (_ for _ in ()).throw(error))
            return real(recipe, **where)

    monkeypatch.setattr(works, "run_one", broken)


MANY = Grid("g", SHARED, over={"seed": list(range(7))})


def test_a_sweep_whose_first_cells_all_fail_alike_stops_once(tmp_path, monkeypatch):
    fails(monkeypatch, lambda recipe: True, OSError("no disk"))
    with pytest.raises(InputError, match="the first 4 cells all failed with 'OSError: no disk', so the other 3 were"):
        sweep(MANY, tmp_path, device="cpu")
    now = standing(MANY, tmp_path)
    assert (len(now.failed), len(now.missing)) == (4, 3)
    with pytest.raises(InputError, match="the first 5 cells all failed"):
        sweep(MANY, tmp_path, device="cpu", retry=True, patience=5)
    # Called again as before it goes on all the same.
    assert len(sweep(MANY, tmp_path, device="cpu").failed) == 7
    monkeypatch.undo()
    assert len(sweep(MANY, tmp_path, device="cpu", retry=True).done) == 7


@pytest.mark.parametrize("good", [0, 3], ids=["first", "before the last that would be one too many"])
def test_a_sweep_in_which_a_cell_has_succeeded_goes_on(good, tmp_path, monkeypatch):
    fails(monkeypatch, lambda recipe: recipe.seed != good, OSError("no disk"))
    now = sweep(MANY, tmp_path, device="cpu")
    assert (len(now.done), len(now.failed)) == (1, 6)


def test_failures_of_different_kinds_do_not_stop_a_sweep(tmp_path, monkeypatch):
    real = works.run_one
    monkeypatch.setattr(works, "run_one", lambda recipe, **where: failed(recipe, f"OSError: {recipe.seed}"))
    assert len(sweep(MANY, tmp_path, device="cpu").failed) == 7
    monkeypatch.setattr(works, "run_one", real)


def test_data_that_vanish_on_the_way_stop_the_sweep_with_their_name(tmp_path, monkeypatch):
    def gone(*words):
        raise InputError("no data set digits: it was there a minute ago")

    def lost(recipe):
        if recipe.seed:
            monkeypatch.setattr("pruneinit.experiments.faults.load", gone)
        return bool(recipe.seed)

    fails(monkeypatch, lost, InputError("no data set digits"))
    with pytest.raises(InputError, match="it was there a minute ago"):
        sweep(MANY, tmp_path, device="cpu")
    now = standing(MANY, tmp_path)
    assert (len(now.done), len(now.failed), len(now.missing)) == (1, 4, 2)


FULL = """
import resource, signal, sys
from pruneinit.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that would become too large gives an error, as a full disk does
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told_in_one_line_and_what_is_there_stays(workers, tmp_path, environment):
    (tmp_path / "grid.yaml").write_text(YAML.replace("0.5, 0.9", "0.5"))
    words = ["sweep", "grid.yaml", "--out", ".", "--workers", str(workers), "--device", "cpu"]
    options = {"cwd": tmp_path, "env": environment | {"TMPDIR": str(tmp_path)}, "capture_output": True, "text": True}

    def carried_out(size):
        return subprocess.run([sys.executable, "-c", FULL, str(size), *words], timeout=120, check=False, **options)

    assert carried_out(10**9).returncode == 0
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    (tmp_path / "grid.yaml").write_text(YAML)
    full = carried_out(100)
    # Of workers that are ended, loky's watcher of semaphores sometimes warns that one is gone already.
    said = [
        line for line in full.stderr.splitlines() if "resource_tracker" not in line and line.strip() != "warnings.warn("
    ]
    assert (full.returncode, len(said)) == (2, 1), full.stderr
    assert re.search(r"error: cannot write .*: File too large; free some space or choose another folder", full.stderr)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == kept
    assert carried_out(10**9).returncode == 0
    assert len((tmp_path / "small" / "cells.jsonl").read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    computed = []
    monkeypatch.setattr(works, "run_one", lambda recipe, **where: computed.append(recipe))
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot write .*cells: Not a directory; choose a folder you may write"):
            sweep(GRID, folder, device="cpu")

    def read_only(path, flags, *rest):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:  # who runs the tests may be allowed to write everywhere
        patched.setattr("pruneinit.experiments.lock.os.open", read_only)
        with pytest.raises(InputError, match="cells: Read-only file system; choose a folder you may write to"):
            sweep(GRID, tmp_path / "new", device="cpu")
    assert not computed


def test_each_result_says_which_version_of_the_code_gave_it(tmp_path, capsys):
    (tmp_path / "grid.yaml").write_text(YAML)
    command = ["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), "--workers", "1", "--device", "cpu"]
    assert main(command) == 0
    file = next((tmp_path / "small" / "cells").glob("*.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"code": "01234567"}))
    capsys.readouterr()
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^1 by pruneinit \S+ \(01234567\), torch ", shown, re.MULTILINE)
    assert len(re.findall(r"^1 by pruneinit ", shown, re.MULTILINE)) == 2
    assert "results of several versions of the code are in one folder" in shown


def test_results_of_an_older_version_of_results_are_left_out_and_counted(tmp_path, capsys, monkeypatch):
    (tmp_path / "grid.yaml").write_text(YAML)
    command = ["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), "--workers", "1", "--device", "cpu"]
    monkeypatch.setattr("pruneinit.experiments.recipe.RESULTS_VERSION", 0)
    assert main(command) == 0
    old = sorted(path.name for path in (tmp_path / "small" / "cells").iterdir())
    monkeypatch.undo()
    capsys.readouterr()
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "small: 2 cells, 0 there already" in shown
    assert "small: 2 results of other versions or altered ones are left out" in shown
    assert len({path.name for path in (tmp_path / "small" / "cells").iterdir()} - set(old)) == 2


def test_nothing_is_computed_of_a_grid_that_is_partly_impossible(tmp_path):
    grid = Grid("g", SHARED, rows={"a": {"model": "mlp"}, "b": {"model": "mpl"}})
    with pytest.raises(InputError, match="mpl"):
        sweep(grid, tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_more_images_than_there_are_to_learn_from_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="digits has 1438 training images to draw from, got 5000"):
        sweep(Grid("g", SHARED | {"train_images": 5000}), tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


SCRIPT = """
import sys
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.sweep import sweep
from pruneinit.experiments.executors import processes, serial
shared = {"depth": 3, "width": 16, "training": {"epochs": 1, "augment": False}}
grid = Grid("g", shared, over={"sparsity": [0.5, 0.9], "seed": [0, 1]})
def told(now, cell, result):
    print(cell.hash, flush=True)
sweep(grid, sys.argv[1], executor=processes(2), device="cpu", on_result=told)
"""


def begun(folder):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, start_new_session=True)


def test_processes_that_die_at_once_end_in_failed_cells_and_not_in_an_endless_loop(monkeypatch):
    class Broken:
        """What loky is where no worker can start."""

        BrokenProcessPool = RuntimeError

        class ProcessPoolExecutor:
            def __init__(self, *args, **options): ...
            def shutdown(self, **options): ...
            def submit(self, *work):
                raise Broken.BrokenProcessPool

    monkeypatch.setattr("pruneinit.experiments.executors._loky", lambda: Broken)
    found = list(processes(2)(GRID.cells(), lambda cell: None))
    assert [cell.hash for cell, _ in found] == [cell.hash for cell in GRID.cells()]
    assert all("the process of this cell died" in result.why for _, result in found)


def test_ctrl_c_while_a_pool_ends_reaches_neither_it_nor_the_programs_that_it_needs(monkeypatch):
    ended = []

    class Interrupted:
        """What loky is to a hand that presses Ctrl-C again and again."""

        BrokenProcessPool = RuntimeError

        class ProcessPoolExecutor:
            def __init__(self, *args, **options): ...
            def submit(self, *work):
                raise KeyboardInterrupt

            def shutdown(self, **options):
                os.kill(os.getpid(), signal.SIGINT)
                ended.append(subprocess.run(["sh", "-c", "kill -INT $$; exit 0"]).returncode)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("pruneinit.experiments.executors._loky", lambda: Interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(processes(2)(GRID.cells(), lambda cell: None))
    assert ended == [0]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_killed_sweep_loses_nothing_and_doubles_nothing(tmp_path):
    undisturbed = numbers(sweep(GRID, tmp_path / "a", device="cpu").results)
    for wait in (0, 1):
        process = begun(tmp_path / "b")
        for _ in range(wait):
            process.stdout.readline()
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "b" / "cells").glob("*.json")}
    assert kept
    assert numbers(sweep(GRID, tmp_path / "b", device="cpu").results) == undisturbed
    assert all((tmp_path / "b" / "cells" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert sorted(path.name for path in (tmp_path / "b" / "cells").iterdir()) == sorted(
        f"{n}.json" for n in undisturbed
    )


def test_two_sweeps_at_once_compute_each_cell_once(tmp_path):
    pair = [begun(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    results, left_out = read(tmp_path)
    assert (len(results), left_out) == (4, 0)
    assert b"" not in [line for output in outputs for line in output.splitlines()]


YAML = """
name: small
recipe: {depth: 3, width: 16, training: {epochs: 1, augment: false}}
over: {sparsity: [0.5, 0.9]}
"""


def test_the_command_carries_out_what_is_missing_and_exports_it(tmp_path, capsys):
    (tmp_path / "grid.yaml").write_text(YAML)
    command = ["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), "--workers", "1", "--device", "cpu"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "small: 2 cells, 0 there already" in first
    assert "2/2 sparsity=0.9: test accuracy" in first
    assert len((tmp_path / "small" / "cells.jsonl").read_text().splitlines()) == 2
    assert main(command) == 0
    assert "small: 2 cells, 2 there already" in capsys.readouterr().out


def test_a_log_says_how_much_time_is_left_and_a_reader_who_leaves_does_not_end_the_sweep(tmp_path, environment):
    (tmp_path / "grid.yaml").write_text(YAML.replace("0.5, 0.9", "0.5, 0.7, 0.9"))
    words = ["sweep", "grid.yaml", "--out", ".", "--workers", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "pruneinit", *words]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(2)]
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert re.fullmatch(r"1/3 sparsity=0.5: test accuracy .*%, [0-9.]+ s; about \d+ s left\n", lines[1])
    assert len((tmp_path / "small" / "cells.jsonl").read_text().splitlines()) == 3


def test_a_terminal_gets_a_table_that_ends_with_all_that_was_done(tmp_path, capsys, monkeypatch):
    (tmp_path / "grid.yaml").write_text(YAML)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    command = ["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), "--workers", "1", "--device", "cpu"]
    assert main(command) == 0
    shown = re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", capsys.readouterr().out)
    assert re.search(r"small\s+2\s+0\s+\d+\.\d\d %", shown)
    assert "2 of 2" in shown
    assert "2/2" not in shown


@pytest.mark.parametrize(
    "change, message",
    [
        (["--shard", "4/3"], "shard must be i/n"),
        (["--shard", "a"], "shard must be i/n"),
        (["--workers", "0"], "workers must be 1 or more, got 0"),
        (["--threads", "0"], "threads must be 1 or more, got 0"),
        (["--gpus_per_cell", "0.5"], "address and gpus_per_cell are for --executor ray"),
        (["--executor", "ray", "--workers", "2"], "workers is for --executor processes"),
        (["--executor", "ray", "--gpus_per_cell", "1.5"], "a fraction of 1 or a whole number, as 0.25 or 2, got 1.5"),
        (["--executor", "slurm"], "unknown executor 'slurm'"),
    ],
)
def test_what_the_command_refuses(tmp_path, capsys, change, message):
    (tmp_path / "grid.yaml").write_text(YAML)
    assert main(["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path), *change]) == 2
    assert message in capsys.readouterr().err
    assert main(["sweep", str(tmp_path / "none.yaml")]) == 2
    assert "cannot read the grid" in capsys.readouterr().err
