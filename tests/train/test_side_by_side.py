from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from pruneinit.data import Dataset, Split, batches
from pruneinit.errors import InputError
from pruneinit.initialize import edge_of_chaos_
from pruneinit.masks import Masks
from pruneinit.models import mlp, vcnn
from pruneinit.reparametrize import factor
from pruneinit.rescale import rescale_
from pruneinit.seeds import derived
from pruneinit.survivors import current_masks, sparsify_
from pruneinit.train import Training, learning_rate, stackable, train, train_side_by_side
from pruneinit.weights import prunable, weight

SETTINGS = Training(epochs=2, batch_size=8, lr=0.05, augment=False, weight_decay=0.0)
RATES = (0.05, 0.02, 0.1, 0.05)
DENSITIES = (1.0, 0.6, 0.15, 0.1)  # of four networks; together above and, the last two alone, below a quarter


def data(validation: bool = True) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(256, (count, 1, 3, 4), dtype=torch.uint8, generator=generator)
        return Split(images, (images.float().mean((1, 2, 3)) > 127).long())

    held = split(10) if validation else None
    return Dataset("noise", split(30), split(20), ("dark", "light"), mean=(0.5,), std=(0.25,), validation=held)


def network(seed: int, density: float, activation: str = "tanh", widths: tuple[int, ...] = (16,)) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model = mlp((1, 3, 4), 2, depth=4, widths=widths, activation=activation)
    edge_of_chaos_(model, generator=generator)
    if density == 1.0:
        return model
    shapes = {name: found.shape for name, found in prunable(model).items()}
    masks = Masks({name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()})
    return rescale_(sparsify_(model, masks))


def networks(densities=DENSITIES, activation: str = "tanh", widths=(16,)) -> list[torch.nn.Module]:
    return [network(seed, density, activation, widths) for seed, density in enumerate(densities)]


