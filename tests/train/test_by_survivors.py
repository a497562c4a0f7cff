"""Networks computed by their survivors, against the same networks computed as ever."""

import copy

import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit.errors import InputError
from pruneinit.train import Training, products, train
from pruneinit.train.by_survivors import by_survivors
from pruneinit.train.convolution import innermost

SHAPES = {"vcnn-2": (1, 12, 12), "vgg11": (3, 32, 32), "vgg11_bn": (3, 32, 32), "resnet8": (3, 16, 16)}


def pruned(name, sparsity=0.9, **settings):
    torch.manual_seed(0)
    model = pi.models.build(name, input_shape=SHAPES[name], classes=4, width=4, **settings).double()
    masks = pi.prune(model, pi.Magnitude(), sparsity=sparsity, scope="layer")
    return pi.sparsify_(model, masks)


def with_masks(model, sparsity=0.9):
    return model, pi.prune(model, pi.Magnitude(), sparsity=sparsity)


def stable(name):
    model = pruned(name)
    pi.stabilize_residuals_(model, torch.randn(2, *SHAPES[name], dtype=torch.float64))
    return model


def rescaled(name):
    """With a factor beside the survivors of each weight."""
    model = pruned(name)
    pi.rescale_(
        model,
        targets=dict.fromkeys(pi.current_masks(model), torch.tensor(0.5)),
        method="layer",
        batches=[(torch.randn(8, *SHAPES[name], dtype=torch.float64), torch.zeros(8).long())],
    )
    assert all(len(layer.parametrizations.weight) == 2 for layer in model.modules() if isinstance(layer, nn.Conv2d))
    return model


NETWORKS = {
    "vcnn, tanh": lambda: pruned("vcnn-2", depth=6, activation="tanh"),
    "vcnn, relu": lambda: pruned("vcnn-2", depth=6, activation="relu"),
    "vgg11": lambda: pruned("vgg11"),
    "vgg11_bn": lambda: pruned("vgg11_bn"),
    "resnet8": lambda: pruned("resnet8"),
    "stable": lambda: stable("resnet8"),
    "rescaled": lambda: rescaled("vgg11"),
}


def images(model, count=6):
    torch.manual_seed(1)
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    size = 12 if first.in_channels == 1 else 32
    return torch.randn(count, first.in_channels, size, size, dtype=torch.float64)


def outcome(model, x):
    """What a network gives, its gradients, and the statistics that it gathers."""
    model.zero_grad()
    scores = model(x)
    scores.square().mean().backward()
    gradients = {name: one.grad for name, one in model.named_parameters()}
    return {"scores": scores.detach(), **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_gradients_and_statistics_are_the_same(name, training):
    model = NETWORKS[name]().train(training)
    other, x = copy.deepcopy(model), images(model)
    expected = outcome(model, x)
    with by_survivors(other):
        found = outcome(other, x)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12, msg=lambda said, key=key: f"{key}: {said}")


def test_pruned_convolutions_are_computed_by_their_survivors():
    model = pruned("vgg11_bn")
    seen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.ReLU | nn.MaxPool2d):
            layer.register_forward_hook(lambda _, args, out, name=name: seen.update({name: out}))
    with by_survivors(model):
        model(images(model))
    assert all(innermost(out).data_ptr() == out.data_ptr() for out in seen.values())
    assert len(seen) == 8 * 3 + 5


NORMALISATIONS = {
    "the mean of all batches": {"momentum": None},
    "slow": {"momentum": 0.01},
    "without parameters": {"affine": False},
    "nothing kept": {"track_running_stats": False},
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_every_batch_normalisation_is_the_same(kind, training):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, **NORMALISATIONS[kind])).double().train(training)
    pi.sparsify_(*with_masks(model))
    other = copy.deepcopy(model)
    with by_survivors(other):
        for _ in range(3):
            x = torch.randn(5, 2, 6, 6, dtype=torch.float64)
            expected, found = outcome(model, x), outcome(other, x)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_normalisation_of_another_type_is_refused_as_ever():
    model = pi.sparsify_(*with_masks(nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8).double())))
    x = torch.randn(5, 2, 6, 6)
    with pytest.raises(RuntimeError) as expected:
        model(x)
    with by_survivors(model), pytest.raises(RuntimeError) as found:
        model(x)
    assert str(found.value) == str(expected.value)


def test_the_model_is_as_it_was_afterwards():
    model = pruned("vgg11_bn")
    with pytest.raises(ZeroDivisionError), by_survivors(model):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())
    copy.deepcopy(model)


