from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneinit.experiments import Grid, beside
from pruneinit.experiments.beside import Bundle, bundles, run_together, side_by_side
from pruneinit.experiments.cell import Result, failed, run_one
from pruneinit.experiments.executors import serial
from pruneinit.experiments.prepare import ready
from pruneinit.experiments.sweep import sweep
from pruneinit.experiments.work import Work
from pruneinit.train import train

SHARED = {
    "depth": 3,
    "width": 16,
    "validation": 0.1,
    "training": {"epochs": 1, "augment": False, "weight_decay": 0.0, "schedule": "constant"},
}
ROWS = {"edge": {"init": "edge"}, "edge, rescaled": {"init": "edge", "rescale": "layer"}}
GRID = Grid("g", SHARED, rows=ROWS, over={"sparsity": [0.5, 0.95], "seed": [0, 1], "training.lr": [0.1, 0.05]})


@given(size=st.integers(1, 9), order=st.randoms(use_true_random=False))
def test_each_cell_is_in_one_bundle_with_others_that_share_its_data_and_sizes(size, order):
    cells = GRID.cells()
    order.shuffle(cells)
    found = bundles(cells, size)
    members = [one.cells if isinstance(one, Bundle) else (one,) for one in found]
    assert sorted(cell.hash for group in members for cell in group) == sorted(cell.hash for cell in cells)
    assert all(len(group) <= size and len({cell.recipe.seed for cell in group}) == 1 for group in members)
    place = {cell.hash: at for at, cell in enumerate(cells)}
    firsts = [place[one.hash] for one in found]
    assert firsts == sorted(firsts)
    assert all(place[group[0].hash] == min(place[cell.hash] for cell in group) for group in members)


@pytest.mark.parametrize("model", ["mlp", "vcnn-2"], ids=["trained side by side", "prepared once"])
def test_cells_that_are_to_stay_apart_are_in_bundles_of_their_own(model):
    cells = replace(GRID, recipe={**SHARED, "model": model}).cells()
    found = bundles(cells, 8, lambda cell: cell.recipe.training.lr)
    members = [one.cells if isinstance(one, Bundle) else (one,) for one in found]
    assert sorted(cell.hash for group in members for cell in group) == sorted(cell.hash for cell in cells)
    assert all(len({cell.recipe.training.lr for cell in group}) == 1 for group in members)


def test_what_is_no_small_network_or_not_trained_by_sgd_stays_alone():
    rows = {"mlp": {"training": {"optimizer": "adamw"}}, "v": {"model": "vcnn"}}
    grid = Grid("g", {"training": {"epochs": 1}}, rows=rows, over={"sparsity": [0.1, 0.2]})
    assert not any(isinstance(one, Bundle) for one in bundles(grid.cells(), 4))


CONVOLUTIONS = Grid(
    "c",
    {**SHARED, "model": "vcnn-2", "width": 4},
    over={"sparsity": [0.5, 0.9], "training.lr": [0.1, 0.05]},
    choose="training.lr",
)


def test_what_differs_in_training_alone_is_prepared_once_and_the_numbers_are_those_of_one_by_one(tmp_path, monkeypatch):
    alone = sweep(CONVOLUTIONS, tmp_path / "alone", device="cpu", measure=True)
    calls = []
    monkeypatch.setattr(beside, "ready", lambda *given: calls.append(given[0]) or ready(*given))
    together = sweep(
        CONVOLUTIONS, tmp_path / "together", executor=side_by_side(serial(), 2), device="cpu", measure=True
    )
    assert [recipe.sparsity for recipe in calls] == [0.5, 0.9]
    assert together.results.keys() == alone.results.keys()
    for name, one in together.results.items():
        assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(alone.results[name], seconds=0.0)
        assert one.seconds > 0


def test_where_training_fails_half_way_what_is_there_stays_and_the_rest_goes_alone(monkeypatch):
    cells = [cell for cell in CONVOLUTIONS.cells() if cell.recipe.sparsity == 0.5]
    trained = []

    def once(model, *given, **named):
        if trained:
            raise RuntimeError("no room")
        trained.append(model)
        return train(model, *given, **named)

    monkeypatch.setattr(beside, "train", once)
    found = list(run_together(cells, device="cpu"))
    assert [one.cell for one in found] == [cell.hash for cell in cells]
    assert len(trained) == 1
    assert all(one.state == "done" for one in found)


