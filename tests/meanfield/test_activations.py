"""The formulas of the named activations against PyTorch's own, values and autograd slopes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pruneinit import InputError
from pruneinit.meanfield.activations import ALIASES, NAMED, Activation, elu, leaky_relu, softplus

TORCH = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": lambda x: F.softplus(x, threshold=1e3),
    "sin": torch.sin,
    "identity": lambda x: 1 * x,
    "leaky_relu(0.3)": lambda x: F.leaky_relu(x, 0.3),
    "elu(0.5)": lambda x: F.elu(x, 0.5),
    "softplus(2)": lambda x: F.softplus(x, 2.0, threshold=1e3),
}
EVERY = {**NAMED, **{a.name: a for a in (leaky_relu(0.3), elu(0.5), softplus(2.0))}}


def test_every_named_activation_is_compared():
    assert set(EVERY) == set(TORCH)
    assert all(target in NAMED for target in ALIASES.values())


@pytest.mark.parametrize("name", TORCH)
def test_values_and_slopes_are_those_of_torch(name):
    x = torch.linspace(-12.03, 12.01, 402, dtype=torch.float64, requires_grad=True)
    y = TORCH[name](x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    points = x.detach().numpy()
    np.testing.assert_allclose(EVERY[name].function(points), y.detach().numpy(), rtol=1e-12, atol=2e-11)
    np.testing.assert_allclose(EVERY[name].derivative(points), slope.numpy(), rtol=1e-12, atol=2e-11)


@pytest.mark.parametrize("name", TORCH)
def test_far_out_and_any_shape(name):
    x = np.array([[-1e6, 0.0], [1e-9, 1e6]])
    for function in (EVERY[name].function, EVERY[name].derivative):
        assert function(x).shape == x.shape
        assert function(x).dtype == np.float64
        assert np.isfinite(function(x)).all()


@pytest.mark.parametrize("name", TORCH)
def test_scale_free_ones_are_the_piecewise_linear_through_zero(name):
    assert EVERY[name].scale_free == (name in {"relu", "leaky_relu", "leaky_relu(0.3)", "identity"})


def test_same_parameters_give_the_same_activation():
    assert leaky_relu(0.3) == leaky_relu(0.3) != leaky_relu(0.2)
    assert elu(1.0).name == "elu"


def test_kinks_are_kept_as_a_sorted_tuple():
    assert Activation("kinky", np.abs, np.sign, [3, -1]).kinks == (-1.0, 3.0)


@pytest.mark.parametrize(
    "make",
    [lambda: leaky_relu(float("nan")), lambda: elu(float("inf")), lambda: softplus(0.0), lambda: softplus(-1.0)],
    ids=["leaky_relu nan", "elu inf", "softplus 0", "softplus -1"],
)
def test_impossible_parameters(make):
    with pytest.raises(InputError, match="must be"):
        make()
