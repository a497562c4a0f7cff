"""Phases and depth scales, against iterated maps."""

import math

import pytest

from pruneinit import InputError
from pruneinit.meanfield import (
    correlation_fixed_point,
    correlation_map,
    depth_scales,
    edge_of_chaos,
    fixed_point,
    phase,
    variance_map,
)


@pytest.mark.parametrize(
    "name, sigma_w, sigma_b, expected",
    [
        ("relu", 1.0, 0.0, "ordered"),
        ("relu", 1.0, 0.7, "ordered"),
        ("relu", math.sqrt(2), 0.0, "edge"),
        ("relu", 2.0, 0.0, "chaotic"),
        ("tanh", 1.0, 0.2, "ordered"),
        ("tanh", 1.3041, 0.2, "edge"),
        ("tanh", math.sqrt(1.761), math.sqrt(0.05), "edge"),
        ("tanh", 1.5, 0.2, "chaotic"),
        ("tanh", 0.9, 0.0, "ordered"),
        ("tanh", 1.0, 0.0, "edge"),
    ],
)
def test_phase(name, sigma_w, sigma_b, expected):
    assert phase(name, sigma_w, sigma_b) == expected


def test_chi_of_one_with_a_growing_variance_is_no_edge():
    with pytest.raises(InputError, match="diverges"):
        phase("relu", math.sqrt(2), 0.1)


def test_tolerance():
    assert phase("relu", 1.4, 0.0) == "ordered"
    assert phase("relu", 1.4, 0.0, tolerance=0.05) == "edge"


@pytest.mark.parametrize("name, sigma_w, sigma_b", [("tanh", 2.0, 0.2), ("erf", 3.0, 0.5), ("hardtanh", 2.0, 0.1)])
def test_chaos_ends_at_the_correlation_that_iteration_finds(name, sigma_w, sigma_b):
    q, c = fixed_point(name, sigma_w, sigma_b), 0.5
    for _ in range(140):
        c = correlation_map(name, sigma_w, sigma_b, c, q)
    assert correlation_fixed_point(name, sigma_w, sigma_b) == pytest.approx(c, abs=1e-8)
    assert c < 0.99


def test_order_and_edge_end_at_one():
    assert correlation_fixed_point("tanh", 1.0, 0.2) == 1.0
    assert correlation_fixed_point("tanh", edge_of_chaos("tanh", 0.2).sigma_w, 0.2) == 1.0


@pytest.mark.parametrize("name, sigma_w, sigma_b", [("tanh", 1.0, 0.3), ("tanh", 2.0, 0.3), ("elu", 1.0, 0.5)])
def test_scales_are_the_rates_of_the_iterated_maps(name, sigma_w, sigma_b):
    scales = depth_scales(name, sigma_w, sigma_b)
    q, c = fixed_point(name, sigma_w, sigma_b), correlation_fixed_point(name, sigma_w, sigma_b)
    shrunk = (variance_map(name, sigma_w, sigma_b, q * (1 + 1e-5)) - q) / (q * 1e-5)
    assert scales.variance == pytest.approx(-1 / math.log(shrunk), rel=1e-3)
    shrunk = (correlation_map(name, sigma_w, sigma_b, c - 1e-5, q) - c) / -1e-5
    assert scales.correlation == pytest.approx(-1 / math.log(shrunk), rel=1e-3)


def test_on_the_edge_correlations_carry_without_end():
    sigma_w, _ = edge_of_chaos("tanh", 0.2)
    scales = depth_scales("tanh", sigma_w, 0.2)
    assert scales.correlation == math.inf
    assert 1 < scales.variance < 2


def test_relu_on_the_edge_keeps_the_variance_too():
    assert depth_scales("relu", math.sqrt(2), 0.0) == (math.inf, math.inf)
