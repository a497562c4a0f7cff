"""Networks computed by their survivors, against the same networks computed as ever."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

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
    return per_layer(nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 8)).double(), sparsity)


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


def per_layer(model, sparsity=0.9):
    return pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=sparsity, scope="layer"))


def both(model, x):
    """What a model gives as ever, and by its survivors."""
    expected = model(x)
    with by_survivors(model):
        return expected, model(x)


X = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Add(nn.Module):
    def forward(self, x):
        y = x * 1.0
        y += x
        return y


@pytest.mark.parametrize("last", [nn.ReLU(inplace=True), nn.Hardtanh(inplace=True), Add()], ids=["relu", "tanh", "add"])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.MaxPool2d])
def test_what_a_layer_gives_can_be_changed_in_place(kind, last, monkeypatch):
    monkeypatch.setattr("pruneinit.train.by_survivors._PRODUCTS", 0)
    torch.manual_seed(0)
    layers = {
        nn.Conv2d: [nn.Conv2d(4, 8, 3)],
        nn.Linear: [nn.Flatten(), nn.Linear(256, 8)],
        nn.BatchNorm2d: [nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)],
        nn.MaxPool2d: [nn.Conv2d(4, 8, 3), nn.MaxPool2d(2)],
    }
    model = per_layer(nn.Sequential(*layers[kind], last))
    for x in (X, X[:1]):
        if not (kind is nn.BatchNorm2d and len(x) == 1):
            other = copy.deepcopy(model)
            with by_survivors(other):
                found = outcome(other, x)
            torch.testing.assert_close(found, outcome(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [(2, 2), (1, 0), 2, "same", "valid"])
@pytest.mark.parametrize("dilation", [(2, 2), (1, 3)])
def test_a_geometry_that_is_set_afterwards(padding, dilation):
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1)))
    with by_survivors(model):
        model(X)
        model[0].dilation, model[0].padding = dilation, padding
        found = model(X)
        if not isinstance(padding, str):
            model[0].stride = 2
        strided = model(X)
    torch.testing.assert_close(strided, model(X))
    model[0].stride = (1, 1)
    torch.testing.assert_close(found, model(X))


def test_a_copy_made_in_the_midst_of_it_is_a_model_of_its_own():
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.MaxPool2d(2)))
    with by_survivors(model):
        other = copy.deepcopy(model)
        pi.densify_(other)
        torch.testing.assert_close(other(X), model(X))
    assert not any("forward" in vars(layer) for layer in model.modules())
    torch.testing.assert_close(other(X), model(X))


def test_callers_are_given_the_model_as_it_is(toy):
    seen = []

    def look(_):
        seen.append(any("forward" in vars(layer) for layer in model.modules()))

    model = per_layer(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(32, 4)), 0.5)
    train(model, toy(), Training(epochs=2, batch_size=8, sparse=True), seed=0, device="cpu", on_epoch=look)
    assert seen == [False, False]


def test_a_densified_model_is_dense():
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3)))
    expected = model(X)
    with by_survivors(model):
        pi.densify_(model)
        torch.testing.assert_close(model(X), expected)


class Twice(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 2 * weight, bias)


class Plus(nn.Module):
    def forward(self, weight):
        return weight + 1


def test_what_a_subclass_or_another_parametrisation_does_is_kept():
    torch.testing.assert_close(*both(per_layer(nn.Sequential(Twice(4, 8, 3))), X))
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3)))
    parametrize.register_parametrization(model[0], "weight", Plus(), unsafe=True)
    torch.testing.assert_close(*both(model, X))


def test_scripted_layers_and_names_of_arguments():
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3), torch.jit.script(nn.ReLU()), nn.BatchNorm2d(8)).eval())
    torch.testing.assert_close(*both(model, X))
    with by_survivors(model):
        assert torch.equal(model[0](input=X), nn.Conv2d.forward(model[0], X))


@pytest.mark.parametrize("changed", [{"track_running_stats": False}, {"num_batches_tracked": None}, {"momentum": None}])
def test_running_moments_follow_as_those_of_pytorch(changed):
    torch.manual_seed(0)
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)))
    for name, value in changed.items():
        setattr(model[1], name, value)
    other = copy.deepcopy(model)
    for _ in range(2):
        model(X)
        with by_survivors(other):
            other(X)
    torch.testing.assert_close(dict(other.named_buffers()), dict(model.named_buffers()))


@pytest.mark.parametrize("settings", [{"affine": False}, {"track_running_stats": False}, {}])
@pytest.mark.parametrize("channels", [1, 9])
def test_a_normalisation_of_other_channels_is_refused(channels, settings):
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(channels, **settings)))
    with by_survivors(model), pytest.raises(RuntimeError, match="should contain"):
        model(X)


def test_values_may_change_before_the_way_back():
    model = per_layer(nn.Sequential(nn.Conv2d(4, 8, 3)))
    other, gradients = copy.deepcopy(model), []
    for one in (model, other):
        with by_survivors(one) if one is other else nullcontext():
            x = X.clone().requires_grad_()
            y = one(x)
            with torch.no_grad():
                next(one.parameters()).mul_(3)
            y.square().sum().backward()
            gradients.append([x.grad, *(p.grad for p in one.parameters())])
    torch.testing.assert_close(*gradients)


def test_it_may_be_entered_again_and_within_itself():
    model = pruned("vgg11_bn")
    x, quick = images(model), by_survivors(model)
    for _ in range(2):
        with quick:
            with quick:
                model(x)
            assert any("forward" in vars(module) for module in model.modules())
        assert not any("forward" in vars(module) for module in model.modules())


def test_an_order_of_memory_that_a_model_cannot_take_is_told_before_training(toy):
    class Flat(nn.Module):
        def forward(self, x):
            return x.view(-1).view(len(x), -1)

    model = per_layer(nn.Sequential(nn.Conv2d(1, 8, 3), Flat(), nn.Linear(32, 4)), 0.5)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="Sequential cannot take images of shape .*view size is not compatible"):
        train(model, toy(), Training(epochs=1, batch_size=8, sparse=True), seed=0, device="cpu")
    torch.testing.assert_close(dict(model.state_dict()), dict(before))


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
