import math

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from wide import batch, mlp


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_layer_is_empty_from_the_sparsity_where_it_is_lost(problem):
    model, data = problem.model(), problem.batch()
    found = pi.forecast(model, [data], norm=problem.norm)
    scores = pi.score(model, pi.Snip(norm=problem.norm), [data])
    total = sum(score.numel() for score in scores.values())
    for layer in found.layers:
        for step, gone in ((0.5, True), (-1.5, False)):
            sparsity = layer.lost + step / total
            if 0 <= sparsity < 1:
                assert (layer.name in pi.select(scores, sparsity).empty) == gone
                assert (layer.name in found.empty(sparsity)) == gone
    assert found.critical.sparsity == min(layer.lost for layer in found.layers)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.99])
def test_densities_without_scoring_again_are_those_of_selection(sparsity):
    model, data = mlp([50, 200, 200, 10], "relu", 2**0.5, 0.0, 0), batch(50, 32, 10, 0)
    found = pi.forecast(model, [data])
    expected = pi.prune(model, pi.Snip(), [data], sparsity=sparsity).densities
    assert found.densities(sparsity) == pytest.approx(expected, rel=0.01, abs=1e-3)


def test_effective_sparsity_without_scoring_again():
    model, data = mlp([20, 30, 30, 5], "tanh", 1.3, 0.2, 0), batch(20, 32, 5, 0)
    found = pi.forecast(model, [data])
    for sparsity in (0.5, 0.9, 0.97):
        masks = pi.prune(model, pi.Snip(), [data], sparsity=sparsity)
        assert found.effective(sparsity) == pi.effective_masks(model, [data], masks).sparsity >= masks.sparsity


def test_the_law_is_the_plain_one_of_the_moments():
    model, data = mlp([300] * 8 + [10], "tanh", 1.3041, 0.2, 0), batch(300, 1, 10, 0)
    found = pi.forecast(model, [data])
    scores = pi.score(model, pi.Snip(), [data])
    for layer in found.layers:
        assert layer.moment == pytest.approx(scores[layer.name].double().square().mean().item(), rel=1e-5)
    hidden = [layer.name for layer in found.layers[1:-1]]
    measured = pi.select(scores, 0.9).densities
    law = found.law.densities(0.9)
    assert [law[n] for n in hidden] == pytest.approx([measured[n] for n in hidden], rel=0.15)


@pytest.mark.parametrize("init", ["normal", "uniform"])
def test_magnitudes_are_forecast_by_the_law_of_the_weights(init):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 100), nn.ReLU(), nn.Linear(100, 50))
    for layer in model[::2]:
        bound = layer.in_features**-0.5
        nn.init.normal_(layer.weight, 0, bound) if init == "normal" else nn.init.uniform_(layer.weight, -bound, bound)
    found = pi.forecast(model, criterion=pi.Magnitude())
    assert found.critical.layer == "2.weight"
    assert found.critical.mean == pytest.approx(found.critical.sparsity, abs=0.008)
    for sparsity in (0.3, 0.7):
        assert found.law.densities(sparsity) == pytest.approx(found.densities(sparsity), abs=0.02)


def test_signed_scores_have_a_curve_too():
    class Signed:
        def __call__(self, model, batches=None, masks=None):
            generator = torch.Generator().manual_seed(0)
            return {name: torch.randn(w.shape, generator=generator) for name, w in pi.prunable(model).items()}

    model = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 20))
    found = pi.forecast(model, criterion=Signed())
    expected = pi.select(Signed()(model), 0.7).densities
    assert found.densities(0.7) == pytest.approx(expected, abs=0.01)


def test_a_layer_that_the_loss_does_not_see_is_lost_at_once():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(5, 3), nn.Linear(5, 5)

        def forward(self, x):
            return self.used(x)

    with pytest.warns(UserWarning, match="does not depend on 1 of 2 weights, which score 0: idle.weight"):
        found = pi.forecast(Idle(), [(torch.randn(4, 5), torch.zeros(4, dtype=torch.long))])
    assert found.critical.layer == "idle.weight"
    assert found.critical.sparsity == pytest.approx(25 / 40)
    assert math.isinf(found.conditioning)
    assert "idle.weight" in str(found)


