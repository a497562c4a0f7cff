from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

import pruneinit as pi
from pruneinit.data import load
from pruneinit.errors import InputError
from pruneinit.experiments import Recipe, run
from pruneinit.experiments.folder import RunFolder
from pruneinit.experiments.prepare import network
from runs import RECIPE, Stop, contents, events, interrupted


def test_force_begins_anew_where_the_record_is_damaged(tmp_path):
    folder = run(RECIPE, tmp_path, device="cpu")
    (folder / "metrics.jsonl").write_text("not JSON\n{}\n")
    with pytest.raises(InputError, match="redo with --force"):
        run(RECIPE, tmp_path, device="cpu")
    assert events(run(RECIPE, tmp_path, device="cpu", force=True))[-1]["event"] == "result"


def test_a_folder_of_another_recipe_is_not_overwritten(tmp_path):
    other = run(dataclasses.replace(RECIPE, seed=5), tmp_path, device="cpu")
    folder = other.rename(tmp_path / RECIPE.name)
    before = contents(folder)
    with pytest.raises(InputError, match="run of another recipe"):
        run(RECIPE, tmp_path, device="cpu")
    (folder / "recipe.yaml").unlink()  # the record alone says so too
    with pytest.raises(InputError, match="run of another recipe"):
        run(RECIPE, tmp_path, device="cpu")
    (folder / "recipe.yaml").write_bytes(before["recipe.yaml"])
    assert contents(folder) == before


def test_a_recipe_written_before_some_settings_were_there_is_the_same_run(tmp_path):
    folder = run(RECIPE, tmp_path, device="cpu")
    lines = (folder / "recipe.yaml").read_text()
    assert "rounds: null\nsanity: none\n" in lines
    (folder / "recipe.yaml").write_text(lines.replace("rounds: null\nsanity: none\n", "rounds: 1\n"))
    before = contents(folder)
    assert run(RECIPE, tmp_path, device="cpu") == folder
    assert contents(folder) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        run(RECIPE, tmp_path / "file", device="cpu")


@pytest.mark.parametrize("line", ["5", "{}", "null", "[]", '{"event": 3}', '"event"', '{"epoch": 1}'])
@pytest.mark.parametrize("last", [True, False], ids=["last", "inside"])
def test_a_line_that_is_no_event_is_named(tmp_path, line, last):
    folder = run(RECIPE, tmp_path, device="cpu")
    record = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(f"{record}{line}\n" if last else f"{line}\n{record}")
    with pytest.raises(InputError, match=r'metrics.jsonl, line \d+, is no JSON object with an "event"; redo with'):
        run(RECIPE, tmp_path, device="cpu")


def test_a_letter_that_a_kill_has_cut_in_two_is_left_out(tmp_path):
    folder = interrupted(tmp_path)
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write('{"event": "é'.encode()[:-1])
    assert events(run(RECIPE, tmp_path, device="cpu"))[-1]["event"] == "result"


def test_a_recipe_that_is_gone_is_written_again_where_the_record_names_it(tmp_path):
    folder = interrupted(tmp_path)
    path = folder / "recipe.yaml"
    path.unlink()
    seen = []
    run(RECIPE, tmp_path, device="cpu", on_start=lambda start: seen.append((start.state, path.is_file())))
    assert seen == [("resumed", True)]
    assert Recipe.from_yaml(path) == RECIPE
    path.unlink()
    run(RECIPE, tmp_path, device="cpu")
    assert Recipe.from_yaml(path) == RECIPE


@pytest.mark.parametrize("damage", ["gone", "older", "half"])
def test_the_report_of_a_finished_run_is_written_again(tmp_path, damage):
    folder = run(RECIPE, tmp_path, device="cpu")
    report = folder / "report.html"
    page = report.read_bytes()
    if damage == "gone":
        report.unlink()
    elif damage == "half":
        report.write_bytes(page[: len(page) // 2])
    else:
        report.write_bytes(b"<html>of before</html>")
        os.utime(report, (0, 0))
    run(RECIPE, tmp_path, device="cpu")
    assert report.read_bytes() == page


def test_a_damaged_network_of_a_finished_run_is_named(tmp_path):
    folder = run(RECIPE, tmp_path, device="cpu")
    model = folder / "model.safetensors"
    whole = bytearray(model.read_bytes())
    whole[-3] ^= 1
    model.write_bytes(whole)
    with pytest.raises(InputError, match=r"model.safetensors was altered.*begin the run anew with --force"):
        run(RECIPE, tmp_path, device="cpu")
    run(RECIPE, tmp_path, device="cpu", force=True)
    pi.load(model, into=network(RECIPE, load("digits")))


def test_a_network_that_is_gone_is_trained_again(tmp_path):
    folder = run(RECIPE, tmp_path, device="cpu")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    assert (run(RECIPE, tmp_path, device="cpu") / "model.safetensors").read_bytes() == whole


def test_a_kill_after_the_result_leaves_only_the_report_to_write(tmp_path, monkeypatch):
    def stop(*arguments):
        raise Stop

    monkeypatch.setattr("pruneinit.experiments.folder.write_report", stop)
    with pytest.raises(Stop):
        run(RECIPE, tmp_path, device="cpu")
    monkeypatch.undo()
    seen = []
    folder = run(RECIPE, tmp_path, device="cpu", on_start=seen.append)
    assert [start.state for start in seen] == ["finished"]
    assert sorted(contents(folder)) == ["metrics.jsonl", "model.safetensors", "recipe.yaml", "report.html"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    folder = run(RECIPE, tmp_path, device="cpu")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("pathlib.Path.is_file", refuse)
    with pytest.raises(InputError, match=f"cannot read {folder}: Permission denied; check its permissions"):
        run(RECIPE, tmp_path, device="cpu")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics = Path("/dev/full")
    with pytest.raises(InputError, match="cannot add to /dev/full: No space left on device"):
        folder.append({"event": "epoch"})
