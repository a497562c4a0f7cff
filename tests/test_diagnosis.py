import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.diagnosis import Diagnosis, Layer
from pruneinit.propagation import Signal
from wide import batch, mlp


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_every_weight_is_listed_with_its_counts_and_moments(problem):
    model, data = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    found = pi.diagnose(model, [data], masks, norm=problem.norm)
    assert {layer.name: (layer.kept, layer.total) for layer in found.layers} == masks.counts
    assert found.sparsity == pytest.approx(masks.sparsity)
    alive = pi.effective_masks(model, [data], masks)
    assert {layer.name: layer.alive for layer in found.layers} == {n: kept for n, (kept, _) in alive.counts.items()}
    assert found.effective_sparsity == pytest.approx(alive.sparsity)
    for stage, some in (("dense", None), ("pruned", masks)):
        expected = pi.second_moments(model, [data], masks=some, norm=problem.norm)
        assert {n: s.second_moment for n, s in found.stages[stage].items()} == pytest.approx(expected)
        assert [layer.name for layer in found.layers][: len(expected)] == list(expected)
    assert str(found).count("\n") > len(masks)


def test_what_rescaling_would_do_is_what_it_does():
    model, data = mlp([30] + [60] * 10 + [10], "tanh", 1.3041, 0.2, 0), batch(30, 64, 10, 0)
    masks = pi.prune(model, pi.Snip(), [data], sparsity=0.9)
    tried = pi.diagnose(model, [data], masks).stages["rescaled"]
    done = pi.diagnose(pi.sparsify_(pi.rescale_(model, [data], masks=masks), masks), [data])
    assert list(done.stages) == ["pruned", "rescaled"]
    for name, signal in done.stages["rescaled"].items():
        assert signal.second_moment == pytest.approx(tried[name].second_moment, rel=1e-4)
    assert done.forecast is None


def test_a_sparsified_model_needs_no_masks():
    model, data = PROBLEMS[0].model(), PROBLEMS[0].batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    expected = pi.diagnose(model, [data], masks)
    found = pi.diagnose(pi.sparsify_(model, masks), [data])
    assert [(x.name, x.kept, x.alive) for x in found.layers] == [(x.name, x.kept, x.alive) for x in expected.layers]
    assert list(found.stages) == ["pruned"]


def diagnosed(activation, sigma_w, sigma_b, sparsity=0.9):
    model, data = mlp([64] + [100] * 29 + [10], activation, sigma_w, sigma_b, 0), batch(64, 128, 10, 0)
    return pi.diagnose(model, [data], pi.prune(model, pi.Snip(), [data], sparsity=sparsity))


def test_a_pruned_network_on_the_edge_is_not_called_healthy_and_rescaling_is_advised():
    found = diagnosed("tanh", 1.3041, 0.2)
    assert found.chi("dense") == pytest.approx(1, abs=0.06)
    assert found.chi("pruned") < 0.7
    assert found.chi("rescaled") == pytest.approx(1, abs=0.1)
    assert "gradient vanishes" in found.verdict
    assert any("Rescale the survivors" in line for line in found.advice)
    assert not any("Initialise on the Edge" in line for line in found.advice)
    assert not found.collapsed


@pytest.mark.parametrize("sigma_w, sigma_b, phase", [(0.8, 0.05, "ordered"), (2.0, 0.2, "chaotic")])
def test_off_the_edge_it_is_the_initialisation_that_is_advised(sigma_w, sigma_b, phase):
    found = diagnosed("tanh", sigma_w, sigma_b, sparsity=0.95)
    assert any(f"in the {phase} phase" in line and "edge_of_chaos_" in line for line in found.advice)


def test_a_healthy_network_is_told_so_and_needs_no_advice():
    model, data = mlp([64] + [200] * 9 + [10], "tanh", 1.3041, 0.2, 0), batch(64, 128, 10, 0)
    found = pi.diagnose(model, [data])
    assert "close to the Edge of Chaos" in found.verdict
    assert found.advice == ()
    assert list(found.stages) == ["dense"]


