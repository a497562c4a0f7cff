import math

import numpy as np
import pytest
import torch

import pruneinit as pi
from pruneinit.errors import InputError
from pruneinit.meanfield import Shape, signals, stack_signals
from pruneinit.meanfield.kernels import _followed
from wide import ConvStack

SHAPES = [
    Shape(3, (6, 6), "circular"),
    Shape(3, (6, 6), "zeros"),
    Shape(3, (6, 6), "circular", "plain"),
    Shape(3, (6, 6), "zeros", "stable"),
    Shape(1, (3, 3)),
]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moments_are_those_of_wide_random_stacks(shape, activation):
    widths = [32, 256, 256, 256, 256, 30]
    sigma_w, sigma_b = (1.4, 0.3) if activation == "tanh" else (1.3, 0.2)
    expected = stack_signals(widths, activation, sigma_w, sigma_b, shape, correlation=0.3, examples=4)
    logs, variances = [], []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        model = pi.mean_field_(ConvStack(widths, activation, shape), sigma_w, sigma_b, generator=generator)
        shared, own = (torch.randn(n, widths[0], *shape.size, generator=generator) for n in (1, 4))
        batch = (0.3**0.5 * shared + 0.7**0.5 * own, torch.randint(30, (4,), generator=generator))
        scores = pi.score(model, pi.Snip(), [batch])
        logs.append([score.double().square().mean().log().item() for score in scores.values()])
        variances.append(list(pi.second_moments(model, [batch]).values()))
    difference = np.mean(logs, axis=0) - [layer.log_moment for layer in expected]
    assert np.abs(difference - difference.mean()).max() < 0.2
    if shape.residual == "none":  # the layers' outputs are the pre-activations, less the bias; the last has few neurons
        assert np.mean(variances, axis=0)[:-1] == pytest.approx([la.q - sigma_b**2 for la in expected[:-1]], rel=0.15)


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "hardtanh"])
def test_one_position_is_the_fully_connected_network(activation):
    widths = [20, 50, 40, 30, 10]
    expected = signals(widths, activation, 1.3, 0.2, correlation=0.4, examples=16)
    found = stack_signals(widths, activation, 1.3, 0.2, Shape(), correlation=0.4, examples=16)
    assert [layer.log_moment for layer in found] == pytest.approx([la.log_moment for la in expected], abs=2e-3)
    assert [layer.log_gradient for layer in found] == pytest.approx([la.log_gradient for la in expected], abs=1e-6)
    assert [layer.q for layer in found] == pytest.approx([layer.q for layer in expected], rel=1e-9)


def test_residual_moments_explode_and_those_of_a_stable_resnet_do_not():
    """(1 + sigma_w^2 / 2)^L and 1 / L: section 4 of the paper."""
    sigma_w, widths = 1.0, [16] + [64] * 41 + [10]
    plain, stable = (stack_signals(widths, "relu", sigma_w, 0.0, Shape(residual=kind)) for kind in ("plain", "stable"))
    assert plain[20].q / plain[10].q == pytest.approx((1 + sigma_w**2 / 2) ** 10, rel=1e-3)
    logs = [layer.log_moment for layer in plain[2:-2]]
    assert max(logs) - min(logs) == pytest.approx(0, abs=1e-2)  # well-conditioned: m^l / m^L does not depend on l
    grown = plain[-2].log_moment - stable[-2].log_moment
    assert grown > 20 * math.log(1 + sigma_w**2 / 2)

    def stable_moment(blocks: int) -> float:
        found = stack_signals([16] + [64] * (blocks + 1) + [10], "relu", sigma_w, 0.0, Shape(residual="stable"))
        return math.exp(found[blocks // 2].log_moment)

    assert stable_moment(80) / stable_moment(40) == pytest.approx(0.5, rel=0.05)


def test_a_border_of_zeros_lets_signal_out():
    circular, zeros = (
        stack_signals([8, 32, 32, 32, 10], "relu", 2**0.5, 0.0, Shape(3, (5, 5), p)) for p in ("circular", "zeros")
    )
    assert [layer.q for layer in circular] == pytest.approx([2.0] * 4)
    assert zeros[2].q < zeros[1].q < zeros[0].q < 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Shape(taps=2, size=(4, 4)), "taps must be odd"),
        (lambda: Shape(taps=3), "needs a size"),
        (lambda: Shape(size=(0, 4)), "size must be positive"),
        (lambda: Shape(padding="zero"), "did you mean 'zeros'"),
        (lambda: Shape(residual="stabel"), "did you mean 'stable'"),
        (lambda: stack_signals([4, 8, 9, 5], "relu", 1.0, 0.0, Shape(residual="plain")), "equal widths"),
        (lambda: stack_signals([4, 8, 9, 5], "relu", 0.0, 0.1, Shape()), "a score moment is 0"),
    ],
)
def test_impossible_stacks(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("size", [5, "44", (4.0,), (float("nan"),), (True,)], ids=str)
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(InputError, match="size must be positive whole numbers"):
        Shape(size=size)


@pytest.mark.parametrize("taps", [3.0, "3", None, 0, True], ids=str)
def test_taps_that_are_none_are_refused(taps):
    with pytest.raises(InputError, match="taps must be odd"):
        Shape(taps, (4, 4))


def test_taps_beyond_the_border_bring_nothing():
    widths, layers = [4, 8, 8, 5], []
    for taps in (5, 9):  # on 3 by 3 pixels a kernel of 5 sees all of them already
        layers.append(stack_signals(widths, "relu", 2**0.5 * taps, 0.0, Shape(taps, (3, 3), "zeros"))[:-1])
    assert [a.q for a in layers[0]] == pytest.approx([b.q for b in layers[1]])


def test_a_stack_that_does_not_fit_into_memory_is_refused():
    with pytest.raises(InputError, match="50,176 positions and 2 layers need 242 GB: take a smaller size"):
        stack_signals([3, 8, 10], "relu", 1.0, 0.0, Shape(3, (224, 224)))


def test_networks_that_differ_in_agreement_alone_are_followed_once():
    before = _followed.cache_info()
    for agreement in (0.1, 0.5, 0.9):
        stack_signals([3, 7, 7, 5], "tanh", 1.31, 0.2, Shape(3, (4,)), examples=3, agreement=agreement)
    after = _followed.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)
