from __future__ import annotations

import itertools

import pytest

from pruneinit.experiments.pace import Pace, duration


def lines(seconds_a_step, steps, epochs, first=1):
    """When a line is said, and what, over a run whose steps all take as long."""
    now = [0.0]
    pace = Pace(epochs, clock=lambda: now[0])
    said = []
    for epoch in range(first, epochs + 1):
        for step in range(1, steps + 1):
            now[0] += seconds_a_step
            line = pace(epoch, step, steps)
            if line is not None:
                said.append((now[0], line))
    return said


def test_a_slow_epoch_says_a_line_every_half_minute():
    said = lines(5.0, steps=60, epochs=2)
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(said)]
    assert min(gaps) >= 30
    assert len(said) == 18
    assert said[0][1] == "epoch 1/2, 11 % of it done, about 9 min to the end of the run"
    assert said[-1][1] == "epoch 2/2, 91 % of it done, about 25 s to the end of the run"


def test_the_time_left_is_that_of_the_steps_still_to_come():
    for when, line in lines(7.0, steps=100, epochs=3):
        assert f"about {duration(3 * 100 * 7.0 - when)} to" in line


def test_a_run_that_goes_on_counts_only_what_it_has_seen():
    said = lines(7.0, steps=100, epochs=3, first=3)
    assert said[0][1].startswith("epoch 3/3, 6 % of it done")
    assert f"about {duration(100 * 7.0 - said[0][0])} to" in said[0][1]


@pytest.mark.parametrize("seconds", [0.01, 0.29])
def test_fast_epochs_have_no_line_but_their_own(seconds):
    assert not lines(seconds, steps=100, epochs=10)


@pytest.mark.parametrize("seconds, words", [(0, "0 s"), (59.4, "59 s"), (61, "1 min"), (3600, "1 h 0 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words