def plain_twin(model, dataset, training, seed):
    """Weights and biases after training in float64 by autograd over explicit masks and factors, in plain steps."""
    masks, names = current_masks(model), list(prunable(model))
    rho = {name: factor(model, name).double() for name in names}
    w = {name: (weight(model, name).detach().double() / rho[name]).requires_grad_() for name in names}
    b = {name: model.get_submodule(name[:-7]).bias.detach().double().requires_grad_() for name in names}
    activation = list(model.children())[2]
    parameters, speeds = [*w.values(), *b.values()], {}
    steps = math.ceil(len(dataset.train) / training.batch_size)
    for epoch in range(training.epochs):
        generator = torch.Generator().manual_seed(derived(seed, epoch + 1))
        shares = batches(dataset.train, dataset, training.batch_size, generator=generator, augment=training.augment)
        for step, (x, y) in enumerate(shares):
            h = x.flatten(1).double()
            for name in names:
                kept = masks[name] if name in masks else torch.ones_like(w[name], dtype=torch.bool)
                h = h @ (rho[name] * kept * w[name]).t() + b[name]
                h = h if name == names[-1] else activation(h)
            loss = functional.cross_entropy(h, y, label_smoothing=training.label_smoothing)
            lr = learning_rate(epoch * steps + step, steps, training)
            with torch.no_grad():
                for at, (p, g) in enumerate(zip(parameters, torch.autograd.grad(loss, parameters), strict=True)):
                    g = g + training.weight_decay * p
                    speeds[at] = training.momentum * speeds.get(at, 0.0) + g
                    p -= lr * (g + training.momentum * speeds[at] if training.nesterov else speeds[at])
    return w, b, masks


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.0, "schedule": "cosine", "warmup_epochs": 0.5},
        {"nesterov": True, "weight_decay": 0.1, "label_smoothing": 0.2, "schedule": "onecycle"},
    ],
    ids=["momentum", "plain, cosine", "nesterov, decay, smoothing"],
)
@pytest.mark.parametrize("densities", [DENSITIES, DENSITIES[2:]], ids=["dense products", "sparse products"])
@pytest.mark.parametrize("widths", [(16,), (20, 9)], ids=["equal widths", "unequal widths"])
def test_each_network_is_what_plain_steps_in_float64_make_of_it(activation, changes, densities, widths):
    models, dataset = [model.double() for model in networks(densities, activation, widths)], data()
    trainings = [replace(SETTINGS, lr=lr, **changes) for lr in RATES[: len(models)]]
    twins = [plain_twin(copy.deepcopy(m), dataset, t, seed=3) for m, t in zip(models, trainings, strict=True)]
    train_side_by_side(models, dataset, trainings, seed=3)
    for model, (w, b, masks) in zip(models, twins, strict=True):
        for name in w:
            kept = masks[name] if name in masks else torch.ones_like(w[name], dtype=torch.bool)
            expected = factor(model, name) * kept * w[name]
            torch.testing.assert_close(weight(model, name), expected, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(model.get_submodule(name[:-7]).bias, b[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("densities", [DENSITIES, DENSITIES[2:]], ids=["dense products", "sparse products"])
@pytest.mark.parametrize("validation", [True, False])
def test_the_records_are_those_of_training_each_alone(densities, validation):
    dataset, models = data(validation), networks(densities)
    trainings = [replace(SETTINGS, lr=lr) for lr in RATES[: len(models)]]
    alone = [
        train(copy.deepcopy(model), dataset, training, seed=1, device="cpu")
        for model, training in zip(models, trainings, strict=True)
    ]
    together = train_side_by_side(models, dataset, trainings, seed=1)
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a.epoch, a.lr, a.diverged) == (b.epoch, pytest.approx(b.lr), b.diverged)
            assert (a.validation_loss is None) == (b.validation_loss is None) == (not validation)
            names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
            for name in (*names, "validation_loss") if validation else names:
                assert getattr(b, name) == pytest.approx(getattr(a, name), rel=1e-4), name


def test_one_that_diverges_ends_and_the_others_go_on_as_without_it():
    dataset, models = data(), networks((1.0, 1.0, 0.5))
    with torch.no_grad():
        list(models[1].children())[1].bias.fill_(float("nan"))
    trainings = [SETTINGS] * 3
    expected = train_side_by_side([copy.deepcopy(models[0]), copy.deepcopy(models[2])], dataset, trainings[:2], seed=0)
    first, second, third = train_side_by_side(models, dataset, trainings, seed=0)
    assert [record.diverged for record in second] == [True]
    assert math.isnan(second[0].train_loss)
    assert [r.test_loss for r in first + third] == pytest.approx([r.test_loss for r in expected[0] + expected[1]])
    assert not any(record.diverged for record in first + third)


def test_training_ends_where_all_have_diverged():
    models = networks((1.0,))
    with torch.no_grad():
        list(models[0].children())[1].bias.fill_(float("nan"))
    (records,) = train_side_by_side(models, data(), [SETTINGS], seed=0)
    assert [record.epoch for record in records] == [1]


def test_subnormal_numbers_are_as_before_afterwards():
    train_side_by_side(networks((1.0,)), data(), [SETTINGS], seed=0)
    assert float(torch.tensor(1e-40) * 1.0) > 0


@pytest.mark.parametrize(
    "models, trainings, message",
    [
        (lambda: [], [], "at least one, got 0 and 0"),
        (lambda: networks((1.0,)), [SETTINGS] * 2, "as many settings as networks"),
        (lambda: [vcnn((1, 3, 4), 2, depth=3, width=2)], [SETTINGS], "not fully connected networks"),
        (lambda: [network(0, 1.0), network(0, 1.0, "relu")], [SETTINGS] * 2, "of the same sizes"),
        (lambda: networks((1.0, 1.0)), [SETTINGS, replace(SETTINGS, epochs=3)], "more than the learning rate"),
        (lambda: networks((1.0,)), [replace(SETTINGS, clip_norm=1.0)], "without clip_norm"),
    ],
)
def test_what_cannot_be_trained_side_by_side_is_refused(models, trainings, message):
    assert not stackable(models(), trainings)
    with pytest.raises(InputError, match=message):
        train_side_by_side(models(), data(), trainings, seed=0)
