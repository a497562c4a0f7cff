import dataclasses

import pytest

from pruneinit.experiments.cell import failed
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.progress import Watch
from pruneinit.experiments.sweep import Standing

GRID = Grid(
    "g",
    {"width": 16, "validation": 0.1},
    rows={"short": {"depth": 3}, "long": {"depth": 30}},
    over={"seed": [0, 1, 2]},
)
CELLS = GRID.cells()


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def done(cell, seconds, accuracy=0.5):
    result = failed(cell.recipe, "", row=cell.row, seconds=seconds)
    return dataclasses.replace(result, state="done", test_accuracy=0.1, validation_accuracy=accuracy, traceback=None)


def broken(cell, why="Traceback\nOSError: no disk"):
    return failed(cell.recipe, why, row=cell.row, seconds=0.1)


def watched(*results, at_once=1, before=(), cells=CELLS):
    """A watch that has seen results of cells, by their number, each a second after the other."""
    clock, now = Clock(), Standing(tuple(cells), {})
    for number, seconds in before:
        now = now.with_result(done(cells[number], seconds))
    watch = Watch(now, at_once, clock=clock)
    for number, result in results:
        clock.now += 1
        now = now.with_result(result)
        watch.result(now, cells[number], result)
    return watch, clock


def test_rows_count_what_is_done_failed_elsewhere_and_missing():
    watch, _ = watched((0, done(CELLS[0], 2.0, 0.5)), (1, done(CELLS[1], 4.0, 0.7)), (3, broken(CELLS[3])))
    watch.elsewhere(CELLS[4])
    progress = watch.look()
    short, long = progress.rows
    assert (short.name, short.done, short.failed, short.elsewhere, short.missing) == ("short", 2, 0, 0, 1)
    assert (short.accuracy, short.seconds) == (pytest.approx(0.6), 3.0)
    assert (long.name, long.done, long.failed, long.elsewhere, long.missing) == ("long", 0, 1, 1, 1)
    assert (long.accuracy, long.seconds) == (None, None)
    assert (progress.whole.cells, progress.whole.done, progress.whole.failed) == (6, 2, 1)
    assert progress.accuracy == "validation accuracy"


def test_test_accuracy_is_shown_where_nothing_is_held_out():
    cells = Grid("g", {"width": 16}, over={"seed": [0]}).cells()
    watch, _ = watched((0, done(cells[0], 1.0)), cells=cells)
    assert (watch.look().accuracy, watch.look().whole.accuracy) == ("test accuracy", 0.1)


def test_a_cell_that_another_sweep_had_counts_as_done_once_it_is():
    watch, _ = watched()
    watch.elsewhere(CELLS[0])
    assert watch.look().whole.elsewhere == 1
    watch.result(watch.standing.with_result(done(CELLS[0], 1.0)), CELLS[0], done(CELLS[0], 1.0))
    assert (watch.look().whole.elsewhere, watch.look().whole.done) == (0, 1)


def test_nothing_is_said_of_the_time_left_before_a_cell_of_this_call_is_done():
    watch, _ = watched(before=[(0, 2.0)])
    assert watch.look().left is None
    watch, _ = watched((1, broken(CELLS[1])))
    assert watch.look().left is None


def test_the_time_left_is_that_of_cells_of_the_same_row_and_size():
    watch, _ = watched((0, done(CELLS[0], 2.0)), (3, done(CELLS[3], 20.0)))
    assert watch.look().left == pytest.approx(2 * 2.0 + 2 * 20.0)


def test_what_no_cell_is_like_is_taken_for_the_mean_of_all():
    watch, _ = watched((0, done(CELLS[0], 2.0)), (1, done(CELLS[1], 4.0)))
    assert watch.look().left == pytest.approx(3.0 + 3 * 3.0)


def test_results_of_an_earlier_call_stand_in_only_for_sizes_that_this_one_has_not_seen():
    watch, _ = watched((0, done(CELLS[0], 2.0)), before=[(1, 50.0), (3, 20.0)])
    assert watch.look().left == pytest.approx(2.0 + 2 * 20.0)


def test_workers_share_the_time_left_but_none_of_them_splits_a_cell():
    results = [(0, done(CELLS[0], 2.0)), (3, done(CELLS[3], 20.0))]
    assert watched(*results, at_once=2)[0].look().left == pytest.approx(22.0)
    assert watched(*results, at_once=64)[0].look().left == pytest.approx(20.0)


def test_without_a_number_of_workers_it_is_observed():
    # 44 seconds of cells have been computed in two.
    watch, _ = watched((0, done(CELLS[0], 22.0)), (1, done(CELLS[1], 22.0)), at_once=None)
    assert watch.look().left == pytest.approx(22.0)
    watch, _ = watched((0, done(CELLS[0], 2.0)), at_once=None)
    assert watch.look().left == pytest.approx(5 * 2.0 / 2)


def test_the_time_left_runs_down_between_results_and_not_below_nothing():
    watch, clock = watched((0, done(CELLS[0], 2.0)))
    assert watch.look().left == pytest.approx(10.0)
    clock.now += 4
    assert watch.look().left == pytest.approx(6.0)
    clock.now += 100
    assert watch.look().left == 0.0


def test_at_the_end_no_time_is_left():
    watch, _ = watched(*((number, done(cell, 1.0)) for number, cell in enumerate(CELLS)))
    assert watch.look().left == 0.0


def test_the_newest_failures_are_kept_in_a_line_each():
    watch, _ = watched(*((number, broken(cell, f"Traceback\nE: {number}")) for number, cell in enumerate(CELLS)))
    assert watch.look().failures == tuple(f"{CELLS[number]}: E: {number}" for number in range(1, 6))
