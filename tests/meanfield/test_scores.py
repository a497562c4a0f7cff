import itertools
import math

import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit.errors import InputError
from pruneinit.meanfield import chi, edge_of_chaos, fixed_point
from pruneinit.meanfield.scores import conditioning, forward_variances, magnitude_moments, snip_moments

WIDTHS = [300, 500, 400, 300, 500, 200]


def measured(activation: type[nn.Module], sigma_w: float, sigma_b: float, inputs: int = 40) -> list[float]:
    """E[(W dL/dW)^2] of each layer, example by example, on wide random networks; L is a random sum of the outputs."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(WIDTHS):
        layers += [nn.Linear(a, b), activation()]
    sums = [0.0] * (len(WIDTHS) - 1)
    for _ in range(3):
        model = pi.mean_field_(nn.Sequential(*layers[:-1]).double(), sigma_w, sigma_b, generator=generator)
        weights = [m.weight for m in model if isinstance(m, nn.Linear)]
        for _ in range(inputs):
            x = torch.randn(1, WIDTHS[0], generator=generator).double()
            loss = (model(x) * torch.randn(WIDTHS[-1], generator=generator)).sum()
            for i, grad in enumerate(torch.autograd.grad(loss, weights)):
                sums[i] += (weights[i] * grad).square().mean().item()
    return [s / sums[-1] for s in sums]


@pytest.mark.parametrize(
    "activation, name, sigma_w, sigma_b",
    [
        (nn.Tanh, "tanh", 1.3041, 0.2),
        (nn.Tanh, "tanh", 0.9, 0.2),
        (nn.Tanh, "tanh", 3**0.5, 0.05**0.5),
        (nn.ReLU, "relu", 2**0.5, 0.0),
        (nn.ELU, "elu", 1.2, 0.2),
    ],
    ids=["tanh-edge", "tanh-ordered", "tanh-chaotic", "relu-edge", "elu"],
)
def test_score_moments_are_those_of_wide_random_networks(activation, name, sigma_w, sigma_b):
    expected = snip_moments(WIDTHS, name, sigma_w, sigma_b)
    assert measured(activation, sigma_w, sigma_b) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("sigma_w, sigma_b", [(1.0, 0.2), (1.3041, 0.2), (2.0, 0.2)])
def test_deep_in_the_network_the_moments_grow_by_chi(sigma_w, sigma_b):
    moments = snip_moments([100] * 40, "tanh", sigma_w, sigma_b, q_input=fixed_point("tanh", sigma_w, sigma_b))
    ratios = [a / b for a, b in itertools.pairwise(moments[20:31])]
    assert ratios == pytest.approx([chi("tanh", sigma_w, sigma_b)] * 10, rel=1e-5)


def test_only_the_edge_is_well_conditioned_at_any_depth():
    edge = edge_of_chaos("tanh", 0.2)

    def worst(depth: int, sigma_w: float) -> float:
        return conditioning(snip_moments([100] * depth, "tanh", sigma_w, 0.2)[2:-2])

    assert worst(200, edge.sigma_w) < 2 * worst(20, edge.sigma_w) < 10
    assert worst(200, 1.0) > 1e10 * worst(20, 1.0)


def test_a_depth_at_which_the_moments_leave_float64_is_no_accident():
    assert all(math.isfinite(m) for m in snip_moments([50] * 3000, "tanh", 2.5, 0.2))
    assert snip_moments([50] * 3000, "tanh", 0.5, 0.2)[0] == 0


def test_forward_variances_end_at_the_fixed_point():
    assert forward_variances([10] * 60, "tanh", 1.3041, 0.2)[-1] == pytest.approx(
        fixed_point("tanh", 1.3041, 0.2), rel=1e-3
    )


def test_magnitudes_are_smallest_in_the_widest_layer():
    moments = magnitude_moments([10, 1000, 50, 5], 1.0)
    assert moments.index(min(moments)) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([10], "tanh", 1.0, 0.0), "widths must be"),
        (([10, 0, 3], "tanh", 1.0, 0.0), "widths must be"),
        (([10, 10], "tanh", 0.0, 0.1), "a score moment is 0"),
        (([10, 10], "tanh", -1.0, 0.1), "sigma_w must be"),
    ],
)
def test_impossible_networks(arguments, message):
    with pytest.raises(InputError, match=message):
        snip_moments(*arguments)
