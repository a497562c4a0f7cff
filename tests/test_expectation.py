import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit.expectation import expected_signals
from pruneinit.propagation import signals
from wide import batch, mlp


@pytest.mark.parametrize(
    "activation, sigma_w, sigma_b", [("tanh", 1.3041, 0.2), ("tanh", 1.9, 0.3), ("relu", 1.2, 0.3)]
)
def test_a_wide_network_does_what_is_expected_of_it(activation, sigma_w, sigma_b):
    model, data = mlp([800] * 8 + [200], activation, sigma_w, sigma_b, 0), batch(800, 64, 200, 0, correlation=0.3)
    measured = signals(model, [data])
    expected = expected_signals(model, measured)
    assert list(expected) == list(measured)
    for name, signal in measured.items():
        assert signal.second_moment == pytest.approx(expected[name].second_moment, rel=0.2)
        assert signal.correlation == pytest.approx(expected[name].correlation, abs=0.05)


def test_convolutions_with_a_circular_border_too():
    model = pi.models.build("vcnn", input_shape=(3, 8, 8), classes=10, depth=6, width=64, activation="tanh")
    pi.edge_of_chaos_(model, generator=torch.Generator().manual_seed(0))
    data = torch.randn(16, 3, 8, 8), torch.randint(10, (16,))
    measured = signals(model, [data])
    expected = expected_signals(model, measured)
    ratios = [measured[name].second_moment / expected[name].second_moment for name in measured]
    assert ratios == pytest.approx([1.0] * 6, rel=0.35)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.Linear(4, 2),
    ],
    ids=["normalised", "two-activations", "no-stack"],
)
def test_where_the_theory_does_not_speak_nothing_is_expected(model):
    data = torch.randn(8, 4), torch.zeros(8, dtype=torch.long)
    assert expected_signals(model, signals(model, [data], norm="batch")) == {}
