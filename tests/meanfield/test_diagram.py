"""The phase diagram, against one point at a time."""

import math

import numpy as np
import pytest
import torch

from pruneinit import InputError
from pruneinit.meanfield import (
    Activation,
    activation,
    chi,
    depth_scales,
    edge_curve,
    edge_of_chaos,
    edge_point,
    fixed_point,
    moments,
    phase,
    phase_diagram,
    variance_map,
    variance_slope,
)


def damped(x):
    return torch.tanh(2 * x) + 0.1 * x


def steep(x):
    return torch.sinh(x) / 3


ACTIVATIONS = ["relu", "leaky_relu", "tanh", "hardtanh", "sigmoid", "gelu", "silu", "selu", "softplus", "sin", damped]


def or_nan(function, *arguments):
    try:
        return function(*arguments)
    except InputError:
        return math.nan


def or_diverges(*arguments):
    try:
        return phase(*arguments)
    except InputError:
        return "diverges"


@pytest.mark.parametrize("name", [*ACTIVATIONS, steep], ids=lambda value: getattr(value, "__name__", str(value)))
def test_every_cell_is_what_the_functions_of_one_point_say(name):
    random = np.random.default_rng(len(str(name)))
    sigma_bs, sigma_ws = np.sort(random.uniform(0, 2, 5)), np.sort(random.uniform(0.1, 4, 7))
    sigma_bs[0] = 0.0
    found = phase_diagram(name, sigma_bs, sigma_ws)
    for i, w in enumerate(sigma_ws):
        for j, b in enumerate(sigma_bs):
            q = or_nan(fixed_point, name, w, b)
            assert found.variance[i, j] == pytest.approx(q, rel=1e-5, abs=1e-11, nan_ok=True), (w, b)
            assert found.chi[i, j] == pytest.approx(or_nan(chi, name, w, b), rel=1e-5, nan_ok=True), (w, b)
            assert found.phase[i, j] == or_diverges(name, w, b), (w, b)


@pytest.mark.parametrize("name, sigma_w, sigma_b", [("tanh", 1.0, 0.2), ("erf", 1.2, 0.5), ("relu", 1.1, 0.4)])
def test_scales_are_those_of_one_point(name, sigma_w, sigma_b):
    found = phase_diagram(name, [sigma_b], [sigma_w])
    expected = depth_scales(name, sigma_w, sigma_b)
    assert found.variance_scale[0, 0] == pytest.approx(expected.variance, rel=1e-4)
    assert found.gradient_scale[0, 0] == pytest.approx(expected.correlation, rel=1e-4)


def test_in_chaos_the_gradient_grows_by_e_in_as_many_layers():
    found = phase_diagram("tanh", [0.2], [2.0])
    assert found.gradient_scale[0, 0] == pytest.approx(1 / math.log(chi("tanh", 2.0, 0.2)), rel=1e-4)


def test_the_published_points_of_tanh():
    assert edge_point("tanh", math.sqrt(0.05)).sigma_w ** 2 == pytest.approx(1.761, abs=1e-3)
    diagram = phase_diagram("tanh", [0.2, 0.5], [1.3041])
    assert diagram.phase.tolist() == [["edge", "ordered"]]
    assert diagram.edge[0].sigma_w == pytest.approx(1.3041, abs=1e-4)
    assert diagram.edge[0].q == pytest.approx(0.512, abs=1e-3)


