"""Activations in place, and the way back through them."""

import pytest
import torch
from torch import nn

from pruneinit.train.pointwise import activate_, back_, needs_slope, tanh

ACTIVATIONS = [nn.Tanh(), nn.ReLU(), nn.GELU(), nn.ELU()]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_values_and_gradients_are_those_of_the_module(activation, dtype):
    z = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0), dtype=dtype).mul_(3)
    upstream = torch.randn_like(z)
    point = z.clone().requires_grad_()
    expected = activation(point)
    expected.backward(upstream)
    slope = torch.empty_like(z) if needs_slope(activation) else None
    activations = activate_(z, activation, slope)
    assert activations is z
    torch.testing.assert_close(activations, expected.detach())
    torch.testing.assert_close(back_(upstream.clone(), activation, activations, slope), point.grad)


def test_tanh_is_exact_over_the_whole_range():
    sizes = torch.logspace(-37, 2, 20_001)
    z = torch.cat([-sizes, sizes])
    expected = z.double().tanh()
    error = (activate_(z.clone(), nn.Tanh()).double() - expected).abs() / expected.abs()
    assert error.max() < 4e-7


def test_tanh_lets_what_is_not_finite_through():
    found = activate_(torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0]), nn.Tanh())
    torch.testing.assert_close(found, torch.tensor([float("nan"), 1.0, -1.0, 0.0]), equal_nan=True)


def test_part_of_a_buffer_is_changed_in_place():
    buffer = torch.ones(10)
    activate_(buffer[:4].view(2, 2), nn.Tanh())
    torch.testing.assert_close(buffer, torch.cat([torch.ones(4).tanh(), torch.ones(6)]))


def test_the_compiled_tangent_is_within_4e_7_of_the_true_one():
    near, far = torch.logspace(-30, 1.5, 200_000), torch.linspace(0, 12, 1_000_000)
    x = torch.cat([near, -near, far, -far, torch.tensor([0.0, 100.0, -1e30, torch.inf, -torch.inf])])
    found, expected = tanh(x).double(), torch.tanh(x.double())
    torch.testing.assert_close(found, expected, rtol=4e-7, atol=0)
    assert found.abs().max() <= 1
    assert torch.equal(tanh(-x), -tanh(x))


def test_the_compiled_tangent_of_what_is_no_number():
    assert tanh(torch.tensor([torch.nan, 1.0])).isnan().tolist() == [True, False]


def test_the_compiled_tangent_in_float64_is_that_of_numpy():
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    torch.testing.assert_close(tanh(x), torch.tanh(x), rtol=1e-15, atol=0)
