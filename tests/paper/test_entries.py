import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.paper.entries import at_chosen, entries
from pruneinit.paper.published import Reported
from pruneinit.paper.tables import csv_rows, csv_text, entry_table, pivot, unmeasured

SHARED = {"depth": 3, "width": 16, "validation": 0.1, "training": {"epochs": 1, "augment": False}}
GRID = Grid(
    "g", SHARED, rows={"SNIP": {"criterion": "snip"}, "random": {"criterion": "random"}},
    over={"sparsity": [0.5, 0.9], "seed": [0, 1, 2], "training.lr": [0.1, 0.01]}, choose="training.lr",
)  # fmt: skip
REPORTED = [
    Reported("SNIP", "digits", "mlp", "sparsity", 0.5, 92.0, 0.3, "made up"),
    Reported("OBD", "digits", "mlp", "sparsity", 0.9, 95.0, None, "made up"),
]


def result(cell, test, validation, best=None, state="done"):
    whole = state == "done"
    return Result(
        cell=cell.hash, row=cell.row, recipe=cell.recipe.to_mapping(), version="0", code="0", results_version=1,
        torch="2", state=state, seconds=1.0, test_accuracy=test if whole else None,
        best_test_accuracy=(best or test) if whole else None, validation_accuracy=validation if whole else None,
    )  # fmt: skip


def found_of(value, keep=lambda cell: True):
    return {cell.hash: value(cell) for cell in GRID.cells() if keep(cell)}


def lr(cell):
    return cell.recipe.training.lr


def test_mean_and_deviation_are_of_the_chosen_value_alone_and_test_data_has_no_say():
    def value(cell):
        # The larger rate is better on test data, the smaller one on validation data.
        good = lr(cell) == 0.01
        test = (0.80 if good else 0.99) + 0.01 * cell.recipe.seed
        return result(cell, test, 0.9 if good else 0.5, best=test + 0.005)

    first = entries(GRID, found_of(value), REPORTED)[0]
    assert (first.row, first.axes, first.chosen, first.seeds, first.planned) == ("SNIP", {"sparsity": 0.5}, 0.01, 3, 3)
    assert first.last.mean == pytest.approx(81.0)
    assert first.last.sd == pytest.approx(statistics.stdev([80, 81, 82]))
    assert first.best.mean == pytest.approx(81.5)
    assert first.difference == pytest.approx(81.0 - 92.0)


def test_an_unfinished_grid_chooses_among_the_seeds_that_have_every_value_and_counts_further_ones_at_it():
    def keep(cell):
        # Of seed 1 the chosen value alone, of seed 2 the other one, which would win if it had a say.
        return cell.recipe.seed == 0 or lr(cell) == {1: 0.1, 2: 0.01}[cell.recipe.seed]

    def value(cell):
        return result(cell, 0.5 + 0.1 * cell.recipe.seed, 0.99 if cell.recipe.seed == 2 else 0.5 + lr(cell))

    found = entries(GRID, found_of(value, keep))
    assert [(entry.seeds, entry.chosen) for entry in found] == [(2, 0.1)] * 4
    assert found[0].last.mean == pytest.approx(55.0)
    one = entries(GRID, found_of(value, lambda cell: cell.recipe.seed == 0))
    assert [(entry.seeds, entry.last.sd) for entry in one] == [(1, None)] * 4
    none = entries(GRID, found_of(value, lambda cell: cell.recipe.seed > 0 and keep(cell)))
    assert [(entry.seeds, entry.last, entry.chosen) for entry in none] == [(0, None, None)] * 4


