from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneinit.data import batches
from pruneinit.errors import InputError
from pruneinit.masks import Masks
from pruneinit.seeds import derived
from pruneinit.survivors import sparsify_
from pruneinit.train import Training, evaluate, learning_rate, train


def timeless(records):
    return [replace(record, seconds=0.0) for record in records]


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 4))


def trained(dataset, training, seed=0, make=with_dropout):
    model = make()
    records = train(model, dataset, training, seed=seed, device="cpu")
    return model, records


@pytest.mark.parametrize("optimizer, lr", [("sgd", 0.1), ("adamw", 0.01)])
def test_an_mlp_learns_digits(optimizer, lr, digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    training = Training(epochs=6, batch_size=64, optimizer=optimizer, lr=lr, schedule="cosine", augment=False)
    dataset = digits.hold_out(0.1, seed=0)
    records = train(model, dataset, training, seed=0, device="cpu")
    assert records[-1].test_accuracy > 0.95
    assert records[-1].validation_accuracy > 0.9
    assert records[-1].train_loss < records[0].train_loss / 3
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5, 6]
    assert (records[-1].test_loss, records[-1].test_accuracy) == evaluate(model, dataset.test, dataset, 64)


def test_a_pruned_net_learns_and_keeps_its_zeros(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    mask = torch.rand(128, 64) < 0.1
    sparsify_(model, Masks({"1.weight": mask}))
    records = train(model, digits, Training(epochs=8, batch_size=64, schedule="cosine"), seed=0, device="cpu")
    assert records[-1].test_accuracy > 0.9
    assert torch.equal(model[1].weight != 0, mask)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_smoothing": 0.1, "augment": False},
        {"clip_norm": 0.05, "nesterov": True},
        {"warmup_epochs": 1.0, "schedule": "onecycle"},
    ],
    ids=["plain", "label smoothing", "clipping", "one cycle"],
)
def test_it_is_the_loop_that_one_would_write(settings, toy, mlp):
    """A slow twin: PyTorch's own mean loss, one step after the other, no share of anything."""
    training = Training(epochs=3, batch_size=16, lr=0.05, **settings)
    dataset, model, twin = toy(images=40), mlp(), mlp()
    records = train(model, dataset, training, seed=5, device="cpu")

    optimizer = torch.optim.SGD(
        twin.parameters(),
        training.lr,
        training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov,
    )
    step = 0
    for epoch in (1, 2, 3):
        generator = torch.Generator().manual_seed(derived(5, epoch))
        loss_sum, hits = 0.0, 0
        for x, y in batches(dataset.train, dataset, 16, generator=generator, augment=training.augment):
            optimizer.param_groups[0]["lr"] = learning_rate(step, 3, training)
            optimizer.zero_grad()
            scores = twin(x)
            loss = functional.cross_entropy(scores, y, label_smoothing=training.label_smoothing)
            loss.backward()
            if training.clip_norm is not None:
                nn.utils.clip_grad_norm_(twin.parameters(), training.clip_norm)
            optimizer.step()
            loss_sum, hits, step = loss_sum + loss.item() * len(y), hits + int((scores.argmax(1) == y).sum()), step + 1
        assert records[epoch - 1].train_loss == pytest.approx(loss_sum / 40, rel=1e-5)
        assert records[epoch - 1].train_accuracy == pytest.approx(hits / 40)
        assert records[epoch - 1].lr == learning_rate(step - 1, 3, training)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_seed_decides_and_the_callers_random_state_does_not(toy):
    training = Training(epochs=2, batch_size=16)
    first, records = trained(toy(), training, seed=3)
    torch.manual_seed(99)
    second = with_dropout()
    torch.manual_seed(123)
    state = torch.get_rng_state()
    again = train(second, toy(), training, seed=3, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert timeless(again) == timeless(records)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    _, others = trained(toy(), training, seed=4)
    assert others[0].train_loss != records[0].train_loss


def test_each_epoch_and_seed_has_a_stream_of_its_own():
    assert len({derived(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900


class Noisy(nn.Module):
    """Draws from the global random state, as dropout does, and remembers what came."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drawn = nn.Linear(16, 4), []

    def forward(self, x):
        if self.training:
            self.drawn.append(torch.rand(()).item())
        return self.linear(x.flatten(1))


def test_noise_within_the_model_is_new_in_every_step_and_follows_the_seed(toy):
    drawn = []
    for seed in (0, 0, 1):
        model = Noisy()
        train(model, toy(), Training(epochs=3, batch_size=20), seed=seed, device="cpu")
        drawn.append(model.drawn[1:])  # the first was the check
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 12


def test_callbacks_may_draw_random_numbers(toy):
    training = Training(epochs=2, batch_size=16)
    _, expected = trained(toy(), training)
    model = with_dropout()
    records = train(
        model, toy(), training, seed=0, device="cpu", on_epoch=lambda record: torch.rand(3), on_step=lambda *a: None
    )
    assert timeless(records) == timeless(expected)


def test_modes_and_gradients_are_left_clean(toy):
    model = with_dropout()
    model[2].eval()
    seen = []
    model[2].register_forward_hook(lambda module, given, made: seen.append(module.training))
    train(model, toy(), Training(epochs=1, batch_size=20), seed=0, device="cpu")
    assert seen == [True, True, True, False]  # the check, two steps, one batch of evaluation
    assert [m.training for m in model] == [True, True, False, True, True]
    assert all(p.grad is None for p in model.parameters())


def test_validation_figures_exist_exactly_with_a_validation_split(toy, mlp):
    training = Training(epochs=1, batch_size=16)
    (without,) = trained(toy(), training, make=mlp)[1]
    assert without.validation_loss is None
    assert without.validation_accuracy is None
    dataset = toy().hold_out(0.2, seed=0)
    model, (record,) = trained(dataset, training, make=mlp)
    assert (record.validation_loss, record.validation_accuracy) == evaluate(model, dataset.validation, dataset, 16)


@pytest.mark.parametrize("lr", [1e30, 1e8], ids=["at once", "soon"])
def test_divergence_ends_the_training_with_a_marked_record(lr, toy, mlp):
    called = []
    training = Training(epochs=50, batch_size=4, lr=lr, schedule="constant")
    records = train(mlp(), toy(), training, seed=0, device="cpu", on_epoch=called.append)
    assert len(records) < 50
    assert [record.diverged for record in records] == [False] * (len(records) - 1) + [True]
    assert not math.isfinite(records[-1].train_loss)
    assert 0 <= records[-1].test_accuracy <= 1
    assert repr(called) == repr(records)


def test_divergence_is_seen_within_the_epoch(toy, mlp):
    calls = []
    training = Training(epochs=5, batch_size=4, lr=1e30, schedule="constant")
    train(mlp(), toy(400), training, seed=0, device="cpu", on_step=lambda *a: calls.append(a))
    epoch, step, steps, loss = calls[-1]
    assert (epoch, steps) == (1, 100)
    assert step <= 10
    assert not math.isfinite(loss)


@pytest.mark.parametrize("images, expected", [(40, 10), (2000, 20)], ids=["every step", "twenty an epoch"])
def test_progress(images, expected, toy, mlp):
    calls = []
    training = Training(epochs=2, batch_size=4 if images == 40 else 10)
    records = train(mlp(), toy(images), training, seed=0, device="cpu", on_step=lambda *a: calls.append(a))
    steps = images // training.batch_size
    of_first = [call for call in calls if call[0] == 1]
    assert len(of_first) == expected
    assert of_first[-1] == (1, steps, steps, records[0].train_loss)
    assert [call[1] for call in of_first] == list(range(steps // expected, steps + 1, steps // expected))
    assert all(call[2] == steps and math.isfinite(call[3]) for call in calls)


def test_a_slow_epoch_is_heard_of_between_its_looks_and_gives_the_same_numbers(toy, mlp, monkeypatch):
    training = Training(epochs=1, batch_size=10)
    expected = train(mlp(), toy(2000), training, seed=0, device="cpu")
    calls = []
    monkeypatch.setattr("pruneinit.train.loop._SILENCE", 0.0)
    records = train(mlp(), toy(2000), training, seed=0, device="cpu", on_step=lambda *a: calls.append(a))
    assert [call[1] for call in calls] == list(range(1, 201))
    assert math.isnan(calls[0][3])
    assert records[0].train_loss == calls[-1][3] == expected[0].train_loss
    assert records[0].test_loss == expected[0].test_loss


def test_the_start_says_how_many_epochs_are_over(toy, mlp, tmp_path):
    began = []
    for epochs in (1, 2):
        for _ in range(2):
            train(
                mlp(), toy(), Training(epochs=epochs), seed=0, device="cpu",
                checkpoint=tmp_path / f"{epochs}.safetensors", on_start=began.append,
            )  # fmt: skip
    assert began == [0, 1, 0, 2]


@pytest.mark.parametrize("seed", [-1, 1.0, True, None])
def test_a_seed_that_is_none(seed, toy, mlp):
    with pytest.raises(InputError, match="seed must be a whole number, 0 or more, got"):
        train(mlp(), toy(), Training(epochs=1), seed=seed, device="cpu")


def test_records_are_plain_values(toy, mlp):
    (record,) = train(mlp(), toy(), Training(epochs=1), seed=0, device="cpu")
    assert {type(value) for value in asdict(record).values()} <= {int, float, bool, type(None)}
    assert record.seconds > 0


def test_a_layer_without_any_survivor_trains_on(toy, mlp):
    model = sparsify_(mlp(), Masks({"1.weight": torch.zeros(16, 16, dtype=torch.bool)}))
    records = train(model, toy(), Training(epochs=2, batch_size=8), seed=0, device="cpu")
    assert not records[-1].diverged
