"""The composite rule against closed forms: polynomials, kinks, the arc-cosine kernel, erf networks."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite_e
from scipy import integrate, special, stats

from pruneinit.meanfield.quadrature import correlated, density, first_breaks, resolve, rule

CORRELATIONS = [-1.0, -0.9, -0.3, 0.0, 1e-9, 0.05, 0.3, 0.9, 0.99, 1 - 1e-6, 1 - 1e-10, 1.0]


def mesh_of(function, scale=1.0, kinks=()):
    return resolve(lambda z: np.stack([function(scale * z)]), first_breaks(scale, kinks))


def expectation(function, scale=1.0, kinks=()):
    mesh = mesh_of(function, scale, kinks)
    return float((mesh.weights * density(mesh.points) * mesh.values[0]).sum())


@pytest.mark.parametrize("degree", range(0, 32, 3))
def test_a_panel_is_exact_for_polynomials(degree):
    points, weights = rule(np.array([-0.5]), np.array([1.5]))
    exact = (1.5 ** (degree + 1) - (-0.5) ** (degree + 1)) / (degree + 1)
    assert (weights * points**degree).sum() == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("order", range(0, 13, 2))
def test_gaussian_moments(order):
    assert expectation(lambda z: z**order) == pytest.approx(special.factorial2(order - 1) if order else 1, rel=1e-12)


@settings(deadline=None, max_examples=25)
@example(kink=1.00390625, scale=1.0)  # Closer to a break than the first node.
@example(kink=-1e-7, scale=1.0)
@given(kink=st.floats(-4, 4), scale=st.floats(1e-2, 1e2))
def test_a_kink_is_found_wherever_it_is(kink, scale):
    """E[max(x - k, 0)] with x = s Z is s pdf(k/s) - k (1 - cdf(k/s)); the rule is not told k."""
    exact = scale * stats.norm.pdf(kink / scale) - kink * stats.norm.sf(kink / scale)
    assert expectation(lambda x: np.maximum(x - kink, 0), scale) == pytest.approx(exact, rel=1e-9, abs=1e-11 * scale)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 30.0, 1e3])
def test_steep_and_oscillating_functions_are_resolved(scale):
    assert expectation(lambda x: np.cos(x), scale) == pytest.approx(np.exp(-(scale**2) / 2), abs=1e-11)
    exact = 2 / np.pi * np.arcsin(2 * scale**2 / (1 + 2 * scale**2))
    assert expectation(lambda x: special.erf(x) ** 2, scale) == pytest.approx(exact, rel=1e-11)


def test_resolve_without_density_brackets_a_kink_to_rounding():
    mesh = resolve(lambda x: np.sign(x - 0.3)[None], np.array([-1.0, 1.0]), gaussian=False)
    widths = np.diff(mesh.breaks)
    narrowest = int(widths.argmin())
    assert widths[narrowest] < 1e-12
    assert mesh.breaks[narrowest] == pytest.approx(0.3, abs=1e-12)


def test_resolve_gives_up_on_noise_instead_of_running_forever():
    noise = np.random.default_rng(0)
    mesh = resolve(lambda x: noise.normal(size=(1, *x.shape)), np.linspace(-10, 10, 21))
    assert 1000 < mesh.points.shape[0] <= 1 << 14


def test_values_that_are_not_finite_are_left_for_the_caller():
    mesh = resolve(lambda x: np.where(x > 2.5, np.nan, x)[None], np.linspace(-10, 10, 21))
    assert np.isnan(mesh.values).any()
    assert np.isfinite(mesh.values).any()


@pytest.mark.parametrize("c", CORRELATIONS)
def test_relu_gives_the_arc_cosine_kernel(c):
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    exact = (np.sqrt((1 - c) * (1 + c)) + c * (np.pi - np.arccos(c))) / np.pi / 2
    assert correlated(relu, mesh_of(relu, kinks=(0.0,)).breaks, c) == pytest.approx(exact, abs=1e-13)


@pytest.mark.parametrize("c", CORRELATIONS)
def test_step_gives_the_arc_cosine_kernel_of_degree_zero(c):
    step = lambda z: (z > 0).astype(float)  # noqa: E731
    exact = (np.pi - np.arccos(c)) / (2 * np.pi)
    assert correlated(step, first_breaks(1.0, (0.0,)), c) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("c", CORRELATIONS)
@pytest.mark.parametrize("q", [1e-2, 0.5, 30.0, 1e4])
def test_erf_has_a_closed_form(c, q):
    erf = lambda z: special.erf(np.sqrt(q) * z)  # noqa: E731
    exact = 2 / np.pi * np.arcsin(2 * c * q / (1 + 2 * q))
    assert correlated(erf, mesh_of(special.erf, np.sqrt(q)).breaks, c) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("c", [-0.7, 0.4, 0.95])
def test_smooth_functions_agree_with_their_hermite_series(c):
    """Mehler: E[f(Z1) f(Z2)] = sum of a_k^2 c^k, a_k the normalised Hermite coefficients of f."""
    nodes, weights = hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    f = lambda z: np.logaddexp(0, 0.7 * z)  # noqa: E731
    coefficients = [
        (weights * f(nodes) * hermite_e.hermeval(nodes, np.eye(k + 1)[k])).sum() / np.sqrt(special.factorial(k))
        for k in range(40)
    ]
    exact = sum(a**2 * c**k for k, a in enumerate(coefficients))
    assert correlated(f, mesh_of(f).breaks, c) == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize("c", [0.3, 0.98])
def test_a_kink_away_from_zero_agrees_with_nested_adaptive_integration(c):
    s = np.sqrt(1 - c * c)
    f = lambda z: min(max(1.3 * z, -1), 1)  # noqa: E731
    kinks = np.array([-1, 1]) / 1.3

    def inner(z):
        cuts = np.clip((kinks - c * z) / s, -9, 9)
        return (
            f(z)
            * stats.norm.pdf(z)
            * integrate.quad(
                lambda t: f(c * z + s * t) * np.exp(-t * t / 2) / np.sqrt(2 * np.pi), -9, 9, points=cuts, limit=200
            )[0]
        )

    exact = integrate.quad(inner, -9, 9, points=[*kinks, *(kinks / c)], limit=200, epsabs=1e-9)[0]
    hardtanh = lambda z: np.clip(1.3 * z, -1, 1)  # noqa: E731
    assert correlated(hardtanh, first_breaks(1.0, tuple(kinks)), c) == pytest.approx(exact, abs=1e-8)


def test_odd_function_at_tiny_correlation_is_quick_and_zero():
    tanh = lambda z: np.tanh(2 * z)  # noqa: E731
    assert abs(correlated(tanh, mesh_of(np.tanh, 2.0).breaks, 1e-15)) < 1e-14