UNKNOWN = ["dense", "hardly pruned", "reflected", "far round", "three dimensions", "float16", "autocast"]


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_it_does_not_know_is_computed_as_ever(kind):
    torch.manual_seed(0)
    padding = {"reflected": (1, "reflect"), "far round": (3, "circular")}.get(kind, (1, "zeros"))
    model = nn.Sequential(nn.Conv2d(16, 3, 3, padding=padding[0], padding_mode=padding[1]))
    x = torch.randn(2, 16, 5, 5)
    if kind != "dense":
        sparsity = 0.1 if kind == "hardly pruned" else 0.9
        pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=sparsity))
    if kind == "three dimensions":
        x = x[0]
    if kind == "float16":
        model, x = model.half(), x.half()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        expected = model(x)
        with by_survivors(model):
            assert torch.equal(model(x), expected)


@pytest.mark.parametrize("shape", [(1, 4, 2, 2), (1, 3, 9, 9)], ids=["too small", "other channels"])
def test_what_pytorch_refuses_is_refused(shape):
    model = pi.sparsify_(*with_masks(nn.Sequential(nn.Conv2d(4, 4, 3))))
    with by_survivors(model), pytest.raises(RuntimeError, match="[Kk]ernel size|channels"):
        model(torch.zeros(shape))


def linear(sparsity=0.9):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 8)).double()
    return pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=sparsity, scope="layer"))


def summed(model):
    """The linear layers that are computed by their survivors."""
    return [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and "forward" in vars(layer)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(6, 30), (30,), (2, 3, 30), (7, 30), (1, 1, 5, 30)])
def test_linear_layers_are_computed_by_their_survivors(shape, threads, monkeypatch):
    monkeypatch.setattr("pruneinit.train.by_survivors._PRODUCTS", 0)
    monkeypatch.setattr("pruneinit.train.threads._ENOUGH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model, x = linear(), torch.randn(shape, dtype=torch.float64, requires_grad=True)
    other, y = copy.deepcopy(model), x.detach().clone().requires_grad_()
    expected = {**outcome(model, x), "x": x.grad}
    with by_survivors(other):
        assert summed(other) == ["0", "2"]
        used = []
        monkeypatch.setattr(nn.Linear, "forward", lambda *given: used.append(given))
        found = {**outcome(other, y), "x": y.grad}
    assert not used
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert found["scores"].is_contiguous()


def test_columns_stay_columns(monkeypatch):
    monkeypatch.setattr("pruneinit.train.by_survivors._PRODUCTS", 0)
    model, x = linear(), torch.randn(30, 6, dtype=torch.float64).t()
    with by_survivors(model):
        found = model(x)
    assert found.t().is_contiguous()
    torch.testing.assert_close(found, model(x))


def test_linear_layers_that_are_dense_or_small_are_not():
    with by_survivors(model := linear(sparsity=0.8)):
        assert summed(model) == []
    model, x = linear(), torch.randn(6, 30, dtype=torch.float64)
    expected = model(x)
    with by_survivors(model):
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("shape", [(0, 30), (2, 30)], ids=["no examples", "two"])
def test_the_bounds_of_linear_layers(shape, monkeypatch):
    monkeypatch.setattr("pruneinit.train.by_survivors._PRODUCTS", 0)
    model, x = linear(), torch.randn(shape, dtype=torch.float64)
    expected = model(x)
    with by_survivors(model):
        torch.testing.assert_close(model(x), expected)
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
            model(torch.zeros(2, 29, dtype=torch.float64))
        with pytest.raises(RuntimeError, match="dtype"):
            model(torch.zeros(2, 30))


def test_a_layer_that_is_called_with_several_sizes():
    model = pruned("vcnn-2", depth=4)
    layer = model.conv3
    with by_survivors(model):
        for size in (5, 9, 5):
            x = torch.randn(2, 4, size, size, dtype=torch.float64)
            torch.testing.assert_close(layer(x), nn.Conv2d.forward(layer, x))


def test_training_by_survivors_gives_the_numbers_of_training(digits):
    dataset = digits.hold_out(0.1, seed=0)
    settings = {"epochs": 2, "batch_size": 64, "lr": 0.05, "schedule": "cosine", "augment": False}
    records = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = pi.models.build("vcnn", input_shape=dataset.shape, classes=10, depth=4, width=8, activation="tanh")
        pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.8, scope="layer"))
        records.append(train(model, dataset, Training(**settings, sparse=sparse), seed=0, device="cpu"))
    for dense, ours in zip(*records, strict=True):
        assert ours.train_loss == pytest.approx(dense.train_loss, rel=1e-3)
        assert ours.test_accuracy == pytest.approx(dense.test_accuracy, abs=0.01)
    assert records[1][-1].test_accuracy > 0.5


def test_it_needs_numba(monkeypatch, toy):
    monkeypatch.setattr(products, "available", lambda: False)
    model, started = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), []
    with pytest.raises(InputError, match="numba, which is not installed"):
        train(model, toy(), Training(epochs=1, sparse=True), seed=0, device="cpu", on_start=started.append)
    assert started == []
    with pytest.raises(InputError, match=r"numba, which is not installed: pip install 'pruneinit\[sweep\]'"):
        by_survivors(nn.Linear(1, 1)).__enter__()