def test_lost_layers_are_a_collapse():
    found = diagnosed("tanh", 0.5, 0.05, sparsity=0.98)
    assert found.empty
    assert found.collapsed
    assert "empty" in found.verdict


def test_a_residual_network_is_advised_to_be_stable():
    model = pi.models.build("resnet32", input_shape=(1, 8, 8), classes=10, width=8)
    pi.edge_of_chaos_(model, "relu", generator=torch.Generator().manual_seed(0))
    data = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    masks = pi.prune(model, pi.Snip(norm="batch"), [data], sparsity=0.98)
    found = pi.diagnose(model, [data], masks, norm="batch")
    assert found.branches == 15
    assert any("stabilize_residuals_" in line for line in found.advice)
    pi.stabilize_residuals_(model, data[0][:1])
    assert pi.diagnose(model, [data], norm="batch").stable


def test_the_forecast_stands_beside_the_masks():
    model, data = mlp([64] + [100] * 5 + [10], "tanh", 1.3041, 0.2, 0), batch(64, 128, 10, 0)
    masks = pi.prune(model, pi.Snip(), [data], sparsity=0.8)
    found = pi.diagnose(model, [data], masks)
    assert found.forecast.densities(0.8) == pytest.approx({x.name: x.density for x in found.layers}, rel=0.02)
    assert {x.name: x.expected for x in found.layers} == pytest.approx(found.forecast.law.densities(0.8))
    assert found.conditioning == found.forecast.conditioning
    assert set(found.expected) == set(found.stages["dense"])


@pytest.mark.parametrize(
    "moments, gradients, words",
    [
        ([1.0, 0.9, 1.1, 1.0], [1.0, 1.0, 1.0, 1.0], "close to the Edge of Chaos"),
        ([1.0, 0.9, 1.1, 1.0], [1.0, 1.0, 2.0, 2.0], "gradient arrives, changed by"),
        ([1.0, 0.9, 1.1, 1.0], [1e-9, 1e-6, 1.0, 1.0], "gradient vanishes"),
        ([1.0, 0.9, 1.1, 1.0], [1e9, 1e6, 1.0, 1.0], "gradient explodes"),
        ([1.0, 0.9, 1.1, 1.0], [0.0, 0.0, 1.0, 1.0], "No gradient comes back"),
        ([1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], "No signal passes"),
        ([1.0, 1.0, float("inf"), float("nan")], [1.0, 1.0, 1.0, 1.0], "not finite"),
        ([1.0, 1.0], [1.0, 1.0], "too few layers"),
    ],
)
def test_the_verdict_says_what_the_numbers_mean(moments, gradients, words):
    layers = tuple(Layer(str(i), "linear", (5, 5), 25, 15, 15) for i in range(len(moments)))
    stage = {str(i): Signal(q, None, g) for i, (q, g) in enumerate(zip(moments, gradients, strict=True))}
    assert words in Diagnosis(layers, {"pruned": stage}).verdict


def test_without_batches_there_are_densities():
    found = pi.diagnose(nn.Linear(2, 2))
    assert "pass batches" in found.verdict
    assert found.effective_sparsity is None
    with pytest.raises(pi.InputError, match="no stage 'pruned'"):
        found.chi("pruned")


def test_masks_of_another_model_are_refused():
    with pytest.raises(pi.InputError, match="unknown weight in the masks '9.weight'"):
        pi.diagnose(nn.Linear(2, 2), masks=pi.Masks({"9.weight": torch.ones(2, 2).bool()}))


@pytest.mark.parametrize("batches, message", [(5, "batches must be"), ([], "no batches"), ("x", "batches must be")])
def test_batches_that_are_none_are_refused(batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.diagnose(nn.Linear(2, 2), batches)
