from __future__ import annotations

import pytest
import torch
from torch import nn

from pruneinit.train import Training, train
from pruneinit.train.forward import make_forward, make_optimizer, place_

CPU = torch.device("cpu")


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 5))


@pytest.mark.parametrize("amp, inside", [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_amp_sets_the_precision_inside_the_model_and_nowhere_else(amp, inside):
    model, seen = conv(), []
    model[3].register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    scores = make_forward(model, Training(amp=amp), CPU)(torch.randn(2, 3, 4, 4))
    assert seen == [inside]
    assert scores.dtype == torch.float32
    scores.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("channels_last", [False, True])
def test_channels_last_reaches_images_and_weights(channels_last):
    training = Training(channels_last=channels_last)
    model, seen = conv(), []
    parameters = list(model.parameters())
    place_(model, training, CPU)
    model[0].register_forward_hook(lambda module, given, made: seen.extend([given[0], made]))
    plain = conv()
    x = torch.randn(2, 3, 4, 4)
    scores = make_forward(model, training, CPU)(x)
    for tensor in (model[0].weight, *seen):
        assert tensor.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    torch.testing.assert_close(scores, plain(x))


def test_compile_runs_the_model_through_the_compiler_and_learns_the_same(toy, mlp, monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend=backend))
    results = {}
    for compiled in (False, True):
        model = mlp()
        train(model, toy(), Training(epochs=2, batch_size=16, compile=compiled), seed=0, device="cpu")
        results[compiled] = model.state_dict()
        assert bool(graphs) is compiled
    for name, tensor in results[False].items():
        torch.testing.assert_close(results[True][name], tensor)
    assert not any("_orig_mod" in name for name in results[True])


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # PyTorch's own, on importing its compiler
def test_compiled_by_inductor_gives_the_same_scores():
    """The real compiler, once, on a graph as small as can be."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.randn(3, 1, 2, 2)
    with torch.no_grad():
        torch.testing.assert_close(make_forward(model, Training(compile=True), CPU)(x), model(x))


def test_sgd_gets_every_setting():
    training = Training(lr=0.3, momentum=0.8, nesterov=True, weight_decay=0.01)
    (group,) = make_optimizer(conv(), training).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.3, 0.8, True, 0.01)


def test_adamw_gets_every_setting():
    (group,) = make_optimizer(conv(), Training(optimizer="adamw", lr=0.3, weight_decay=0.01)).param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.3, 0.01, (0.9, 0.999))


def test_tied_and_frozen_parameters_are_given_to_the_optimizer_once_and_not_at_all():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    (group,) = make_optimizer(model, Training()).param_groups
    assert [id(p) for p in group["params"]] == [id(model[0].weight), id(model[1].bias)]