def test_several_batches_and_a_loss_of_the_users():
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, a, b):
            return self.fc(torch.cat([a, b], 1))

    def loss(model, part):
        return model(part["a"], part["b"]).square().mean()

    batches = ({"a": torch.randn(4, 2), "b": torch.randn(4, 4)} for _ in range(2))
    found = pi.forecast(TwoInputs(), batches, loss=loss)
    assert found.effective(0.5) == 0.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: pi.forecast(m), "needs data"),
        (lambda m: pi.forecast(m, 5), "batches must be"),
        (lambda m: pi.forecast(m, criterion=pi.Magnitude()).effective(0.5), "give forecast batches"),
        (lambda m: pi.forecast(m, criterion=pi.Magnitude()).densities(98), "did you mean 0.98"),
        (lambda m: pi.forecast(m, criterion=pi.Magnitude()).empty(-1), "sparsity must be in"),
        (lambda m: pi.forecast(m, criterion=pi.Magnitude(), exclude="fc"), "unknown weight pattern"),
        (lambda m: pi.forecast(m, [(torch.full((2, 4), math.nan), torch.tensor([0, 1]))]), "NaN"),
    ],
)
def test_what_cannot_be_forecast_is_refused(call, message):
    with pytest.raises(pi.InputError, match=message):
        call(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))


@pytest.mark.parametrize("values", [[1.0], [0.0], [0.0, 1.0], [0.5, 1.0, 2.0]], ids=str)
def test_between_equal_scores_position_decides_what_is_lost(values):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    generator = torch.Generator().manual_seed(0)

    def rounded(model, batches, masks):
        return {
            name: torch.tensor(values)[torch.randint(len(values), mask.shape, generator=generator)]
            for name, mask in masks.items()
        }

    scores = {}
    found = pi.forecast(model, None, lambda *given: scores.update(rounded(*given)) or scores)
    total = sum(score.numel() for score in scores.values())
    for removed in range(total):
        assert found.empty(removed / total + 1e-9) == pi.select(scores, removed / total).empty
    assert found.critical.sparsity < 1


@pytest.mark.parametrize("change", [{"9.weight": torch.ones(2)}, None], ids=["more", "fewer"])
def test_scores_of_other_weights_are_refused(change):
    def criterion(model, batches, masks):
        scores = {name: torch.ones(mask.shape) for name, mask in masks.items()}
        return scores | change if change else dict(list(scores.items())[1:])

    with pytest.raises(pi.InputError, match="each weight to prune and no other; it differs in"):
        pi.forecast(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), None, criterion)


@pytest.mark.parametrize("criterion", ["snip", pi.Snip])
def test_what_is_no_criterion_is_refused(criterion):
    with pytest.raises(pi.InputError, match=r"such as Snip\(\)"):
        pi.forecast(nn.Linear(2, 2), None, criterion)


def test_the_remedy_is_that_of_the_network():
    residual = pi.models.build("resnet32", input_shape=(1, 8, 8), classes=10, width=8)
    pi.edge_of_chaos_(residual, "relu", generator=torch.Generator().manual_seed(0))
    images = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    found = pi.forecast(residual, [images], norm="batch")
    assert (found.branches, found.stable) == (15, False)
    assert "stabilize_residuals_" in found.advice[0]
    assert "score moments differ" in str(found)
    pi.stabilize_residuals_(residual, images[0][:1])
    stable = pi.forecast(residual, [images], norm="batch")
    assert stable.stable
    assert not any("stabilize_residuals_" in line for line in stable.advice)
    data = batch(64, 32, 10, 0)
    chaotic = pi.forecast(mlp([64] + [100] * 19 + [10], "tanh", 2.5, 0.2, 0), [data])
    assert "edge_of_chaos_" in chaotic.advice[0]
    edge = pi.forecast(mlp([64] + [100] * 19 + [10], "tanh", 1.3041, 0.2, 0), [data])
    assert edge.advice == ()
    uneven = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    nn.init.normal_(uneven[2].weight, 0, 1e-4)
    assert "scope='erk'" in pi.forecast(uneven, [data]).advice[0]
