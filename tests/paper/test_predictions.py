import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.paper import STUDIES, reproduce
from pruneinit.paper.entries import entries
from pruneinit.paper.predict import Network, predict
from pruneinit.paper.predictions import accuracy_by, medians, predictions_remarks, predictions_table, with_medians
from pruneinit.paper.tables import csv_rows
from pruneinit.trainability import MEASURES

SHARED = {"validation": 0.2, "model": "mlp", "width": 4, "training": {"epochs": 1}}
ROWS = {"snip": {"criterion": "snip"}, "random": {"criterion": "random"}}
AXES = {
    "activation": ["tanh", "relu"], "init": ["edge"], "depth": [30, 50], "sparsity": [0.9, 0.95],
    "seed": [0, 1, 2], "training.lr": [0.1, 0.01],
}  # fmt: skip
GRID = Grid("edge", SHARED, ROWS, AXES, "training.lr")


def made(cell):
    """Snip trains at 90 %, at the larger rate; only alive tells so."""
    trains = cell.row == "snip" and cell.recipe.sparsity == 0.9
    accuracy = 0.9 if trains and cell.recipe.training.lr == 0.1 else 0.1
    measured = dict.fromkeys(MEASURES, 1.0) | {"alive": 30.0 + cell.recipe.seed if trains else 5.0, "kernel": None}
    return Result(
        cell=cell.hash, row=cell.row, recipe=cell.recipe.to_mapping(), version="0", code="0", results_version=1,
        torch="2", state="done", seconds=1.0, test_accuracy=accuracy, best_test_accuracy=accuracy, best_epoch=1,
        validation_accuracy=accuracy, measured=measured,
    )  # fmt: skip


def page_of(results, tmp_path, monkeypatch):
    one = STUDIES["edge"]
    monkeypatch.setattr(type(one), "grid", lambda self, scale: GRID)
    folder = one.folder(tmp_path, "small")
    folder.mkdir()
    (folder / "cells.jsonl").write_text("".join(f"{result.to_json()}\n" for result in results))
    return reproduce(one, tmp_path, None)


@pytest.fixture
def written(tmp_path, monkeypatch):
    return page_of([made(cell) for cell in GRID.cells()], tmp_path, monkeypatch)


def test_the_page_tells_which_measure_says_what_trains(written):
    page = written.page.read_text()
    assert written.findings.done == written.findings.planned == 96
    (line,) = [line for line in page.splitlines() if line.startswith("| alive")]
    assert line.endswith("| above 17.5 | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |")
    assert line.count("|") == 9
    assert "| found on (16) | other seeds (8) | other depths (16) | both other (8) | all others (32) |" in page
    assert "best told by alive (100.0 %)" in page
    assert "reaches 100.0 %" in page
    assert "| snip | 2 of 4 | 2 of 4 |" in page


def test_the_csv_has_the_median_of_each_measure(written):
    with (written.folder / "edge.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = next(row for row in rows if (row["row"], row["sparsity"], row["depth"]) == ("snip", "0.9", "30"))
    assert (first["init"], first["alive"], first["kernel"], first["last_mean"]) == ("edge", "31.0", "", "90.0")
    assert len(rows) == 16


def test_the_drawing_has_the_maps_and_accuracy_by_the_best_measure(written):
    root = ElementTree.fromstring((written.folder / "edge.svg").read_text())
    heads = [node.text for node in root.iter() if "head" in node.get("class", "").split()]
    assert heads[-1] == "Test accuracy by alive"
    assert {"tanh, edge", "relu, edge"} <= set(heads)


def test_results_without_measurements_are_told_without_predictions(tmp_path, monkeypatch):
    results = [replace(made(cell), measured=None) for cell in GRID.cells()]
    assert all("measured" not in json.loads(result.to_json()) for result in results)
    page = page_of(results, tmp_path, monkeypatch).page.read_text()
    assert "What tells before training" not in page
    assert "| snip | 2 of 4 | 2 of 4 |" in page


def test_a_line_for_each_depth_has_the_means_of_its_bins():
    values = [(30, 1.0, 10.0), (30, 1.0, 30.0), (30, 100.0, 90.0), (50, 100.0, 50.0)]
    found = [Network("a", 0, depth, accuracy, {"alive": alive}) for depth, alive, accuracy in values]
    root = ElementTree.fromstring(accuracy_by(found, "alive"))
    assert [node.text for node in root.iter() if "key" in node.get("class", "").split()] == ["depth 30", "depth 50"]
    tips = [node.text for node in root.iter() if node.tag.endswith("title") and node.text and "depth" in node.text]
    assert any("depth 30: 20" in tip for tip in tips)
    assert any("depth 30: 90" in tip and "depth 50: 50" in tip for tip in tips)


def test_without_other_seeds_and_depths_nothing_is_said_of_them():
    found = [Network("a", 0, 30, 90.0, {"alive": 9.0}), Network("a", 0, 30, 9.0, {"alive": 1.0})]
    predictions = predict(found, trains=80.0)
    assert predictions_remarks(predictions) == []
    assert "| 100.0 | – | – | – |" in predictions_table(found, predictions)


def test_measurements_of_two_networks_stay_apart_in_the_columns():
    grid = Grid("edge", {"validation": 0.2}, {"a": {}}, {"model": ["mlp-4", "mlp-8"], "depth": [3], "seed": [0, 1]})
    cells = grid.cells()
    results = {
        cell.hash: replace(made(cell), measured={"alive": float(cell.recipe.model.removeprefix("mlp-"))})
        for cell in cells
    }
    rows = csv_rows("edge", "small", entries(grid, results), [])
    found = with_medians(rows, medians(cells, results))
    assert [(row["network"], row["alive"]) for row in found] == [("mlp-4", 4.0), ("mlp-8", 8.0)]
