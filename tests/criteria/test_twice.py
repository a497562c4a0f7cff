import pytest
import torch
from torch import nn
from torch.nn import functional

from pruneinit.criteria.twice import Twice


def second(function, tensors):
    """The function, its gradients, and the gradients of a random combination of those."""
    tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    torch.manual_seed(1)
    value = function(*tensors)
    seed = torch.randn_like(value).requires_grad_()
    slopes = torch.autograd.grad(value, tensors, seed, create_graph=True)
    seeds = [torch.randn_like(slope) for slope in slopes]
    bent = torch.autograd.grad(slopes, [*tensors, seed], seeds, allow_unused=True)
    return value, *slopes, *bent


def assert_same(function, tensors):
    with Twice():
        found = second(function, tensors)
    for a, b in zip(found, second(function, tensors), strict=True):
        assert (a is None or not a.any()) if b is None else torch.allclose(a, b, rtol=1e-9, atol=1e-11)


CONVOLUTIONS = [
    nn.Conv1d(2, 4, 3, stride=2, padding=1),
    nn.Conv2d(4, 6, 3, padding=1, groups=2),
    nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False),
    nn.Conv2d(2, 4, 3, padding="same"),
    nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
    nn.Conv3d(2, 3, 2, stride=2),
]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_convolutions_have_the_derivatives_of_pytorch(layer):
    torch.manual_seed(0)
    layer = layer.double()
    x = torch.randn(3, layer.in_channels, *[6, 5, 4][: layer.weight.dim() - 2], dtype=torch.float64)

    def function(x, *parameters):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,)).tanh()

    assert_same(function, [x, *layer.parameters()])
    assert_same(lambda *parameters: function(x, *parameters), list(layer.parameters()))
    assert_same(lambda x: function(x, *layer.parameters()), [x])


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4), (5, 3, 4, 2)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["batch", "running"])
def test_batch_normalisation_has_the_derivatives_of_pytorch(shape, training):
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(s, dtype=torch.float64) for s in (shape, 3, 3))
    mean, variance = torch.randn(3).double(), torch.rand(3).double() + 0.5

    def function(x, weight, bias):
        args = (None, None) if training else (mean, variance)
        return functional.batch_norm(x, *args, weight, bias, training, eps=0.1)

    assert_same(function, [x, weight, bias])
    assert_same(lambda x: function(x, weight, bias), [x])
    assert_same(lambda weight, bias: function(x, weight, bias), [weight, bias])
    assert_same(lambda x: functional.batch_norm(x, mean, variance, training=training), [x])


def test_the_functions_are_those_of_this_file_while_active_alone():
    x, norm, conv = torch.randn(2, 2, 4, 4), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)
    with Twice():
        assert norm(x).grad_fn.name() == "_BatchNormBackward"
        assert conv(x).grad_fn.name() == "_ConvolutionBackward"
    assert conv(x).grad_fn.name() == "ConvolutionBackward0"
    assert norm(x).grad_fn.name() == "NativeBatchNormBackward0"


def test_what_is_out_of_the_ordinary_is_left_to_pytorch():
    x, conv = torch.randn(2, 4, 4), nn.Conv2d(2, 2, 3)
    with Twice():
        torch.testing.assert_close(conv(x), conv(x[None])[0])  # an image without a batch
        with torch.autocast("cpu", torch.bfloat16):
            assert conv(x[None]).dtype == torch.bfloat16
        mixed = nn.BatchNorm2d(2)(x[None].bfloat16())
        assert mixed.dtype == torch.bfloat16
        assert mixed.grad_fn.name() == "NativeBatchNormBackward0"


def test_a_module_in_bfloat16_gives_gradients_near_the_exact_ones():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 2))
    x = torch.randn(8, 2, 6, 6)

    def product(dtype):
        net = layers.to(dtype)
        value = net(x.to(dtype)).float().square().mean()
        slopes = torch.autograd.grad(value, list(net.parameters()), create_graph=True)
        return torch.autograd.grad(slopes, list(net.parameters()), [s.detach() for s in slopes])

    with Twice():
        exact, rough = product(torch.float64), product(torch.bfloat16)
    for a, b in zip(exact[:1] + exact[-2:], rough[:1] + rough[-2:], strict=True):
        assert (a - b).norm() < 0.1 * a.norm()
