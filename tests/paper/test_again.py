import dataclasses

import pytest

from pruneinit.cli import main
from pruneinit.errors import InputError
from pruneinit.experiments.grid import Grid
from pruneinit.paper import STUDIES, again
from pruneinit.paper.again import meant

SHARED = {
    "model": "mlp", "depth": 3, "width": 8, "validation": 0.2, "score_images": 32,
    "training": {"epochs": 1, "batch_size": 64, "augment": False},
}  # fmt: skip
ROWS = {"SBP": {"criterion": "snip"}, "SBP, layer": {"criterion": "snip", "rescale": "layer"}}
GRID = Grid("edge", SHARED, ROWS, {"sparsity": [0.5, 0.9], "training.lr": [0.1, 0.05]}, "training.lr")
CELLS = GRID.cells()


@pytest.fixture
def one(monkeypatch):
    found = STUDIES["edge"]
    monkeypatch.setattr(type(found), "grid", lambda self, scale: GRID)
    return found


@pytest.mark.parametrize("words", [str(CELLS[5]), CELLS[5].hash, "training.lr=0.05, sparsity=0.5,layer,SBP"])
def test_a_cell_is_meant_by_all_its_words_or_its_hash(words):
    assert meant(CELLS, words) == CELLS[5]


def test_the_whole_name_of_a_cell_means_it_though_another_has_all_the_words():
    assert meant(CELLS, "SBP, sparsity=0.9, training.lr=0.1") == CELLS[2]


@pytest.mark.parametrize(
    "words, message",
    [
        (
            "sparsity=0.9, training.lr=0.05, layer=3",
            "no cell .*expected a hash, or words as in 'SBP, sparsity=",
        ),
        ("layer", "4 cells have 'layer': SBP, layer, sparsity=0.5, training.lr=0.1; SBP, layer"),
        ("SBP", r"8 cells have 'SBP': .*; \.\.\.$"),
        ("", "no cell ''"),
    ],
)
def test_other_words_are_refused_with_what_there_is(words, message):
    with pytest.raises(InputError, match=message):
        meant(CELLS, words)


def test_a_cell_gives_again_what_was_recorded_and_writes_nothing(one, tmp_path):
    folder = tmp_path / "edge"
    folder.mkdir()
    first = again(one, tmp_path, CELLS[5].hash, device="cpu")
    assert first.recorded is None
    assert "recorded: nothing" in first.lines
    assert not list(folder.iterdir())
    (folder / "cells.jsonl").write_text(dataclasses.replace(first.now, beside=9).to_json() + "\n")
    found = again(one, tmp_path, CELLS[5].hash, device="cpu")
    assert found.recorded.test_accuracy == found.now.test_accuracy
    assert found.recorded.measured == found.now.measured
    cell, recorded, now, *measured = found.lines
    assert cell == f"cell {CELLS[5].hash}: SBP, layer, sparsity=0.5, training.lr=0.05"
    assert recorded.startswith(f"recorded: test accuracy {100 * found.now.test_accuracy:.2f}%, ")
    assert recorded.endswith(", one of 9 trained side by side")
    assert now.startswith(f"now: test accuracy {100 * found.now.test_accuracy:.2f}%, ")
    alive = f"{found.now.measured['alive']:.4g}"
    assert f"  alive: recorded {alive}, now {alive}" in measured


def test_a_cell_that_fails_now_says_why_and_ends_with_1(one, tmp_path, capsys):
    words = ["--cell", str(CELLS[0]), "--device", "cuda:99"]
    assert main(["reproduce", "edge", "--out", str(tmp_path), *words]) == 1
    assert "now: failed, pruneinit.errors.InputError" in capsys.readouterr().out


def test_an_altered_result_is_left_out_or_refused(one, tmp_path):
    first = again(one, tmp_path, CELLS[0].hash, device="cpu").now
    file = tmp_path / "edge" / "cells.jsonl"
    file.parent.mkdir()
    file.write_text(first.to_json().replace('"sparsity": 0.5', '"sparsity": 0.6') + "\n")
    found = again(one, tmp_path, CELLS[0].hash, device="cpu")
    assert found.lines[1] == "recorded: nothing; left out: 1 result of other versions or altered"
    file.write_text(first.to_json().replace(f'"test_accuracy": {first.test_accuracy}', '"test_accuracy": "0.5"') + "\n")
    with pytest.raises(InputError, match=f"the result {CELLS[0].hash} in edge is damaged"):
        again(one, tmp_path, CELLS[0].hash, device="cpu")


def test_the_page_of_all_studies_has_no_cells(capsys):
    assert main(["reproduce", "docs", "--cell", "x"]) == 2
    assert "docs is a page of all studies and has no cells" in capsys.readouterr().err


def test_a_study_without_training_has_no_cells_to_compute_anew(tmp_path):
    with pytest.raises(InputError, match="densities trains no networks"):
        again(STUDIES["densities"], tmp_path, "x")


def test_the_command_says_what_is_recorded_and_what_is_found(one, tmp_path, capsys):
    main(["reproduce", "edge", "--out", str(tmp_path), "--cell", str(CELLS[0]), "--device", "cpu"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"cell {CELLS[0].hash}: {CELLS[0]}"
    assert said[1] == "recorded: nothing"
    assert said[2].startswith("now: test accuracy ")
    assert not list(tmp_path.iterdir())
