import dataclasses

import pytest

from pruneinit.report import read_run
from pruneinit.report.words import cautions, duration, headline, share


def test_headline_of_a_pruned_run(whole_run):
    assert headline(read_run(whole_run)) == "97.2 % test accuracy with 20 % of the weights (6,000 of 30,000)"


def test_headline_of_a_dense_run(whole_run):
    lines = (whole_run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (whole_run / "metrics.jsonl").write_text("".join(line for line in lines if '"event": "prune"' not in line))
    assert headline(read_run(whole_run)) == "97.2 % test accuracy with all 30,000 weights"


def test_headline_of_an_unfinished_run(broken_off):
    expected = "Unfinished: 50.0 % test accuracy with 20 % of the weights (6,000 of 30,000), after 1 epoch"
    assert headline(read_run(broken_off)) == expected


def test_headline_before_the_first_line(just_begun):
    assert headline(read_run(just_begun)) == "Not trained yet"


def test_headline_of_a_diverged_run(whole_run):
    record = read_run(whole_run)
    record = dataclasses.replace(record, result=dataclasses.replace(record.result, diverged=True, test_accuracy=0.1))
    assert headline(record).startswith("Diverged: 10.0 % test accuracy with 20 %")
    assert cautions(record) == ["Training diverged"]


def test_a_good_run_needs_no_caution(whole_run):
    assert cautions(read_run(whole_run)) == []


def test_an_empty_layer_whose_output_is_zero(empty_layer_run):
    expected = "1 of 3 layers is empty: no signal passes, the output on a whole batch is zero (fc2.weight)"
    assert cautions(read_run(empty_layer_run)) == [expected]


def test_an_empty_layer_beside_a_shortcut_is_not_said_to_stop_the_signal(hostile_run):
    assert "no signal passes unless a shortcut leads around them" in cautions(read_run(hostile_run))[0]


def test_a_lost_loss_is_reported_with_its_epoch(whole_run):
    record = read_run(whole_run)
    epochs = tuple(dataclasses.replace(e, train_loss=None if e.epoch > 1 else 0.3) for e in record.epochs)
    record = dataclasses.replace(record, epochs=epochs, result=None)
    assert cautions(record) == [
        "Training diverged: the loss was not finite in epoch 2",
        "The run is unfinished: 3 epochs so far, and no final result",
    ]


def test_survivors_that_do_not_match_the_pruning_are_reported(whole_run):
    record = read_run(whole_run)
    record = dataclasses.replace(record, result=dataclasses.replace(record.result, survivors=5999))
    assert cautions(record) == ["Pruning kept 6,000 weights, but the run ended with 5,999"]


@pytest.mark.parametrize(
    "kept, total, text",
    [
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1234, 10_000, "12.3 %"),
        (1, 10_000, "0.01 %"),
        (9_994, 10_000, "99.9 %"),
        (9_999, 10_000, "over 99.9 %"),
        (1, 10**8, "under 0.001 %"),
        (0, 0, "–"),
    ],
)
def test_share(kept, total, text):
    assert share(kept, total) == text


@pytest.mark.parametrize(
    "seconds, text", [(0.0, "0 s"), (59.6, "1 min 0 s"), (59.4, "59 s"), (3600, "1 h 0 min"), (None, "–")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
