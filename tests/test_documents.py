"""Benchmarks replace what is committed only at the documented settings, or when told to."""

import argparse
import importlib.util
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def documents(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("documents", PROJECT / "benchmarks" / "documents.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "documents", module)
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("before\n<!-- table -->\nold\n<!-- end -->\nafter\n")
    return module


@pytest.mark.parametrize(
    "words, commit",
    [
        ([], True),
        (["--repeats", "15"], True),
        (["--data_dir", "/elsewhere"], True),
        (["--repeats", "2"], False),
        (["--repeats", "2", "--write"], True),
    ],
    ids=["defaults", "a default by name", "another place", "other settings", "told to write"],
)
def test_only_the_default_settings_are_committed_unasked(documents, words, commit, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--data_dir", default=None)
    arguments, found = documents.parse(parser)
    assert found is commit
    assert arguments.repeats in (2, 15)
    assert ("not the documented repeats" in capsys.readouterr().out) is not commit


def test_what_is_not_committed_is_printed(documents, tmp_path, capsys):
    documents.write_results("speed", {"seconds": 1}, commit=False)
    documents.put_table("page.md", ["a"], [["1"]], "A note.", commit=False)
    assert capsys.readouterr().out == '{\n "seconds": 1\n}\n| a |\n| --- |\n| 1 |\n\nA note.\n'
    assert not (tmp_path / "results").exists()
    assert "old" in (tmp_path / "docs" / "page.md").read_text()


def test_what_is_committed_is_written(documents, tmp_path):
    documents.write_results("speed", {"seconds": 1})
    documents.put_table("page.md", ["a"], [["1"]], "A note.")
    assert json.loads((tmp_path / "results" / "speed.json").read_text()) == {"seconds": 1}
    text = (tmp_path / "docs" / "page.md").read_text()
    assert text == "before\n<!-- table -->\n| a |\n| --- |\n| 1 |\n\nA note.\n<!-- end -->\nafter\n"


def test_a_quick_run_of_a_benchmark_leaves_the_results_alone(documents, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["kills.py", "--kills", "0"])
    runpy.run_path(str(PROJECT / "benchmarks" / "kills.py"), run_name="__main__")
    assert not (tmp_path / "results").exists()
    assert '"kills": 0' in capsys.readouterr().out


def test_a_sweep_that_is_killed_three_times_loses_and_doubles_nothing(environment):
    command = [sys.executable, str(PROJECT / "benchmarks" / "sweep_kills.py"), "--kills", "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["kills"] == 3
    assert (found["lost"], found["doubled"], found["different"], found["stray_files"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "name, enough", [("sweep_kills", {"kills": 200}), ("ray", {"machine_killed": True, "failed": 0})]
)
def test_the_committed_results_of_broken_sweeps_have_nothing_lost_doubled_or_different(name, enough):
    found = json.loads((PROJECT / "results" / f"{name}.json").read_text())
    assert found.items() >= (enough | {"lost": 0, "doubled": 0, "different": 0}).items()


def test_the_benchmark_of_a_billion_weights_does_a_million_too(documents, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["billion.py", "--weights", "1e6"])
    runpy.run_path(str(PROJECT / "benchmarks" / "billion.py"), run_name="__main__")
    assert not (tmp_path / "results").exists()
    shown = capsys.readouterr().out
    assert '"weights": 1008805' in shown
    assert '"survivors": 50440' in shown
    assert "| score by Snip |" in shown


def test_the_benchmark_of_a_gpu_trains_on_a_cpu_too(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    found = runpy.run_path(str(PROJECT / "benchmarks" / "gpu.py"))
    training = replace(found["paper"](2).training, epochs=2, **found["WAYS"]["recorded"])
    seconds = found["Trial"](training, width=2, images=20, device="cpu").carry_out()
    assert seconds["epoch"] > 0


def test_a_billion_weights_were_pruned_within_the_memory_that_the_benchmark_allows():
    results = json.loads((PROJECT / "results" / "billion.json").read_text())
    assert results["weights"] >= 1e9
    assert results["peak_gb"] <= results["limit_gb"] == 12


def test_the_committed_results_are_those_of_the_default_settings():
    defaults = (PROJECT / "benchmarks" / "rescaling.py").read_text()
    results = json.loads((PROJECT / "results" / "rescaling.json").read_text())
    assert f'"--epochs", type=int, default={results["epochs"]}' in defaults
