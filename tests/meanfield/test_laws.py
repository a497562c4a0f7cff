import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from pruneinit.errors import InputError
from pruneinit.meanfield import Curve, Law

LOGS = np.log([1e-6, 0.01, 0.3, 1.0, 2.5, 7.0, 30.0])


def test_the_product_of_two_normals_is_the_integral_of_its_bessel_density():
    """|XY| has the density 2 K_0(t) / π."""
    law = Law.single("product", 0.0)
    for log, found in zip(LOGS[1:], law.above(LOGS[1:]), strict=True):
        tail, _ = integrate.quad(lambda t: 2 / math.pi * special.k0(t), math.exp(log), np.inf, epsabs=0)
        assert found == pytest.approx(tail, rel=1e-4)


@pytest.mark.parametrize("base, twin", [("normal", stats.norm), ("uniform", stats.uniform(-(3**0.5), 2 * 3**0.5))])
def test_magnitudes_follow_the_law_of_the_weights(base, twin):
    expected = [2 * twin.sf(2 * math.exp(log)) for log in LOGS]
    assert Law.single(base, math.log(0.25)).above(LOGS) == pytest.approx(expected, rel=1e-3, abs=1e-30)


def test_a_mixture_is_the_mean_of_its_parts():
    spread, weights = np.array([0.1, 1.0, 4.0, 0.0]), np.array([0.2, 0.3, 0.1, 0.4])
    mean = weights @ spread
    law = Law.mixture("product", math.log(2.0), spread, weights)
    parts = [
        w * Law.single("product", math.log(2.0 * s / mean)).above(LOGS)
        for s, w in zip(spread[:3], weights, strict=False)
    ]
    assert law.above(LOGS) == pytest.approx(np.sum(parts, axis=0), rel=1e-3)
    assert law.above(np.array([-40.0]))[0] == pytest.approx(0.6, rel=1e-6)  # scores of scale 0 are above no threshold


def test_densities_are_those_of_drawn_scores():
    generator = np.random.default_rng(0)
    moments, sizes = [1.0, 0.1, 0.01], [200_000, 100_000, 50_000]
    laws = {str(i): Law.single("product", math.log(m)) for i, m in enumerate(moments)}
    curve = Curve.of(laws, {str(i): n for i, n in enumerate(sizes)})
    drawn = [np.abs(generator.standard_normal((2, n)).prod(0)) * m**0.5 for n, m in zip(sizes, moments, strict=True)]
    for sparsity in (0.0, 0.3, 0.9, 0.99):
        keep = round((1 - sparsity) * sum(sizes))
        threshold = np.sort(np.concatenate(drawn))[::-1][keep - 1]
        measured = [(scores >= threshold).mean() for scores in drawn]
        assert list(curve.densities(sparsity).values()) == pytest.approx(measured, rel=0.05, abs=1e-4)


def test_the_critical_sparsity_is_that_of_drawn_scores():
    generator = np.random.default_rng(1)
    moments, sizes = [1.0, 0.03], [20_000, 5_000]
    laws = {str(i): Law.single("product", math.log(m)) for i, m in enumerate(moments)}
    critical = Curve.of(laws, {str(i): n for i, n in enumerate(sizes)}).critical()
    found = []
    for _ in range(200):
        one, other = (
            np.abs(generator.standard_normal((2, n)).prod(0)) * m**0.5 for n, m in zip(sizes, moments, strict=True)
        )
        found.append(1 - (one > other.max()).sum() / sum(sizes))
    assert critical.layer == "1"
    assert critical.mean == pytest.approx(np.mean(found), abs=4 * np.std(found) / 200**0.5)
    assert critical.sparsity == pytest.approx(np.median(found), abs=0.01)


def test_a_layer_with_scores_of_zero_alone_is_lost_at_once():
    laws = {"a": Law.single("product", 0.0), "dead": Law.single("product", -math.inf)}
    curve = Curve.of(laws, {"a": 900, "dead": 100})
    assert curve.critical().layer == "dead"
    assert curve.critical().sparsity <= 0.1
    assert curve.densities(0.5)["a"] == pytest.approx(0.5 * 1000 / 900, rel=1e-3)


def test_laws_without_sizes_are_refused():
    with pytest.raises(InputError, match="the same layers"):
        Curve.of({"a": Law.single("normal", 0.0)}, {"b": 3})
    with pytest.raises(InputError, match="the same layers"):
        Curve.of({}, {})
