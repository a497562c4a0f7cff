"""The maps against closed forms, against each other, and against wide random networks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneinit import InputError
from pruneinit.meanfield import (
    activation,
    chi,
    correlation_map,
    correlation_slope,
    edge_of_chaos,
    fixed_point,
    variance_map,
    variance_slope,
)


def network(name, sigma_w, sigma_b, q, c, layers=3, width=3000, pairs=64):
    """Mean variance and correlation of pairs of signals, layer by layer, in one random network."""
    phi = activation(name)
    generator = torch.Generator().manual_seed(7)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    first, second = (torch.linalg.qr(draw(width, 2 * pairs)).Q * math.sqrt(width * q)).split(pairs, dim=1)
    y = torch.cat([first, c * first + math.sqrt(1 - c * c) * second], dim=1)
    for _ in range(layers):
        hidden = torch.from_numpy(phi.function(y.double().numpy())).float()
        y = draw(width, width) @ hidden * (sigma_w / math.sqrt(width)) + sigma_b * draw(width, 1)
        a, b = y.split(pairs, dim=1)
        variance = y.square().mean().item()
        yield variance, (a * b).mean().item() / variance


@pytest.mark.parametrize(
    "name, sigma_w, sigma_b, q, c",
    [("tanh", 1.3, 0.2, 1.5, 0.3), ("relu", math.sqrt(2), 0.0, 1.0, 0.2), ("elu", 1.2, 0.3, 0.5, -0.5)],
    ids=["tanh", "relu", "elu"],
)
def test_a_wide_random_network_follows_the_maps(name, sigma_w, sigma_b, q, c):
    for variance, correlation in network(name, sigma_w, sigma_b, q, c):
        c = correlation_map(name, sigma_w, sigma_b, c, q)
        q = variance_map(name, sigma_w, sigma_b, q)
        assert variance == pytest.approx(q, rel=0.06)  # Three layers of width 3000 wander by a few per cent.
        assert correlation == pytest.approx(c, abs=0.02)


@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.7, 0.999999, 1.0])
@pytest.mark.parametrize("q", [0.3, 40.0])
def test_relu_correlation_is_the_arc_cosine_kernel_at_every_variance(c, q):
    exact = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
    assert correlation_map("relu", math.sqrt(2), 0.0, c, q) == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize("c", [-1.0, -0.5, 0.0, 0.7, 0.999999, 1.0])
def test_erf_correlation_has_a_closed_form(c):
    q, sigma_w, sigma_b = 0.8, 1.3, 0.4
    kernel = lambda c: sigma_b**2 + sigma_w**2 * 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))  # noqa: E731
    assert correlation_map("erf", sigma_w, sigma_b, c, q) == pytest.approx(kernel(c) / kernel(1), abs=1e-8)


@settings(deadline=None, max_examples=15)
@given(
    name=st.sampled_from(["tanh", "elu", "gelu", "hardtanh", "softplus"]),
    sigma_b=st.floats(0, 1),
    q=st.floats(0.01, 50),
    c=st.floats(0, 0.99),
)
def test_correlation_map_keeps_one_and_the_order(name, sigma_b, q, c):
    assert correlation_map(name, 1.5, sigma_b, 1.0, q) == pytest.approx(1, abs=1e-12)
    low, high = (correlation_map(name, 1.5, sigma_b, x, q) for x in (c, c + 0.01))
    assert -1e-12 <= low <= high + 1e-12 <= 1 + 2e-12


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "elu", "relu"])
@pytest.mark.parametrize("c", [-0.4, 0.0, 0.6])
def test_correlation_slope_is_the_derivative_of_the_map(name, c):
    sigma_w, sigma_b = 1.1, 0.5
    q = fixed_point(name, sigma_w, sigma_b)
    h = 1e-4
    up, down = (correlation_map(name, sigma_w, sigma_b, x, q) for x in (c + h, c - h))
    assert correlation_slope(name, sigma_w, sigma_b, c) == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "relu", "gelu"])
def test_chi_is_the_correlation_slope_at_one(name):
    assert chi(name, 1.2, 0.3) == pytest.approx(correlation_slope(name, 1.2, 0.3, 1.0), rel=1e-10)
    assert chi(name, 1.2, 0.3, q=2.0) == pytest.approx(correlation_slope(name, 1.2, 0.3, 1.0, q=2.0), rel=1e-10)


@pytest.mark.parametrize(
    "name, sigma_w, sigma_b", [("tanh", 1.3041, 0.2), ("tanh", 4.0, 0.0), ("gelu", 1.2, 0.5), ("elu", 1.3, 2.0)]
)
def test_fixed_point_is_where_plain_iteration_ends(name, sigma_w, sigma_b):
    q = 1.0
    for _ in range(400):
        q = variance_map(name, sigma_w, sigma_b, q)
    assert fixed_point(name, sigma_w, sigma_b) == pytest.approx(q, rel=1e-9)
    assert fixed_point(name, sigma_w, sigma_b, start=1e-3) == pytest.approx(q, rel=1e-9)
    assert fixed_point(name, sigma_w, sigma_b, start=1e4) == pytest.approx(q, rel=1e-9)


@pytest.mark.parametrize("sigma_w, sigma_b, q", [(1.0, 1.0, 2.0), (0.5, 2.0, 32 / 7), (1.0, 0.0, 0.0)])
def test_relu_fixed_point_is_a_geometric_series(sigma_w, sigma_b, q):
    assert fixed_point("relu", sigma_w, sigma_b) == pytest.approx(q, abs=1e-12)


def test_relu_on_its_edge_keeps_any_variance():
    assert fixed_point("relu", math.sqrt(2), 0.0, start=7.0) == 7.0


@pytest.mark.parametrize("name, sigma_w", [("tanh", 1.0), ("tanh", 0.9), ("gelu", 1.2)])
def test_signals_that_die_out_have_fixed_point_zero(name, sigma_w):
    assert fixed_point(name, sigma_w, 0.0) == 0.0


def test_an_unstable_fixed_point_is_left_on_either_side():
    sigma_w, q = edge_of_chaos("gelu", 0.2)
    assert variance_slope("gelu", sigma_w, 0.2, q) > 1
    assert fixed_point("gelu", sigma_w, 0.2, start=0.9 * q) < 0.9 * q
    with pytest.raises(InputError, match="diverges"):
        fixed_point("gelu", sigma_w, 0.2, start=1.1 * q)


@pytest.mark.parametrize(
    "name, sigma_w, sigma_b",
    [
        ("relu", 1.5, 0.0),
        ("relu", math.sqrt(2), 0.1),
        ("gelu", 2.0, 0.0),
        ("softplus", 1.5, 0.1),
        (torch.exp, 1.0, 0.0),
    ],
)
def test_variance_that_diverges(name, sigma_w, sigma_b):
    with pytest.raises(InputError, match="diverges at sigma_w"):
        fixed_point(name, sigma_w, sigma_b)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("function", [fixed_point, chi, variance_slope])
def test_sigmas_are_finite_and_not_negative(function, bad):
    with pytest.raises(InputError, match="sigma_w must be"):
        function("tanh", bad, 0.1)
    with pytest.raises(InputError, match="sigma_b must be"):
        function("tanh", 1.0, bad)


@pytest.mark.parametrize("c", [1.1, -2, math.nan])
@pytest.mark.parametrize("function", [correlation_map, correlation_slope])
def test_correlation_out_of_range(function, c):
    with pytest.raises(InputError, match=r"correlation in \[-1, 1\]"):
        function("tanh", 1.0, 0.1, c)


def test_correlation_of_nothing():
    with pytest.raises(InputError, match="not defined at variance 0"):
        correlation_map("tanh", 0.5, 0.0, 0.3)


def test_too_fast_growth_is_an_error_of_the_map():
    with pytest.raises(InputError, match="grows too fast"):
        variance_map(torch.exp, 1.0, 0.0, 100.0)


def test_numbers_come_back_as_plain_floats():
    for value in (variance_map("elu", 1.0, 0.1, 1), chi("elu", 1, 0), correlation_map("elu", 1, 1, 0, 1)):
        assert type(value) is float
    assert not isinstance(fixed_point("tanh", 2, 0), np.floating)
