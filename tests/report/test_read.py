import json
from pathlib import Path

import pytest

from pruneinit.errors import InputError
from pruneinit.report import read_run


def start(weights: int = 1000) -> dict:
    layers = [{"name": "fc.weight", "kind": "linear", "shape": [10, weights // 10], "total": weights}]
    counts = {"parameters": weights + 10, "weights": weights}
    return {"event": "start", "run": "ab12", "version": "0.1.0", "torch": "2.13.0", **counts, "layers": layers}


def epoch(number: int, **other) -> dict:
    names = (
        "lr",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "test_loss",
        "test_accuracy",
    )
    return {"event": "epoch", "epoch": number, **dict.fromkeys(names, 0.5), "seconds": 1.0, **other}


def append(folder: Path, text: str | bytes) -> None:
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def test_a_whole_run(whole_run):
    record = read_run(whole_run)
    assert (record.state, record.test_accuracy, record.best) == ("finished", 0.9724, (2, 0.98))
    assert (record.kept, record.total, record.empty) == (6000, 30000, ())
    assert record.pruning.criterion == "snip"
    assert record.pruning.sparsity == 0.9
    assert [stage.name for stage in record.stages] == ["dense", "pruned", "rescaled"]
    assert record.rescaling.factors[0] == ("fc1.weight", 1.75)
    assert record.recipe["model"]["depth"] == 30
    assert record.versions == {"pruneinit": "0.1.0", "torch": "2.13.0"}
    assert record.layers[0].shape == (100, 100)


def test_a_dense_run_keeps_every_weight(write_run):
    record = read_run(write_run([start(), epoch(1)]))
    assert record.pruning is None
    assert record.kept == record.total == 1000


@pytest.mark.parametrize(
    "events, state",
    [
        ([], "not trained yet"),
        ([start()], "not trained yet"),
        ([start(), epoch(1)], "unfinished"),
        ([start(), epoch(1, train_loss=None)], "diverged"),
    ],
    ids=["nothing", "started", "an epoch", "lost its loss"],
)
def test_an_unfinished_run_is_read(write_run, events, state):
    assert read_run(write_run(events)).state == state


def test_the_later_record_of_an_epoch_counts(write_run):
    epochs = [epoch(1), epoch(2, test_accuracy=0.1), epoch(2, test_accuracy=0.7), epoch(3)]
    record = read_run(write_run([start(), *epochs]))
    assert [(e.epoch, e.test_accuracy) for e in record.epochs] == [(1, 0.5), (2, 0.7), (3, 0.5)]


@pytest.mark.parametrize("given", ["null", "NaN", "-Infinity", "1e999", "1" + "0" * 400])
def test_what_is_not_finite_is_none(write_run, given):
    folder = write_run([start()])
    append(folder, json.dumps(epoch(1, test_loss="HERE")).replace('"HERE"', given) + "\n")
    assert read_run(folder).epochs[0].test_loss is None


@pytest.mark.parametrize("half", ['{"event": "ep', '{"event": "epoch", "epoch": 2', b'{"event": "\xc3', "]"])
def test_a_half_written_last_line_is_left_out(write_run, half):
    folder = write_run([start(), epoch(1)])
    append(folder, half)
    assert len(read_run(folder).epochs) == 1


@pytest.mark.parametrize("half", ['{"event": "ep\n', b'{"event": "\xc3\n'])
def test_a_half_written_line_elsewhere_is_an_error(write_run, half):
    folder = write_run([start(), epoch(1)])
    append(folder, half)
    append(folder, json.dumps(epoch(2)) + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 3: not a whole JSON object"):
        read_run(folder)


@pytest.mark.parametrize(
    "event, message",
    [
        ([1], "expected a JSON object"),
        ({"epoch": 1}, 'expected a JSON object with an "event"'),
        ({"event": "epoch", "epoch": 1}, "'epoch' has no 'lr'"),
        (epoch(-1), "'epoch' of 'epoch' must be a whole number, 0 or more, got -1"),
        (epoch(1, lr="fast"), "'lr' of 'epoch' must be a number or null, got 'fast'"),
        (epoch(1, lr=True), "must be a number or null, got True"),
        ({"event": "moments", "stage": 3, "layers": []}, "'stage' of 'moments' must be a text"),
        ({"event": "moments", "stage": "dense", "layers": [3]}, "must be a list of objects"),
        ({"event": "residuals", "factor": 0.2, "branches": "all"}, "must be a list of texts"),
        (start() | {"layers": [start()["layers"][0] | {"shape": [1.5]}]}, "must be a list of whole numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_event_is_an_error_with_its_line(write_run, event, message):
    folder = write_run([start(), event])
    with pytest.raises(InputError) as caught:
        read_run(folder)
    assert message in str(caught.value)
    assert str(folder / "metrics.jsonl") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_cannot_keep_more_than_it_has(write_run):
    layer = start()["layers"][0] | {"kept": 1001}
    prune = {"event": "prune", "sparsity": 0.5, "criterion": "snip", "seconds": 1, "layers": [layer]}
    with pytest.raises(InputError, match=r"line 2: layer 'fc\.weight' keeps 1001 of 1000"):
        read_run(write_run([start(), prune]))


def test_unknown_events_are_passed_over(write_run):
    assert read_run(write_run([{"event": "weather", "sun": True}])).layers == ()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "recipe.yaml").unlink(), "has no recipe.yaml"),
        (lambda f: (f / "metrics.jsonl").unlink(), "has no metrics.jsonl"),
        (lambda f: (f / "recipe.yaml").write_text("a: 1\nb: ["), r"recipe\.yaml, line 2: not valid YAML"),
        (lambda f: (f / "recipe.yaml").write_bytes(b"a: \xff\xfe"), "not valid YAML"),
        (lambda f: (f / "recipe.yaml").write_text("- a"), "expected a mapping of settings, got list"),
        (lambda f: (f / "recipe.yaml").write_text("a: !!python/object:os.system {}"), "not valid YAML"),
    ],
    ids=["no recipe", "no metrics", "cut off", "not text", "a list", "code"],
)
def test_a_damaged_folder(whole_run, spoil, message):
    spoil(whole_run)
    with pytest.raises(InputError, match=message):
        read_run(whole_run)


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match=r"no folder .*nowhere: expected the folder of a run"):
        read_run(tmp_path / "nowhere")
