"""Moments against adaptive integration and their own derivative."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pruneinit import InputError
from pruneinit.meanfield import NAMED, moments
from pruneinit.meanfield.gaussian import bisect, check_number

Q = [0.02, 0.7, 25.0]


def plain(function, q):
    """E[function(sqrt(q) Z)] by adaptive integration, cut where the named activations have corners."""
    cuts = [z for z in np.array([-1, 0, 1]) / math.sqrt(q) if abs(z) < 9]
    integrand = lambda z: float(function(np.array([math.sqrt(q) * z]))[0]) * stats.norm.pdf(z)  # noqa: E731
    return integrate.quad(integrand, -9, 9, points=cuts, limit=200, epsabs=1e-10)[0]


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "silu", "gelu", "elu", "selu", "softplus"])
@pytest.mark.parametrize("q", Q)
def test_moments_agree_with_adaptive_integration(name, q):
    phi = NAMED[name]
    found = moments(name, q)
    assert found.square == pytest.approx(plain(lambda x: phi.function(x) ** 2, q), abs=1e-9, rel=1e-9)
    assert found.slope == pytest.approx(plain(lambda x: phi.derivative(x) ** 2, q), abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("q", Q)
def test_growth_is_the_derivative_of_the_square(name, q):
    h = 1e-4 * q
    difference = (moments(name, q + h).square - moments(name, q - h).square) / (2 * h)
    assert moments(name, q).growth == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name, value, slope", [("relu", 0, 0.5), ("tanh", 0, 1), ("sigmoid", 0.5, 1 / 16)])
def test_variance_zero_is_the_limit(name, value, slope):
    assert moments(name, 0.0)[:2] == pytest.approx((value**2, slope), abs=1e-12)


def test_exponential_growth_is_infinite_only_where_it_is_lost():
    assert moments(torch.exp, 1.0).square == pytest.approx(math.exp(2), rel=1e-10)
    assert moments(torch.exp, 100.0).square == math.inf
    assert moments(torch.exp, 1e6).square == math.inf


@pytest.mark.parametrize("q", [-1.0, math.nan, math.inf, "much"])
def test_a_variance_is_a_finite_number(q):
    with pytest.raises(InputError, match="q must be a finite number >= 0"):
        moments("relu", q)


def test_bisect_keeps_relative_precision_and_takes_either_direction():
    assert bisect(lambda x: x - 3e-9, 1e-12, 1.0) == pytest.approx(3e-9, rel=1e-15)
    assert bisect(lambda x: 3e9 - x, 1.0, 1e12) == pytest.approx(3e9, rel=1e-15)


def test_check_number_names_what_it_was_given():
    assert check_number("sigma_b", 0) == 0.0
    with pytest.raises(InputError, match=r"sigma_b must be a finite number >= 0, got -0\.1"):
        check_number("sigma_b", -0.1)


def test_a_whole_number_beyond_all_floats_is_refused():
    with pytest.raises(InputError, match="q must be a finite number >= 0, got a whole number beyond all floats"):
        moments("relu", 10**400)