@given(st.data())
def test_the_chosen_value_is_that_of_the_best_mean_over_whole_seeds(data):
    score = {cell.hash: data.draw(st.sampled_from([0.25, 0.5, 0.75])) for cell in GRID.cells()}
    there = found_of(lambda cell: result(cell, 0.5, score[cell.hash]), lambda cell: data.draw(st.booleans()))
    told = at_chosen(GRID.cells(), GRID.choose, there)
    for place in {(cell.row, cell.recipe.sparsity) for cell in GRID.cells()}:
        here = [cell for cell in GRID.cells() if (cell.row, cell.recipe.sparsity) == place]
        whole = [n for n in (0, 1, 2) if all(cell.hash in there for cell in here if cell.recipe.seed == n)]
        means = {
            rate: sum(score[cell.hash] for cell in here if lr(cell) == rate and cell.recipe.seed in whole)
            for rate in (0.1, 0.01)
        }
        best = 0.1 if means[0.1] >= means[0.01] else 0.01
        expected = {cell.hash: lr(cell) == best for cell in here} if whole else {}
        assert {cell.hash: told[cell.hash] for cell in here if cell.hash in told} == expected


def test_a_value_that_failed_for_a_seed_is_not_chosen():
    def value(cell):
        broken = lr(cell) == 0.1 and cell.recipe.seed == 2
        return result(cell, 0.7, 0.9 if lr(cell) == 0.1 else 0.1, state="failed" if broken else "done")

    assert {entry.chosen for entry in entries(GRID, found_of(value))} == {0.01}


def test_without_a_choice_the_cells_that_failed_are_left_out():
    grid = Grid("g", SHARED, over={"seed": [0, 1, 2]})
    cells = grid.cells()
    found = {cell.hash: result(cell, 0.5, None, state="failed" if i == 1 else "done") for i, cell in enumerate(cells)}
    (entry,) = entries(grid, found)
    assert (entry.seeds, entry.planned, entry.last.mean, entry.last.sd) == (2, 3, 50.0, 0.0)


def test_a_small_network_takes_the_place_of_the_papers():
    reported = [Reported("SNIP", "digits", "resnet32", "sparsity", 0.9, 92.0, None, "made up")]
    everything = found_of(lambda cell: result(cell, 0.5, 0.5))
    assert all(entry.published is None for entry in entries(GRID, everything, reported))
    beside = [entry.published for entry in entries(GRID, everything, reported, {"mlp": "resnet32"})]
    assert beside == [None, reported[0], None, None]


def test_tables_say_ours_beside_the_papers_number_by_number():
    def value(cell):
        return result(cell, 0.9 + 0.01 * cell.recipe.seed, 0.5 + lr(cell), best=0.95)

    found = entries(GRID, found_of(value), REPORTED)
    table = entry_table(found, unmeasured(REPORTED, found))
    assert "mlp on digits:" in table
    assert "| SNIP | 0.5 | 92.00 ± 0.30 | 91.00 ± 1.00 | 95.00 ± 0.00 | -1.00 | 3 of 3 |" in table
    assert "| random | 0.9 | – | 91.00 ± 1.00 | 95.00 ± 0.00 | – | 3 of 3 |" in table
    assert "| OBD | mlp | digits | sparsity 0.9 | 95.00 |" in table
    rows = csv_rows("s", "small", found, unmeasured(REPORTED, found))
    assert [row["row"] for row in rows] == ["SNIP", "SNIP", "random", "random", "OBD"]
    first = rows[0]
    numbers = {"last_mean": 91.0, "last_sd": 1.0, "best_mean": 95.0, "published": 92.0, "difference": -1.0}
    assert {name: first[name] for name in numbers} == numbers
    assert (first["sparsity"], first["seeds"], first["chosen_lr"]) == (0.5, 3, 0.1)
    assert csv_text(rows).splitlines()[5].startswith("s,small,OBD,digits,mlp,,,0.9,,0,")


def test_a_pivot_has_a_column_for_each_value():
    everything = found_of(lambda cell: result(cell, cell.recipe.sparsity, 0.5))
    found = [replace(entry, axes={**entry.axes, "depth": 10}) for entry in entries(GRID, everything)]
    lines = pivot(found, across="sparsity", down="depth").splitlines()
    assert lines[0] == "| row | depth | sparsity 0.5 | sparsity 0.9 |"
    assert lines[2:] == [f"| {row} | 10 | 50.00 ± 0.00 | 90.00 ± 0.00 |" for row in ("SNIP", "random")]
