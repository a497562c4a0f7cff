import itertools
import math

import numpy as np
import pytest

from pruneinit.errors import InputError
from pruneinit.meanfield import chi, correlation_map, edge_of_chaos, moments, signals, snip_moments, variance_map
from pruneinit.meanfield.outputs import output_gradient
from wide import batch, batch_signals, mlp

EDGE = edge_of_chaos("tanh", 0.2).sigma_w
NETWORKS = [
    ("tanh", EDGE, 0.2),
    ("tanh", 1.0, 0.05),
    ("tanh", 3**0.5, 0.05**0.5),
    ("relu", 2**0.5, 0.0),
    ("elu", 1.2, 0.2),
]
IDS = ["tanh-edge", "tanh-ordered", "tanh-chaotic", "relu-edge", "elu"]


@pytest.mark.parametrize("activation, sigma_w, sigma_b", NETWORKS, ids=IDS)
def test_forward_is_the_variance_and_the_correlation_map(activation, sigma_w, sigma_b):
    found = signals([100] * 6, activation, sigma_w, sigma_b, correlation=0.3)
    for before, after in itertools.pairwise(found):
        assert after.q == pytest.approx(variance_map(activation, sigma_w, sigma_b, before.q), rel=1e-7)
        assert after.c == pytest.approx(correlation_map(activation, sigma_w, sigma_b, before.c, before.q), rel=1e-6)


@pytest.mark.parametrize("activation, sigma_w, sigma_b", NETWORKS, ids=IDS)
def test_one_example_has_the_moments_of_the_paper(activation, sigma_w, sigma_b):
    widths = [30, 100, 50, 70, 20]
    logs = [layer.log_moment for layer in signals(widths, activation, sigma_w, sigma_b, examples=1)]
    assert [math.exp(log - logs[-1]) for log in logs] == pytest.approx(
        snip_moments(widths, activation, sigma_w, sigma_b), rel=1e-7
    )


@pytest.mark.parametrize("activation, sigma_w, sigma_b", NETWORKS, ids=IDS)
def test_a_batch_in_wide_random_networks(activation, sigma_w, sigma_b):
    widths, seeds = [600] * 6 + [100], 4
    expected = signals(widths, activation, sigma_w, sigma_b, correlation=0.2, examples=32)
    measured = [
        batch_signals(mlp(widths, activation, sigma_w, sigma_b, seed), *batch(600, 32, 100, seed, correlation=0.2))
        for seed in range(seeds)
    ]

    def mean(layer: int, key: str) -> float:
        return float(np.mean([network[layer][key] for network in measured]))

    assert [mean(i, "q") for i in range(6)] == pytest.approx([layer.q for layer in expected], rel=0.08)
    assert [mean(i, "c") for i in range(6)] == pytest.approx([layer.c for layer in expected], abs=0.04)
    rho = [layer.gradient_correlation for layer in expected]
    assert [mean(i, "rho") for i in range(6)] == pytest.approx(rho, abs=0.02)
    logs = np.mean([np.log([layer["moment"] for layer in network]) for network in measured], axis=0)
    logs -= np.array([layer.log_moment for layer in expected])
    assert np.abs(logs - logs.mean()).max() < 0.12


def test_the_moment_of_a_batch_is_far_from_that_of_one_example():
    one, many = (signals([100] * 20 + [10], "relu", 2**0.5, 0.0, examples=n) for n in (1, 100))
    ratio = [math.exp(b.log_moment - a.log_moment) for a, b in zip(one, many, strict=True)]
    assert ratio[-1] / ratio[0] > 10  # examples agree late in the network, and not at all at its input


@pytest.mark.parametrize("examples", [1, 64])
@pytest.mark.parametrize("activation, sigma_w, sigma_b", NETWORKS, ids=IDS)
def test_factors_between_neurons_have_mean_1(activation, sigma_w, sigma_b, examples):
    for layer in signals([50] * 5, activation, sigma_w, sigma_b, examples=examples):
        assert layer.weights.sum() == pytest.approx(1)
        assert layer.weights @ layer.spread == pytest.approx(1, rel=1e-5)


def test_the_gradient_of_one_example_grows_by_chi():
    q = 0.512
    edge = edge_of_chaos("tanh", 0.2)
    found = signals([100] * 30, "tanh", 1.6, 0.2, q_input=q, examples=1)
    ratio = math.exp(found[10].log_gradient - found[11].log_gradient)
    assert ratio == pytest.approx(chi("tanh", 1.6, 0.2), rel=1e-3)
    assert edge.sigma_w**2 * moments("tanh", edge.q).slope == pytest.approx(1)


def test_logarithms_reach_where_floats_do_not():
    found = signals([50] * 2500 + [10], "tanh", 0.5, 0.2, examples=4)
    assert found[0].moment == 0
    assert -1e5 < found[0].log_moment < -700


@pytest.mark.parametrize(
    "change, message",
    [
        ({"widths": [10]}, "widths must be"),
        ({"widths": [10, 0, 5]}, "widths must be"),
        ({"widths": [10, 2.5, 5]}, "widths must be"),
        ({"sigma_w": -1.0}, "sigma_w must be"),
        ({"sigma_w": 0.0}, "a score moment is 0"),
        ({"q_input": 0.0, "sigma_b": 0.0}, "a score moment is 0"),
        ({"correlation": 1.5}, r"correlation must be in \[0, 1\]"),
        ({"examples": 0}, "examples must be"),
        ({"examples": 2.5}, "examples must be"),
        ({"activation": "tnah"}, "did you mean 'tanh'"),
    ],
)
def test_impossible_networks(change, message):
    arguments = {"widths": [10, 10, 5], "activation": "tanh", "sigma_w": 1.3, "sigma_b": 0.2} | change
    with pytest.raises(InputError, match=message):
        signals(**arguments)


def test_large_batches_of_many_classes_are_drawn_one_by_one():
    few, many = (output_gradient(100, 1.5, 0.3, examples) for examples in (5000, 20_000))
    assert many.agreed.shape == (4,)
    assert many.same == pytest.approx(few.same, rel=0.01)
    assert many.same == pytest.approx(0.01, rel=0.05)
