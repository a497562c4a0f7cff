from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneinit.experiments import Grid
from pruneinit.experiments.beside import Bundle, bundles, run_together, side_by_side
from pruneinit.experiments.cell import run_one
from pruneinit.experiments.executors import serial
from pruneinit.experiments.sweep import sweep

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


def test_what_is_no_small_network_or_not_trained_by_sgd_stays_alone():
    rows = {"mlp": {"training": {"optimizer": "adamw"}}, "v": {"model": "vcnn"}}
    grid = Grid("g", {"training": {"epochs": 1}}, rows=rows, over={"sparsity": [0.1, 0.2]})
    assert not any(isinstance(one, Bundle) for one in bundles(grid.cells(), 4))


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
    good, failed = run_together([cells[0], bad], device="cpu")
    assert good.state == "done"
    assert good == dataclasses.replace(run_one(cells[0].recipe, row=cells[0].row, device="cpu"), seconds=good.seconds)
    assert failed.failed
    assert "no residual branches" in failed.why
