"""Made-up runs: folders as a run leaves them, without a network behind them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

RECIPE = {
    "model": {"name": "mlp", "depth": 30, "width": 100, "activation": "tanh"},
    "initialization": {"scheme": "edge_of_chaos", "sigma_b": 0.2},
    "pruning": {"criterion": "snip", "sparsity": 0.9, "scope": "global", "batches": 4},
    "rescale": "layer",
    "training": {"epochs": 20, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "schedule": [10, 15]},
    "seed": 0,
    "note": None,
}


def start(layers: list[dict[str, Any]]) -> dict[str, Any]:
    weights = sum(layer["total"] for layer in layers)
    plain = [{key: layer[key] for key in ("name", "kind", "shape", "total")} for layer in layers]
    versions = {"version": "0.1.0", "torch": "2.13.0"}
    return {"event": "start", "run": "3f9c2a71d0", **versions, "parameters": weights + 100, "weights": weights} | {
        "layers": plain
    }


def layer(name: str, kept: int, total: int = 10_000) -> dict[str, Any]:
    return {"name": name, "kind": "linear", "shape": [100, total // 100], "total": total, "kept": kept}


def prune(layers: list[dict[str, Any]], sparsity: float = 0.9) -> dict[str, Any]:
    counts = {key: sum(one[key] for one in layers) for key in ("total", "kept")}
    return {"event": "prune", "sparsity": sparsity, **counts, "seconds": 1.2, "criterion": "snip", "layers": layers}


def moments(stage: str, values: list[float | None]) -> dict[str, Any]:
    layers = [{"name": f"fc{i}", "value": value} for i, value in enumerate(values, 1)]
    return {"event": "moments", "stage": stage, "layers": layers}


def epoch(number: int, accuracy: float, loss: float | None, **other: Any) -> dict[str, Any]:
    measured = {"train_loss": loss, "train_accuracy": accuracy, "test_loss": loss, "test_accuracy": accuracy}
    unmeasured = {"validation_loss": None, "validation_accuracy": None}
    return {"event": "epoch", "epoch": number, "lr": 0.01, **measured, **unmeasured, "seconds": 2.5, **other}


def result(accuracy: float, survivors: int, **other: Any) -> dict[str, Any]:
    best = {"best_test_accuracy": 0.98, "best_epoch": 2}
    end = {"epochs": 3, "seconds": 75.0, "survivors": survivors, "diverged": False}
    return {"event": "result", "test_accuracy": accuracy, **best, **end, **other}


def finished(kept: list[int] | None = None, **other: Any) -> list[dict[str, Any]]:
    """The events of a whole run: three layers, three epochs, 97.24 % at the end."""
    layers = [layer(f"fc{i}.weight", k) for i, k in enumerate(kept or [1000, 2000, 3000], 1)]
    stages = {"dense": [0.5, 0.5, 0.5], "pruned": [0.1, 0.01, 0.001], "rescaled": [0.5, 0.5, 0.49]}
    return [
        start(layers),
        prune(layers),
        *(moments(stage, values) for stage, values in stages.items()),
        {"event": "rescale", "method": "layer", "layers": [{"name": one["name"], "factor": 1.75} for one in layers]},
        epoch(1, 0.5, 1.5),
        epoch(2, 0.98, 0.2),
        epoch(3, 0.9724, 0.25),
        result(0.9724, sum(one["kept"] for one in layers), **other),
    ]


Write = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """Writes events and a recipe into a folder and returns it."""

    def write(events: list[dict[str, Any]], recipe: Any = RECIPE, name: str = "run") -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def whole_run(write_run: Write) -> Path:
    """A finished run: three layers, three epochs, 97.24 % at the end with 20 % of the weights."""
    return write_run(finished())


@pytest.fixture
def finished_events() -> list[dict[str, Any]]:
    """The events of `whole_run`, to be changed."""
    return finished()


@pytest.fixture
def empty_layer_run_of(write_run: Write) -> Callable[[str], Path]:
    """Makes, under a given name, a run of which the middle layer is empty, so that its output is zero."""
    events = [event for event in finished([1000, 0, 3000]) if event.get("stage") != "rescaled"]
    events = [moments("pruned", [0.1, 0.0, 0.0]) if e.get("stage") == "pruned" else e for e in events]
    return lambda name: write_run(events, name=name)


@pytest.fixture
def empty_layer_run(empty_layer_run_of: Callable[[str], Path]) -> Path:
    return empty_layer_run_of("holed")


@pytest.fixture
def deep_run(write_run: Write) -> Path:
    """A run of 60 layers with long names, in a folder with a long name."""
    layers = [layer(f"stages.{i // 20}.residual_blocks.{i}.convolution.weight", 20 * i) for i in range(60)]
    values = [10.0 ** (-i / 3) for i in range(60)]
    epochs = [epoch(i, 0.97 - 0.5 / i, 2.0 / i, validation_loss=0.1, validation_accuracy=0.9) for i in range(1, 101)]
    end = result(0.9724, sum(one["kept"] for one in layers))
    events = [start(layers), prune(layers), moments("dense", [0.5] * 60), moments("pruned", values), *epochs, end]
    return write_run(events, recipe=RECIPE | {"a_long_name" * 6: "and_a_long_value" * 6}, name="x" * 80)


@pytest.fixture
def hostile_run(write_run: Write) -> Path:
    """A run in which every text tries to be markup."""
    bad = "</text></svg><script>alert(1)</script>[red]&amp;\"'\x00"
    text = (
        json.dumps(finished([1000, 0, 3000]))
        .replace("fc1", "HERE")
        .replace("snip", "HERE")
        .replace("3f9c2a71d0", "HERE")
    )
    events = json.loads(text.replace("HERE", json.dumps(bad)[1:-1]))
    return write_run(events, recipe={"<script>key</script>": {"deep": "<script>alert(2)</script>"}}, name="a&<b>'run'")


@pytest.fixture
def just_begun(write_run: Write) -> Path:
    """A run that has written nothing yet."""
    return write_run([], name="begun")


@pytest.fixture
def broken_off(write_run: Write) -> Path:
    """A run that was stopped after its first epoch."""
    return write_run(finished()[:7], name="broken-off")
