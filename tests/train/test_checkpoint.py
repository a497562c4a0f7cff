from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from interruptible import interruptible
from pruneinit.errors import InputError
from pruneinit.files import read_tensors, write_tensors
from pruneinit.masks import Masks
from pruneinit.survivors import sparsify_
from pruneinit.train import Training, train
from pruneinit.train.checkpoint import identity, read, remove_parts, restore_
from pruneinit.train.forward import make_optimizer

WORKER = Path(__file__).with_name("worker.py")


class Stop(Exception):
    pass


def dense() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 4)
    )


def pruned(seed: int = 0) -> nn.Module:
    model = dense()
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name in ("0.weight", "5.weight"):
        shape = model.get_parameter(name).shape
        masks[name] = torch.randperm(shape.numel(), generator=generator).view(shape) < shape.numel() // 2
    return sparsify_(model, Masks(masks))


class Tied(nn.Module):
    """Two layers with one weight, a frozen bias, a buffer that state_dict leaves out, and a scalar parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("seen", torch.tensor(0.0), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += 1
        hidden = self.second(torch.relu(self.first(x.flatten(1)))) * self.gain
        return self.last(hidden + self.seen / 100)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))
    return sparsify_(model, Masks({"0.weight": torch.rand(4, 1, 3, 3) < 0.4}))


MODELS = {"dense": dense, "pruned": pruned, "tied": Tied, "convolutional": convolutional}
SETTINGS = {
    "sgd": Training(epochs=5, batch_size=16, lr=0.05, nesterov=True, warmup_epochs=1),
    "sgd without momentum": Training(epochs=5, batch_size=16, momentum=0.0, schedule="constant"),
    "adamw": Training(epochs=5, batch_size=16, optimizer="adamw", lr=0.01, schedule="cosine"),
    "by survivors": Training(epochs=5, batch_size=16, lr=0.05, sparse=True),
    "channels last, bf16": Training(epochs=5, batch_size=16, optimizer="adamw", channels_last=True, amp="bf16"),
}


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in [*model.named_parameters(), *model.named_buffers()]}


def same_values(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def timeless(records):
    return [replace(record, seconds=0.0) for record in records]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_training_stopped_after_every_epoch_ends_with_the_same_bits(kind, settings, toy, tmp_path):
    dataset, training = toy(images=45).hold_out(0.1, 0), SETTINGS[settings]
    whole = MODELS[kind]()
    expected = train(whole, dataset, training, seed=7, device="cpu")

    def stop(record):
        raise Stop

    path, called = tmp_path / "checkpoint.safetensors", []
    for _ in range(training.epochs - 1):
        with pytest.raises(Stop):
            train(MODELS[kind](), dataset, training, seed=7, device="cpu", checkpoint=path, on_epoch=stop)
    model = MODELS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)  # whatever the values are now, those of the file count
    records = train(model, dataset, training, seed=7, device="cpu", checkpoint=path, on_epoch=called.append)
    assert timeless(records) == timeless(expected)
    assert [record.epoch for record in called] == [training.epochs]
    assert same_values(values(model), values(whole))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_same_model_object_can_go_on_after_an_exception_within_an_epoch(toy, tmp_path):
    dataset, training = toy(images=45), SETTINGS["adamw"]
    whole, model, path = pruned(), pruned(), tmp_path / "checkpoint.safetensors"
    expected = train(whole, dataset, training, seed=7, device="cpu")

    def interrupt(epoch, step, steps, loss):
        if (epoch, step) == (3, 2):
            raise KeyboardInterrupt

    model.eval()
    with pytest.raises(KeyboardInterrupt):
        train(model, dataset, training, seed=7, device="cpu", checkpoint=path, on_step=interrupt)
    assert not any(module.training for module in model.modules())
    assert len(read_tensors(path)[1]["records"]) == 2
    records = train(model, dataset, training, seed=7, device="cpu", checkpoint=path)
    assert timeless(records) == timeless(expected)
    assert same_values(values(model), values(whole))


def test_a_finished_training_is_only_read_back(toy, tmp_path):
    dataset, training, path = toy(), SETTINGS["sgd"], tmp_path / "checkpoint.safetensors"
    first, second, called = dense(), dense(), []
    expected = train(first, dataset, training, seed=7, device="cpu", checkpoint=path)
    written = path.stat().st_mtime_ns
    assert train(second, dataset, training, seed=7, device="cpu", checkpoint=path, on_epoch=called.append) == expected
    assert same_values(values(first), values(second))
    assert called == []
    assert path.stat().st_mtime_ns == written


def test_a_diverged_training_is_only_read_back(toy, mlp, tmp_path):
    training, path = Training(epochs=5, lr=1e30, schedule="constant"), tmp_path / "checkpoint.safetensors"
    expected = train(mlp(), toy(), training, seed=7, device="cpu", checkpoint=path)
    again = train(mlp(), toy(), training, seed=7, device="cpu", checkpoint=path)
    assert expected[-1].diverged
    assert repr(again) == repr(expected)  # NaN is not equal to itself


OTHERS = {
    "another layer": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4)),
        {},
        r"1.weight was 'float32\[4\]', now 'float32\[4, 16\]'",
    ),
    "another width": (
        lambda: nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 4)),
        {},
        r"0.weight is only in what was given|0.weight was",
    ),
    "another dtype of a buffer": (lambda: with_double(), {}, r"energy was 'float32\[.*\]', now 'float64\[.*\]'"),
    "pruned otherwise": (lambda: pruned(seed=1), {}, "another choice of weights is kept, 0.param.*index differs"),
    "dense": (dense, {}, "0.weight is only in what was given"),
    "another seed": (pruned, {"seed": 8}, "seed was 7, now 8"),
    "another rate": (pruned, {"lr": 0.2}, "lr was 0.05, now 0.2"),
    "more epochs": (pruned, {"epochs": 9}, "epochs was 5, now 9"),
    "other milestones": (pruned, {"milestones": (0.5,)}, r"milestones was \[0.5, 0.75\], now \[0.5\]"),
    "other data": (pruned, {"images": 48}, r"data was \['toy', 40, 1, 4, 4\], now \['toy', 48, 1, 4, 4\]"),
}


def with_double() -> nn.Module:
    model = pruned()
    model[0].parametrizations.weight[0].energy = model[0].parametrizations.weight[0].energy.double()
    return model


@pytest.mark.parametrize("case", OTHERS)
def test_another_trainings_checkpoint_is_refused_and_the_model_left_alone(case, toy, tmp_path):
    make, changes, message = OTHERS[case]
    path, training = tmp_path / "checkpoint.safetensors", SETTINGS["sgd"]
    train(pruned(), toy(), training, seed=7, device="cpu", checkpoint=path)
    content = path.read_bytes()
    changes = dict(changes)
    seed, images = changes.pop("seed", 7), changes.pop("images", 40)
    model = make()
    before = values(model)
    with pytest.raises(InputError, match=message) as caught:
        train(model, toy(images), replace(training, **changes), seed=seed, device="cpu", checkpoint=path)
    assert "\n" not in str(caught.value)
    assert same_values(values(model), before)
    assert path.read_bytes() == content


def test_a_damaged_file_and_a_file_of_another_kind_are_refused(toy, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="not a whole safetensors file.*, or remove it to begin anew"):
        train(dense(), toy(), SETTINGS["sgd"], seed=7, device="cpu", checkpoint=path)
    write_tensors(path, {"model.x": torch.zeros(1)}, {"something": "else"})
    with pytest.raises(InputError, match="not a training checkpoint"):
        train(dense(), toy(), SETTINGS["sgd"], seed=7, device="cpu", checkpoint=path)


def test_what_the_file_holds(toy, tmp_path):
    path = tmp_path / "folder" / "checkpoint.safetensors"
    model = Tied()
    train(model, toy(), SETTINGS["adamw"], seed=7, device="cpu", checkpoint=path)
    tensors, metadata = read_tensors(path)
    assert "model.first.weight" in tensors
    assert "model.second.weight" not in tensors, "tied: once is enough"
    moments = {name for name in tensors if name.startswith("optimizer.exp_avg.")}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert moments == {f"optimizer.exp_avg.{name}" for name in trained}
    assert tensors["optimizer.step.gain"] == 5 * 3
    assert [record["epoch"] for record in metadata["records"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("optimizer, key", [("sgd", "momentum_buffer"), ("adamw", "exp_avg_sq")])
def test_restored_moments_have_the_memory_order_of_their_parameters(optimizer, key, toy, tmp_path):
    """Fused optimizers go through both as flat memory."""
    path = tmp_path / "checkpoint.safetensors"
    training = Training(epochs=1, batch_size=16, optimizer=optimizer, channels_last=True)
    dataset, model = toy(), nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(4, 4))
    train(model, dataset, training, seed=0, device="cpu", checkpoint=path)
    saved = read(path, model, identity(model, dataset, training, 0))
    restored = make_optimizer(model, training)
    restore_(saved, model, restored)
    for parameter in model.parameters():
        assert restored.state[parameter][key].stride() == parameter.stride()
    assert not model[1].weight.is_contiguous()


def test_only_the_parts_of_this_file_are_removed(tmp_path):
    names = [".net.st.ab12_xyz", ".net.st.swp", ".other.st.ab12_xyz", "net.st", ".net.st.ab12_xyzz", ".netxst.ab12_xyz"]
    for name in names:
        (tmp_path / name).touch()
    remove_parts(tmp_path / "net.st")
    assert {file.name for file in tmp_path.iterdir()} == set(names[1:])
    remove_parts(tmp_path / "nowhere" / "net.st")


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_moments_it_ends_with_the_same_bits(seed, run_worker, tmp_path):
    run_worker("killed", tmp_path, seed)
    kills, partial, status = map(int, (tmp_path / "kills.txt").read_text().split())
    assert kills >= 3, "the training was over before it could be killed"
    assert partial >= 1, "no kill came between the first epoch and the last"
    assert status == 0
    killed, of_killed = read_tensors(tmp_path / "killed-0.safetensors")
    unkilled, of_unkilled = read_tensors(tmp_path / "unkilled-0.safetensors")
    assert same_values(killed, unkilled)
    assert of_killed == of_unkilled
    assert not list(tmp_path.glob(".*")), "parts of killed writes were left behind"


def test_ctrl_c_leaves_the_last_whole_checkpoint(environment, tmp_path):
    path = tmp_path / "forever.safetensors"
    command = [sys.executable, str(WORKER), "forever", str(tmp_path)]
    with interruptible(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert len(read_tensors(path)[1]["records"]) >= 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
