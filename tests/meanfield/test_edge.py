"""The Edge of Chaos against published points, closed forms and its own definition."""

import math

import pytest
import torch
from scipy import optimize, special
from torch import nn

from pruneinit import InputError
from pruneinit.meanfield import (
    NoEdgeOfChaos,
    chi,
    default_sigma_b,
    edge_of_chaos,
    fixed_point,
    leaky_relu,
    variance_map,
    variance_slope,
)


def elu_moments(q):
    """E[φ^2], E[φ'^2] with E[exp(a x); x < 0] = exp(a^2 q / 2) cdf(-a sqrt(q)) = erfcx(a sqrt(q / 2)) / 2."""
    below = lambda a: special.erfcx(a * math.sqrt(q / 2)) / 2  # noqa: E731
    return q / 2 + below(2) - 2 * below(1) + 0.5, 0.5 + below(2)


def hardtanh_moments(q):
    u = 1 / math.sqrt(q)
    inside = special.erf(u / math.sqrt(2))
    density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    return q * (inside - 2 * u * density) + special.erfc(u / math.sqrt(2)), inside


def erf_moments(q):
    return 2 / math.pi * math.asin(2 * q / (1 + 2 * q)), 4 / math.pi / math.sqrt(1 + 4 * q)


def sin_moments(q):
    return (1 - math.exp(-2 * q)) / 2, (1 + math.exp(-2 * q)) / 2


CLOSED = {"elu": elu_moments, "hardtanh": hardtanh_moments, "erf": erf_moments, "sin": sin_moments}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("sigma_b", [0.05, 0.2, 1.0])
def test_closed_forms(name, sigma_b):
    def excess(q):
        square, slope = CLOSED[name](q)
        return sigma_b**2 + square / slope - q

    q = optimize.brentq(excess, 1e-3, 100, xtol=1e-14, rtol=1e-14)
    edge = edge_of_chaos(name, sigma_b)
    assert edge.q == pytest.approx(q, rel=1e-8)
    assert edge.sigma_w == pytest.approx(CLOSED[name](q)[1] ** -0.5, rel=1e-9)


def test_published_points():
    sigma_w, q = edge_of_chaos("tanh", math.sqrt(0.05))
    assert sigma_w**2 == pytest.approx(1.761, abs=5e-4)
    assert q == pytest.approx(0.570, abs=5e-4)
    sigma_w, q = edge_of_chaos("tanh", 0.2)
    assert sigma_w == pytest.approx(1.3041, abs=5e-5)
    assert q == pytest.approx(0.512, abs=5e-4)
    assert edge_of_chaos("relu", 0.0) == pytest.approx((math.sqrt(2), 1.0))


@pytest.mark.parametrize("sigma_b", [1e-3, 0.2, 0.8, 3.0])
@pytest.mark.parametrize("name", ["tanh", "erf", "hardtanh", "sin", "sigmoid", "elu", "selu"])
def test_definition_holds_and_the_variance_settles_there(name, sigma_b):
    sigma_w, q = edge_of_chaos(name, sigma_b)
    assert chi(name, sigma_w, sigma_b, q) == pytest.approx(1, abs=1e-12)
    assert variance_map(name, sigma_w, sigma_b, q) == pytest.approx(q, rel=1e-12)
    assert variance_slope(name, sigma_w, sigma_b, q) < 1
    if sigma_b > 0.1:  # Below, the variance map is so close to the diagonal that settling takes thousands of layers.
        assert fixed_point(name, sigma_w, sigma_b) == pytest.approx(q, rel=1e-8)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, 1.0, -1.0])
def test_scale_free_activations_have_a_single_point(slope):
    phi = leaky_relu(slope)
    assert edge_of_chaos(phi) == pytest.approx((math.sqrt(2 / (1 + slope**2)), 1.0))
    with pytest.raises(NoEdgeOfChaos, match="only at sigma_b=0, with sigma_w="):
        edge_of_chaos(phi, 0.1)


@pytest.mark.parametrize(
    "name, sigma_w",
    [("tanh", 1), ("hardtanh", 1), ("erf", math.sqrt(math.pi) / 2), ("elu", 1), ("sin", 1), ("gelu", 2)],
)
def test_without_biases_the_edge_is_at_variance_zero(name, sigma_w):
    assert edge_of_chaos(name, 0.0) == pytest.approx((sigma_w, 0.0), rel=1e-9)


def test_sigmoid_needs_no_biases():
    sigma_w, q = edge_of_chaos("sigmoid", 0.0)
    assert q > 1
    assert variance_slope("sigmoid", sigma_w, 0.0, q) < 0.1


@pytest.mark.parametrize(
    "phi, below, above",
    [("silu", 0.74, 0.75), ("gelu", 0.41, 0.42), (nn.Mish(), 0.30, 0.31), (nn.Hardswish(), 0.71, 0.72)],
    ids=["silu", "gelu", "mish", "hardswish"],
)
def test_stability_begins_at_the_documented_sigma_b(phi, below, above):
    sigma_w, q = edge_of_chaos(phi, below)
    assert variance_slope(phi, sigma_w, below, q) > 1
    sigma_w, q = edge_of_chaos(phi, above)
    assert variance_slope(phi, sigma_w, above, q) < 1


@pytest.mark.parametrize(
    "phi, sigma_b",
    [("relu", 0.0), ("identity", 0.0), ("tanh", 0.2), ("elu", 0.2), ("gelu", 0.5), (nn.Mish(), 0.5), ("silu", 1.0)],
    ids=str,
)
def test_default_sigma_b_is_stable(phi, sigma_b):
    assert default_sigma_b(phi) == sigma_b
    sigma_w, q = edge_of_chaos(phi)
    assert variance_slope(phi, sigma_w, sigma_b, q) <= 1 + 1e-9
    assert chi(phi, sigma_w, sigma_b, q) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("sigma_b", [0.0, 0.2, 1.0, None])
def test_softplus_has_no_edge(sigma_b):
    with pytest.raises(NoEdgeOfChaos, match="softplus has no Edge of Chaos"):
        edge_of_chaos("softplus", sigma_b)


def test_a_constant_has_no_edge():
    with pytest.raises(NoEdgeOfChaos, match="no Edge of Chaos"):
        edge_of_chaos(lambda x: 0 * x + 1, 0.2)


@pytest.mark.parametrize("sigma_b", [0.0, 0.3])
def test_a_function_of_the_user(sigma_b):
    """exp is its own derivative, so that q = sigma_b^2 + 1 and sigma_w = exp(-q); its variance is unstable."""
    edge = edge_of_chaos(torch.exp, sigma_b)
    assert edge == pytest.approx((math.exp(-(1 + sigma_b**2)), 1 + sigma_b**2), rel=1e-9)
    assert variance_slope(torch.exp, edge.sigma_w, sigma_b, edge.q) == pytest.approx(2)


@pytest.mark.parametrize("sigma_b", [-0.2, math.nan, math.inf])
def test_impossible_sigma_b(sigma_b):
    with pytest.raises(InputError, match="sigma_b must be a finite number >= 0"):
        edge_of_chaos("tanh", sigma_b)