@pytest.mark.parametrize("name", ["tanh", "gelu", damped], ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_edge_is_a_curve(name):
    sigma_bs = [0.1, 0.6, 1.3]
    curve = phase_diagram(name, sigma_bs, [1.0]).edge
    assert [point.sigma_b for point in curve] == sigma_bs
    for point in curve:
        assert (point.sigma_w, point.q) == edge_of_chaos(name, point.sigma_b)
        slope = variance_slope(name, point.sigma_w, point.sigma_b, point.q)
        assert point.variance_slope == pytest.approx(slope)
        assert point.stable == (slope <= 1)


def test_where_the_edge_is_unstable():
    assert [point.stable for point in edge_curve("gelu", [0.2, 0.41, 0.42, 1.0])] == [False, False, True, True]
    assert [point.stable for point in edge_curve("silu", [0.74, 0.75])] == [False, True]
    assert edge_point("gelu", 0.2).variance_scale == math.inf
    assert edge_point("tanh", 0.2).variance_scale == pytest.approx(
        depth_scales("tanh", edge_of_chaos("tanh", 0.2).sigma_w, 0.2).variance, rel=1e-6
    )


@pytest.mark.parametrize("name, stable", [("tanh", True), ("erf", True), ("gelu", False), ("silu", False)])
def test_without_biases_the_variance_just_above_zero_decides(name, stable):
    point = edge_point(name, 0.0)
    assert (point.q, point.stable) == (0.0, stable)
    q = 1e-3
    for _ in range(50):
        q = variance_map(name, point.sigma_w, 0.0, q)
    assert (q < 1e-3) == stable


def test_the_edge_of_relu_is_one_point():
    diagram = phase_diagram("relu", [0.0, 0.1, 1.0], [1.0, math.sqrt(2), 2.0])
    (point,) = diagram.edge
    assert point == pytest.approx((0.0, math.sqrt(2), 1.0, 1.0, True))
    assert diagram.phase[:, 0].tolist() == ["ordered", "edge", "chaotic"]
    assert diagram.phase[:, 1].tolist() == ["ordered", "diverges", "chaotic"]
    assert np.isnan(diagram.variance[1]).tolist() == [False, True, True]


def test_softplus_has_no_edge():
    assert phase_diagram("softplus", [0.0, 0.5, 1.0], [0.5, 1.0]).edge == ()


def test_the_variance_is_found_next_to_where_the_moments_become_infinite():
    phi = activation(steep)
    last = max(q for q in np.arange(0.5, 20, 0.25) if math.isfinite(moments(phi, q).square))
    sigma_b, sigma_w = math.sqrt(0.95 * last), 1e-6
    found = phase_diagram(phi, [sigma_b], [sigma_w])
    (q,) = found.variance[0]
    assert q == pytest.approx(0.95 * last, rel=1e-6)
    assert variance_map(phi, sigma_w, sigma_b, q) == pytest.approx(q, rel=1e-12)
    assert found.chi[0, 0] == pytest.approx(chi(phi, sigma_w, sigma_b, q))


def test_no_weights_at_all():
    found = phase_diagram(steep, [0.0, 0.5], [0.0])
    assert found.variance == pytest.approx(np.array([[0.0, 0.25]]), rel=1e-6, abs=1e-11)
    assert found.chi.tolist() == [[0.0, 0.0]]
    assert found.gradient_scale.tolist() == [[0.0, 0.0]]


def test_an_activation_of_ones_own_keeps_its_name():
    own = Activation("own", lambda x: np.asarray(np.tanh(x)), lambda x: np.asarray(1 - np.tanh(x) ** 2))
    found, twin = (phase_diagram(one, [0.1, 1.0], [0.5, 1.5, 3.0]) for one in (own, "tanh"))
    assert (found.activation, twin.activation) == ("own", "tanh")
    np.testing.assert_array_equal(found.variance, twin.variance)


@pytest.mark.parametrize(
    "sigma_bs, sigma_ws, message",
    [
        ([-0.1], [1.0], "sigma_b must be a finite number >= 0, got -0.1"),
        ([math.nan], [1.0], "sigma_b must be a finite number >= 0, got nan"),
        ([0.1], [math.inf], "sigma_w must be a finite number >= 0, got inf"),
        ([], [1.0], "sigma_bs must be one or more rising numbers, got \\[\\]"),
        ([0.2, 0.1], [1.0], "sigma_bs must be one or more rising numbers, got \\[0.2, 0.1\\]"),
        ([0.1], [1.0, 1.0], "sigma_ws must be one or more rising numbers"),
        (["x"], [1.0], "sigma_b must be a finite number >= 0, got 'x'"),
    ],
)
def test_scales_that_cannot_be(sigma_bs, sigma_ws, message):
    with pytest.raises(InputError, match=message):
        phase_diagram("tanh", sigma_bs, sigma_ws)


def test_an_unknown_activation():
    with pytest.raises(InputError, match="unknown activation 'tnah'"):
        phase_diagram("tnah", [0.1], [1.0])
