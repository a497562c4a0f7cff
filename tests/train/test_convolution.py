"""Convolutions by their kept weights, against PyTorch's on the dense tensor."""

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

from pruneinit.errors import InputError
from pruneinit.train import products
from pruneinit.train import threads as sharing
from pruneinit.train.convolution import convolve, innermost, outermost
from pruneinit.train.places import Places

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11}


@st.composite
def layers(draw):
    """A convolution of any geometry, and the size of an image that it takes."""
    groups = draw(st.sampled_from([1, 1, 2]))
    kernel, dilation = (draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (4, 2))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.one_of(st.just("same"), st.tuples(st.integers(0, 2), st.integers(0, 2))))
    if padding == "same":
        stride = (1, 1)
    size = draw(st.tuples(st.integers(7, 10), st.integers(7, 10)))
    layer = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "circular"])),
    )
    return layer, size


def pruned(layer, density, dtype):
    """The layer in a type, with zeros; and which weights it keeps."""
    layer.to(dtype)
    mask = torch.rand(layer.weight.shape) < density
    with torch.no_grad():
        layer.weight.mul_(mask)
    return mask


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@given(
    layer_and_size=layers(),
    examples=st.integers(1, 5),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    dtype=st.sampled_from(products.DTYPES),
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_are_those_of_the_dense_convolution(layer_and_size, examples, density, dtype, seed):
    torch.manual_seed(seed)
    layer, size = layer_and_size
    mask = pruned(layer, density, dtype)
    x = torch.randn(examples, layer.in_channels, *size, dtype=dtype, requires_grad=True)
    inputs = [x, *layer.parameters()]
    places = Places.of(layer, mask, size)
    if places is None:
        assert layer.padding_mode == "circular"
        reject()
    expected, found = layer(x), convolve(x, layer.weight[mask], layer.bias, places)
    close = {"rtol": 0, "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(found, expected, **close)
    g = torch.randn_like(expected)
    dense, ours = (torch.autograd.grad(y, inputs, g) for y in (expected, found))
    for name, a, b in zip(("x", "weight", "bias"), dense, ours, strict=False):
        torch.testing.assert_close(b, a * mask if name == "weight" else a, **close)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1, padding_mode="circular")
    mask = pruned(layer, 0.5, torch.float64)
    places = Places.of(layer, mask, (6, 5))

    x = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    values = torch.randn(int(mask.sum()), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: convolve(*given, places), (x, values, layer.bias), fast_mode=True)


@pytest.mark.parametrize("which", ["x", "values", "bias"])
def test_only_what_asks_for_a_gradient_gets_one(which):
    layer = nn.Conv2d(1, 2, 3)
    x = torch.randn(2, 1, 5, 5)
    tensors = {"x": x, "values": layer.weight.detach().view(-1), "bias": layer.bias.detach()}
    tensors[which].requires_grad_()
    places = Places.of(layer, torch.ones_like(layer.weight, dtype=torch.bool), (5, 5))
    convolve(*tensors.values(), places).sum().backward()
    assert [name for name, one in tensors.items() if one.grad is not None] == [which]


def test_the_batch_lies_innermost_in_what_comes_out():
    layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(4, 2, 5, 6)
    mask = layer.weight > 0
    given = layer.weight[mask], layer.bias, Places.of(layer, mask, (5, 6))
    out = convolve(x, *given)
    assert innermost(out).data_ptr() == out.data_ptr()
    torch.testing.assert_close(convolve(outermost(innermost(x)), *given), out)


def test_a_second_derivative_is_refused():
    layer, x = nn.Conv2d(1, 1, 3), torch.randn(1, 1, 4, 4, requires_grad=True)
    places = Places.of(layer, layer.weight > -9, (4, 4))
    (gradient,) = torch.autograd.grad(
        convolve(x, layer.weight.view(-1), None, places).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_images_of_another_size_and_other_values_are_refused():
    layer = nn.Conv2d(2, 3, 3)
    mask = layer.weight > 0
    values, places = layer.weight[mask], Places.of(layer, mask, (5, 6))
    for shape in ((1, 2, 6, 6), (1, 3, 5, 6), (2, 5, 6)):
        with pytest.raises(InputError, match=r"images must be of shape \[N, 2, 5, 6\], got"):
            convolve(torch.zeros(shape), values, layer.bias, places)
    for wrong in (values[1:], layer.weight):
        with pytest.raises(InputError, match=rf"values must be of shape \[{len(values)}\], got"):
            convolve(torch.zeros(1, 2, 5, 6), wrong, layer.bias, places)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_several_threads_share_the_rows(count, threads, monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    mask = pruned(layer, 0.5, torch.float64)
    places = Places.of(layer, mask, (11, 9))
    x = torch.randn(5, 3, 11, 9, dtype=torch.float64, requires_grad=True)
    found = []
    for enough in (1_000_000, 10):
        threads(count)
        monkeypatch.setattr(sharing, "_ENOUGH", enough)
        y = convolve(x, layer.weight[mask], layer.bias, places)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, layer.weight, layer.bias])])
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_equal_calls_give_equal_bits():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 8, 3, padding=1), torch.randn(64, 8, 9, 9)
    mask = layer.weight > 0.05
    places = Places.of(layer, mask, (9, 9))
    found = [convolve(x, layer.weight[mask], layer.bias, places) for _ in range(3)]
    assert all(torch.equal(found[0], one) for one in found[1:])
