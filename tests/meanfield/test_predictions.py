import numpy as np
import pytest

import pruneinit as pi
from pruneinit.errors import InputError
from pruneinit.meanfield import Curve, Law, Shape, edge_of_chaos, magnitude_bound, magnitude_limit, predict, snip_bound
from wide import batch, mlp

EDGE = edge_of_chaos("tanh", 0.2).sigma_w


def measured(widths, activation, sigma_w, sigma_b, sparsity, seeds, examples=64, criterion=None):
    """Densities of each layer at a sparsity, and the sparsity at which the first layer runs empty, of each seed."""
    densities, critical = [], []
    for seed in range(seeds):
        model = mlp(widths, activation, sigma_w, sigma_b, seed)
        scores = pi.score(model, criterion or pi.Snip(), [batch(widths[0], examples, widths[-1], seed)])
        densities.append(list(pi.select(scores, sparsity).densities.values()))
        threshold = min(score.max() for score in scores.values())
        total = sum(score.numel() for score in scores.values())
        critical.append(1 - sum(int((score > threshold).sum()) for score in scores.values()) / total)
    return np.mean(densities, axis=0), np.array(critical)


@pytest.mark.parametrize(
    "activation, sigma_w, sigma_b, tolerance",
    [("tanh", EDGE, 0.2, 0.08), ("tanh", 3**0.5, 0.05**0.5, 0.15), ("relu", 2**0.5, 0.0, 0.26)],
    ids=["tanh-edge", "tanh-chaotic", "relu-edge"],
)
def test_densities_of_networks_that_nobody_scored(activation, sigma_w, sigma_b, tolerance):
    widths = [300] * 12 + [100]
    found, _ = measured(widths, activation, sigma_w, sigma_b, 0.9, seeds=8)
    predicted = predict(widths, activation, sigma_w, sigma_b, sparsity=0.9, examples=64)
    assert predicted.densities == pytest.approx(found.tolist(), rel=tolerance)
    sizes = np.array([layer.inputs * layer.outputs for layer in predicted.layers])
    assert sizes @ predicted.densities / sizes.sum() == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("law", ["plain", "neurons"])
@pytest.mark.parametrize("sigma_b", [0.0, 0.05])
def test_both_laws_hold_in_every_layer_where_examples_share_little(sigma_b, law):
    """Near the corner of the edge tanh is almost linear and keeps inputs uncorrelated; every class has its examples."""
    sigma_w, widths = edge_of_chaos("tanh", sigma_b).sigma_w if sigma_b else 1.0, [500] * 12 + [10]
    found, _ = measured(widths, "tanh", sigma_w, sigma_b, 0.9, seeds=8)
    predicted = predict(widths, "tanh", sigma_w, sigma_b, sparsity=0.9, examples=64, law=law)
    assert predicted.densities == pytest.approx(found.tolist(), rel=0.06)


def test_neurons_that_differ_explain_what_the_plain_law_misses_on_relu():
    widths = [300] * 12 + [50]
    found, _ = measured(widths, "relu", 2**0.5, 0.0, 0.9, seeds=4)

    def worst(law: str) -> float:
        predicted = predict(widths, "relu", 2**0.5, 0.0, sparsity=0.9, examples=64, law=law)
        return float(np.abs(np.array(predicted.densities) / found - 1).max())

    assert worst("neurons") < 0.5 * worst("plain")


@pytest.mark.parametrize("sigma_w, sigma_b", [(1.0, 0.05), (EDGE, 0.2), (3**0.5, 0.05**0.5)])
def test_the_critical_sparsity_of_networks_that_nobody_scored(sigma_w, sigma_b):
    widths = [100] * 30 + [10]
    _, critical = measured(widths, "tanh", sigma_w, sigma_b, 0.9, seeds=12)
    predicted = predict(widths, "tanh", sigma_w, sigma_b, sparsity=0.9, examples=64)
    assert predicted.critical.mean == pytest.approx(critical.mean(), abs=0.03)


def test_magnitude_empties_the_layer_of_the_largest_fan_in_within_its_bounds():
    widths = [50] * 100 + [200] + [50] * 100
    found, critical = measured(widths, "tanh", 1.0, 0.1, 0.8, seeds=4, criterion=pi.Magnitude())
    predicted = predict(widths, "tanh", 1.0, 0.1, sparsity=0.8, criterion="magnitude")
    assert predicted.densities == pytest.approx(found.tolist(), rel=0.2, abs=1e-3)
    assert predicted.critical.layer == "layer 101"
    assert predicted.critical.mean == pytest.approx(critical.mean(), abs=0.02)
    assert critical.mean() <= predicted.bound == magnitude_bound(widths) < 1
    assert magnitude_limit(widths) <= magnitude_bound(widths)


def test_measured_critical_sparsities_obey_theorem_1():
    widths = [60] * 120
    _, critical = measured(widths, "tanh", 0.4, 0.05, 0.5, seeds=3, examples=8)
    bound = snip_bound(119, 60, "tanh", 0.4, 0.05)
    assert critical.mean() < bound < 1


def test_theorem_1_tightens_with_depth_and_says_nothing_on_the_edge():
    bounds = [snip_bound(depth, 100, "tanh", 0.5, 0.05) for depth in (20, 200, 2000)]
    assert bounds[0] == 1 > bounds[1] > bounds[2]
    assert snip_bound(10_000, 100, "relu", 2**0.5, 0.0) == 1


def test_theorem_2_says_nothing_for_equal_widths():
    assert magnitude_bound([100] * 10) == 1
    assert magnitude_bound([10, 10]) == 1


