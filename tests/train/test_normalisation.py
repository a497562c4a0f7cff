"""Compiled batch normalisation, against PyTorch's in double precision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pruneinit.errors import InputError
from pruneinit.train.normalisation import normalise


def expected(x, weight, bias, eps):
    return functional.batch_norm(x[None], None, None, weight, bias, training=True, eps=eps)[0]


@given(st.integers(1, 5), st.integers(2, 9000), st.sampled_from([1e-5, 0.1]), st.booleans(), st.integers(0, 99))
def test_values_moments_and_gradients_are_those_of_pytorch(channels, count, eps, affine, seed):
    torch.manual_seed(seed)
    x = (torch.randn(channels, count, dtype=torch.float64) + torch.randn(channels, 1)).requires_grad_()
    parameters = list(torch.randn(2, channels, dtype=torch.float64)) if affine else [None, None]
    inputs = [x, *(one.requires_grad_() for one in parameters if affine)]
    towards = torch.randn_like(x)
    ours, mean, variance = normalise(x, *parameters, eps)
    theirs = expected(x, *parameters, eps)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mean, x.mean(1))
    torch.testing.assert_close(variance, x.var(1, correction=0))
    found = torch.autograd.grad(ours, inputs, towards)
    torch.testing.assert_close(found, torch.autograd.grad(theirs, inputs, towards), rtol=1e-7, atol=1e-7)


def test_gradients_are_those_of_finite_differences():
    x = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: normalise(*given, 0.01)[0], (x, weight, bias))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_many_single_numbers_lose_nothing(offset):
    torch.manual_seed(0)
    x = torch.randn(2, 1_000_000) + offset
    found, mean, variance = normalise(x, None, None, 1e-5)
    exact = x.double()
    torch.testing.assert_close(mean.double(), exact.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), exact.var(1, correction=0), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.double(), expected(exact, None, None, 1e-5), rtol=1e-5, atol=3e-5)


def test_threads_change_nothing(monkeypatch):
    x = torch.randn(5, 500_000, requires_grad=True)
    weight, bias = torch.randn(2, 5).requires_grad_()
    outcomes = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found = normalise(x, weight, bias, 1e-5)
        outcomes.append([*found, *torch.autograd.grad(found[0].square().sum(), [x, weight, bias])])
    assert all(torch.equal(one, other) for one, other in zip(*outcomes, strict=True))


@pytest.mark.parametrize("needed", ["x", "weight", "bias"])
def test_only_what_needs_a_gradient_gets_one(needed):
    given = {"x": torch.randn(2, 8), "weight": torch.randn(2), "bias": torch.randn(2)}
    given[needed].requires_grad_()
    normalise(*given.values(), 0.1)[0].square().sum().backward()
    assert [name for name, one in given.items() if one.grad is not None] == [needed]


def test_nan_stays_where_it_is():
    x = torch.randn(2, 8)
    x[0, 3] = torch.nan
    found = normalise(x, None, None, 0.1)[0]
    assert found[0].isnan().all()
    assert found[1].isfinite().all()


def test_parameters_of_other_channels_are_refused():
    for weight, bias in ((torch.ones(3), None), (None, torch.ones(1))):
        with pytest.raises(InputError, match=r"(weight|bias) must be of shape \[2\], got"):
            normalise(torch.randn(2, 8), weight, bias, 0.1)
