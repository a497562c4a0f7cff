from __future__ import annotations

import math

import pytest
import torch

from pruneinit.train import Training, learning_rate


def rates(training, steps_per_epoch):
    return [learning_rate(step, steps_per_epoch, training) for step in range(training.epochs * steps_per_epoch)]


def torch_rates(scheduler_of, training, steps):
    """What PyTorch's own scheduler does, stepped after every update."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=training.lr)
    scheduler = scheduler_of(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    "epochs, per_epoch, at", [(160, 13, [1040, 1560]), (10, 7, [35, 52]), (4, 1, [2, 3]), (1, 10, [5, 8])]
)
def test_step_is_multi_step_lr(epochs, per_epoch, at):
    training = Training(epochs=epochs, schedule="step")
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, at, gamma=0.1), training, epochs * per_epoch
    )
    assert rates(training, per_epoch) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epochs, per_epoch", [(5, 11), (1, 100), (3, 1)])
def test_cosine_is_cosine_annealing_lr(epochs, per_epoch):
    training = Training(epochs=epochs, schedule="cosine", lr=0.3)
    steps = epochs * per_epoch
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, steps), training, steps)
    assert rates(training, per_epoch) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("warmup", [0.0, 1.5, 3.0], ids=["30 % rise", "1.5 epochs rise", "3 epochs rise"])
def test_onecycle_is_one_cycle_lr(warmup):
    training = Training(epochs=10, schedule="onecycle", lr=0.4, warmup_epochs=warmup)
    share = warmup / 10 or 0.3
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, max_lr=0.4, total_steps=130, pct_start=share, cycle_momentum=False
        ),
        training,
        130,
    )
    assert rates(training, 13) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("per_epoch", [1, 2, 5])
def test_onecycle_of_a_few_steps_stays_within_its_bounds(per_epoch):
    found = rates(Training(epochs=1, schedule="onecycle", lr=1.0), per_epoch)
    assert all(1 / 25 / 1e4 - 1e-12 <= rate <= 1 + 1e-12 for rate in found)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_the_warm_up_rises_linearly_to_lr_and_then_the_schedule_goes_on(schedule):
    training = Training(epochs=8, schedule=schedule, lr=0.8, warmup_epochs=2)
    found = rates(training, 4)
    assert found[:8] == pytest.approx([0.1 * (step + 1) for step in range(8)])
    assert found[8] == pytest.approx(0.8)


def test_constant_is_constant():
    assert set(rates(Training(epochs=3, schedule="constant", lr=0.2), 5)) == {0.2}


def test_a_warm_up_shorter_than_a_step_is_none():
    assert rates(Training(epochs=2, schedule="constant", lr=0.2, warmup_epochs=0.01), 3) == [0.2] * 6


def test_cosine_ends_near_zero():
    last = rates(Training(epochs=2, schedule="cosine", lr=1.0), 50)[-1]
    assert last == pytest.approx((1 + math.cos(math.pi * 0.99)) / 2)