def test_a_convolutional_stack_is_predicted_too():
    widths = [3] + [16] * 6 + [10]
    found = predict(widths, "relu", 2**0.5, sparsity=0.9, examples=8, shape=Shape(3, (8, 8), "zeros"))
    assert [layer.inputs for layer in found.layers] == [27] + [144] * 5 + [1024]
    sizes = np.array([layer.inputs * layer.outputs for layer in found.layers])
    assert sizes @ found.densities / sizes.sum() == pytest.approx(0.1, rel=1e-3)
    assert "critical sparsity" in str(found)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sparsity": 98}, "did you mean 0.98"),
        ({"criterion": "snpi"}, "did you mean 'snip'"),
        ({"law": "palin"}, "did you mean 'plain'"),
        ({"widths": [5]}, "widths must be"),
        ({"sigma_w": 0.0}, "sigma_w must be above 0"),
        ({"sigma_w": 3.0, "activation": lambda x: x**3}, "grows too fast|diverge|finite"),
    ],
)
def test_what_cannot_be_predicted_is_refused(change, message):
    arguments = {"widths": [10] * 30, "activation": "tanh", "sigma_w": 1.0, "sparsity": 0.5} | change
    with pytest.raises(InputError, match=message):
        predict(**arguments)


@pytest.mark.parametrize("widths", [[1, 1, 1], [5, 1, 3], [4, 2]], ids=str)
def test_the_smallest_networks_have_an_answer(widths):
    for criterion in ("snip", "magnitude"):
        found = predict(widths, "tanh", 1.0, 0.1, sparsity=0.5, criterion=criterion)
        assert 0 <= found.critical.mean <= 1
        assert all(0 <= density <= 1 for density in found.densities)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"widths": None}, "widths must be a list"),
        ({"widths": {10, 20}}, "widths must be a list"),
        ({"widths": "123"}, "widths must be a list"),
        ({"widths": [10**30, 10]}, "from 1 to 1e"),
        ({"widths": [10, 20, 10**6], "examples": 1000}, "take fewer examples"),
        ({"sigma_w": 1e200}, "sigma_w must be 0 or between"),
        ({"sigma_w": 1e-300}, "sigma_w must be 0 or between"),
        ({"sigma_b": 10**400}, "beyond all floats"),
        ({"q_input": "x"}, "q_input must be a finite number"),
        ({"correlation": "x"}, "correlation must be"),
        ({"correlation": float("nan")}, "correlation must be in"),
        ({"correlation": -0.1}, "correlation must be in"),
        ({"examples": True}, "examples must be a whole number"),
        ({"examples": "x"}, "examples must be a whole number"),
        ({"shape": None}, "shape must be a Shape"),
        ({"log_moments": [0.0, float("nan")]}, "log_moments must be logarithms"),
        ({"log_moments": [0.0, -float("inf")]}, "log_moments must be logarithms"),
        ({"log_moments": "ab"}, "log_moments must be 2 numbers"),
        ({"log_moments": 5}, "log_moments must be 2 numbers"),
    ],
)
@pytest.mark.parametrize("shape", [Shape(), Shape(3, (4,))], ids=["layers", "convolutions"])
@pytest.mark.filterwarnings("error")
def test_numbers_that_make_no_sense_are_refused(change, message, shape):
    given = {"widths": [10, 20, 10], "activation": "tanh", "sigma_w": 1.2, "sigma_b": 0.1, "sparsity": 0.9}
    with pytest.raises(InputError, match=message):
        predict(**(given | {"shape": shape} | change))


@pytest.mark.parametrize("widths", [np.array([10, 200, 200, 30], dtype=np.uint8), (n for n in (10, 200, 200, 30))])
@pytest.mark.filterwarnings("error")
def test_widths_may_be_any_whole_numbers_in_order(widths):
    expected = predict([10, 200, 200, 30], "tanh", 1.2, 0.1, sparsity=0.9)
    assert predict(widths, "tanh", 1.2, 0.1, sparsity=0.9).densities == expected.densities


def test_nothing_keeps_more_than_all():
    assert max(predict([64, 50, 50, 50, 10], "tanh", 1.2, 0.1, sparsity=0.0).densities) == 1.0


def test_a_conditioning_beyond_float64_is_infinite():
    found = predict([5, 5, 5], "tanh", 1.2, 0.1, sparsity=0.5, log_moments=[800.0, -800.0])
    assert found.conditioning == float("inf")


@pytest.mark.parametrize("depth", [0, 2.5, True, "x", 10**400])
def test_a_depth_that_is_none_is_refused(depth):
    with pytest.raises(InputError, match="depth must be a whole number"):
        snip_bound(depth, 100, "tanh", 0.5, 0.1)


def test_the_density_of_all_weights_is_summed_once_for_a_curve():
    curve = predict([10] + [20] * 30 + [10], "tanh", 1.2, 0.1, sparsity=0.5).curve
    assert curve.density is curve.density


@pytest.mark.parametrize("sparsity, dead", [(0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (0.75, 0.0)])
def test_scores_of_zero_go_first_and_at_sparsity_0_nothing_goes(sparsity, dead):
    curve = Curve.of(
        {"dead": Law.single("product", -np.inf), "live": Law.single("product", 0.0)}, {"dead": 9, "live": 9}
    )
    expected = {"dead": dead, "live": min(1.0, 2 * (1 - sparsity))}
    assert curve.densities(sparsity) == pytest.approx(expected, abs=1e-3)
