"""Names, modules and functions on tensors become activations, or an error that says why not."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneinit import InputError
from pruneinit.meanfield import NAMED, Activation, activation, elu, leaky_relu, moments, softplus


@pytest.mark.parametrize(
    "given, name",
    [
        ("relu", "relu"),
        ("swish", "silu"),
        ("linear", "identity"),
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.Tanh, "tanh"),
        (nn.LeakyReLU(0.2), "leaky_relu(0.2)"),
        (nn.LeakyReLU, "leaky_relu"),
        (nn.Hardtanh(), "hardtanh"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.SiLU(), "silu"),
        (nn.GELU(), "gelu"),
        (nn.ELU(0.5), "elu(0.5)"),
        (nn.SELU(), "selu"),
        (nn.Softplus(beta=2.0), "softplus(2)"),
        (nn.PReLU(), "leaky_relu(0.25)"),
        (nn.Identity(), "identity"),
        (torch.tanh, "tanh"),
        (F.relu, "relu"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_known_ones(given, name):
    found = activation(given)
    assert found.name == name
    assert found in {*NAMED.values(), leaky_relu(0.2), leaky_relu(0.25), elu(0.5), softplus(2.0)}


def test_an_activation_is_itself():
    own = Activation("cube", lambda x: x**3, lambda x: 3 * x**2)
    assert activation(own) is own


@pytest.mark.parametrize("name", ["relu", "tanh", "hardtanh", "gelu", "elu", "selu", "sigmoid", "silu", "sin"])
def test_a_function_by_autograd_has_the_moments_of_the_named_one(name):
    functions = {"sin": torch.sin, **{n: getattr(F, n, None) for n in NAMED}} | {"sin": torch.sin}
    wrapped = activation(lambda x: functions[name](x))
    assert wrapped.name == "<lambda>"
    for q in (0.01, 0.8, 70.0):
        np.testing.assert_allclose(moments(wrapped, q), moments(name, q), rtol=1e-10)


@pytest.mark.parametrize(
    "given, kinks",
    [
        (lambda x: (x - 0.3).relu(), (0.3,)),
        (lambda x: (x - 0.1234567).abs() + (x + 7.7777).abs(), (-7.7777, 0.1234567)),
        (nn.ReLU6(), (0.0, 6.0)),
        (nn.Hardswish(), (-3.0, 3.0)),
        (nn.Softshrink(0.5), (-0.5, 0.5)),
        (nn.Mish(), ()),
        (torch.exp, ()),
    ],
    ids=["shifted relu", "two corners", "relu6", "hardswish", "softshrink", "mish", "exp"],
)
def test_kinks_are_found(given, kinks):
    assert activation(given).kinks == pytest.approx(kinks, abs=1e-11)


def test_in_place_functions_leave_their_input_alone():
    x = np.array([0.3, 0.4])
    found = activation(lambda t: t.mul_(2).tanh_())
    np.testing.assert_allclose(found.derivative(x), 2 / np.cosh(2 * x) ** 2)
    np.testing.assert_allclose(x, [0.3, 0.4])


def test_absolute_value_is_scale_free():
    assert activation(torch.abs).scale_free


@pytest.mark.parametrize(
    "given, message",
    [
        ("relau", "did you mean 'relu'"),
        (3, "must be a name"),
        (int, "torch.nn module"),
        (nn.Threshold, "pass an instance"),
        (nn.Softmax(dim=0), "not elementwise"),
        (lambda x: x.cumsum(0), "not elementwise"),
        (lambda x: x.sum(), "not elementwise"),
        (lambda x: 1.0, "not elementwise"),
        (nn.GLU(), "does not work|not elementwise"),
        (nn.Linear(1, 1), "does not work"),
        (nn.Dropout(), "random"),
        (torch.log, "not finite"),
        (torch.sign, "jumps near 0"),
        (torch.round, "jumps"),
        (nn.Hardshrink(), "jumps near -0.5"),
        (lambda x: x.abs().sqrt(), "jumps"),
        (lambda x: x.detach(), "no gradient"),
    ],
    ids=lambda v: None if isinstance(v, str) else getattr(v, "__name__", repr(v)),
)
def test_what_is_no_activation(given, message):
    with pytest.raises(InputError, match=message):
        activation(given)
