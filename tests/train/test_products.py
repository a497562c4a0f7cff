"""Compiled products of sparse weights, against dense ones."""

import builtins

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruneinit.train import products
from pruneinit.train.products import Survived

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


@given(
    count=st.integers(1, 3),
    out=st.integers(1, 9),
    inner=st.integers(1, 9),
    examples=st.integers(1, 20),
    density=st.floats(0, 1),
    shared=st.booleans(),
    dtype=st.sampled_from(products.DTYPES),
    seed=st.integers(0, 2**31),
)
def test_products_are_those_of_the_dense_matrices(count, out, inner, examples, density, shared, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(count, out, inner, generator=generator) < density
    weights = torch.randn(count, out, inner, generator=generator, dtype=dtype) * kept
    bias = torch.randn(count, out, generator=generator, dtype=dtype)
    g = torch.randn(count, out, examples, generator=generator, dtype=dtype)
    h = torch.randn(1 if shared else count, inner, examples, generator=generator, dtype=dtype)
    survived, values = Survived.of(kept, shared=shared), weights[kept]
    flat_g, flat_h = g.view(-1, examples), h.view(-1, examples)
    # What was in the memory before must not matter.
    z, gradient, back = (torch.full(shape, torch.nan, dtype=dtype) for shape in (g.shape, values.shape, flat_h.shape))
    survived.forward(values, bias.view(-1), flat_h, z.view(-1, examples))
    survived.gradient(flat_g, flat_h, gradient)
    survived.back(values, flat_g, back)
    close = {"rtol": 0, "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(z, weights @ h + bias[..., None], **close)
    torch.testing.assert_close(gradient, (g @ h.transpose(1, 2))[kept], **close)
    expected = weights.transpose(1, 2) @ g
    torch.testing.assert_close(back.view_as(h), expected.sum(0, keepdim=True) if shared else expected, **close)


def test_what_is_not_finite_comes_out():
    survived = Survived.of(torch.ones(1, 1, 5, dtype=torch.bool), shared=False)
    values, h, out = torch.ones(5), torch.ones(5, 3), torch.empty(1, 3)
    h[2, 0], h[2, 1] = torch.nan, torch.inf
    survived.forward(values, torch.zeros(1), h, out)
    torch.testing.assert_close(out, torch.tensor([[torch.nan, torch.inf, 5.0]]), equal_nan=True)


@pytest.fixture
def without_numba(monkeypatch):
    real = builtins.__import__

    def refused(name, *args, **kwargs):
        if name == "numba":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refused)
    products.available.cache_clear()
    yield
    monkeypatch.undo()
    products.available.cache_clear()


def test_without_numba_it_is_said_to_be_missing(without_numba):
    assert not products.available()


def test_with_numba_it_is_there():
    assert products.available()