def test_where_a_process_dies_the_first_cell_without_a_result_has_failed_and_those_before_keep_theirs(tmp_path):
    cells = [cell for cell in CONVOLUTIONS.cells() if cell.recipe.sparsity == 0.5]

    def dies(todo, work):
        """Carries out the first of each bundle, then its process dies."""
        for bundle in todo:
            work(bundle.cells[0])
            yield bundle, failed(bundle.recipe, "it died", row=bundle.row)

    work = Work(tmp_path, device="cpu")
    (_, first), (_, second) = side_by_side(dies, 2)(cells, work)
    assert first == work.there(cells[0])
    assert first.state == "done"
    assert (second.state, second.cell, second.why) == ("failed", cells[1].hash, "it died")


def test_networks_of_unequal_widths_are_bundled_by_their_widths():
    rows = {"one": {"model": "mlp-6-4", "depth": 5}, "other": {"model": "mlp-8-4", "depth": 5}}
    found = bundles(Grid("g", {}, rows=rows, over={"sparsity": [0.1, 0.2]}).cells(), 4)
    assert [len(one.cells) for one in found if isinstance(one, Bundle)] == [2, 2]


def test_a_sweep_side_by_side_has_the_results_of_one_cell_after_another(tmp_path):
    alone = sweep(GRID, tmp_path / "alone", device="cpu")
    together = sweep(GRID, tmp_path / "together", executor=side_by_side(serial(), 5), device="cpu")
    assert not together.missing
    assert not together.failed
    for name, one in alone.results.items():
        other = together.results[name]
        assert (one.survivors, one.densities, one.row) == (other.survivors, other.densities, other.row)
        assert other.test_accuracy == pytest.approx(one.test_accuracy, abs=0.02)
        assert one.beside == 1 < other.beside


def test_what_is_there_is_not_computed_again_nor_left_out(tmp_path):
    first = sweep(GRID, tmp_path, executor=side_by_side(serial(), 3), device="cpu")
    for file in list((tmp_path / "cells").glob("*.json"))[::2]:
        file.unlink()
    again = sweep(GRID, tmp_path, executor=side_by_side(serial(), 5), device="cpu")
    assert not again.missing
    assert sum(again.results[name] == first.results[name] for name in first.results) >= len(first.results) // 2


def test_where_one_cannot_be_prepared_each_goes_alone_and_only_that_one_fails():
    cells = GRID.cells()[:2]
    bad = dataclasses.replace(cells[1], recipe=dataclasses.replace(cells[1].recipe, residuals="stable"))
    good, failed = list(run_together([cells[0], bad], device="cpu"))
    assert good.state == "done"
    assert good == dataclasses.replace(run_one(cells[0].recipe, row=cells[0].row, device="cpu"), seconds=good.seconds)
    assert failed.failed
    assert "no residual branches" in failed.why


def test_what_is_measured_before_training_is_the_same_side_by_side_and_alone():
    cells = bundles(GRID.cells(), 4)[0].cells
    together = list(run_together(cells, device="cpu", measure=True))
    assert all(one.measured["alive"] > 0 for one in together)
    for cell, one in zip(cells, together, strict=True):
        alone = run_one(cell.recipe, row=cell.row, device="cpu", measure=True)
        assert one.measured == alone.measured
        assert one.cell == alone.cell == cell.hash
        assert Result.from_json(one.to_json()) == one


def test_a_sweep_measures_where_it_is_asked_to_and_reads_results_without_it(tmp_path):
    before = sweep(GRID, tmp_path, executor=side_by_side(serial(), 5), device="cpu")
    assert all(result.measured is None for result in before.results.values())
    assert all('"measured"' not in file.read_text() for file in (tmp_path / "cells").glob("*.json"))
    gone = next((tmp_path / "cells").glob("*.json"))
    gone.unlink()
    after = sweep(GRID, tmp_path, executor=side_by_side(serial(), 5), device="cpu", measure=True)
    assert [name for name, result in after.results.items() if result.measured is not None] == [gone.stem]
