"""What the networks compute: shapes, gradients, the order of their layers."""

from __future__ import annotations

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pruneinit.models import MODELS, build
from pruneinit.models.resnet import PadShortcut, projection
from pruneinit.weights import prunable

SMALL = {"resnet": 4, "preact": 4, "vgg": 4, "3xvgg": 4, "mlp": 16, "vcnn": 4}


def small(name: str, shape: tuple[int, int, int], **options: object) -> nn.Module:
    width = next((w for start, w in SMALL.items() if name.startswith(start)), None)
    torch.manual_seed(0)
    return build(name, input_shape=shape, classes=7, width=width, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["mlp", "vcnn", "resnet20", "preact_resnet20", "vgg11", "vgg16_bn", "3xvgg16", "wrn-10-1"]
)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 33, 40)], ids=str)
def test_logits_and_a_gradient_for_every_parameter(name: str, shape: tuple[int, int, int]) -> None:
    model = small(name, shape)
    logits = model(torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (3, 7)
    functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", ["mlp", "vcnn", "resnet20", "preact_resnet20", "wrn-10-1"])
def test_digits_fit(name: str) -> None:
    assert small(name, (1, 8, 8)).eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize("name", MODELS)
def test_activations_are_modules_of_the_kind_asked_for(name: str) -> None:
    with torch.device("meta"):
        model = build(name, input_shape=(3, 32, 32), classes=10, activation="tanh")
    found = [m for m in model.modules() if isinstance(m, nn.Tanh)]
    layers = len(prunable(model)) - sum("shortcut" in name for name in prunable(model))
    assert len(found) == layers - 1, "one activation a weight layer, but for the last"
    assert len({id(m) for m in found}) == len(found)
    assert not [m for m in model.modules() if isinstance(m, nn.ReLU)]


@pytest.mark.parametrize("name", MODELS)
def test_weights_without_a_batch_norm_after_them_have_a_bias(name: str) -> None:
    with torch.device("meta"):
        model = build(name, input_shape=(3, 32, 32), classes=10)
    norms = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    biased = {m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d)}
    assert biased <= ({False} if norms and "vgg" not in name else {True})


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_mlp_equals_a_plain_twin(depth: int, activation: str) -> None:
    torch.manual_seed(0)
    model = build("mlp", input_shape=(2, 3, 4), classes=5, depth=depth, width=6, activation=activation).double()
    x = torch.randn(7, 2, 3, 4, dtype=torch.float64)
    weights = list(model.parameters())
    assert len(weights) == 2 * depth
    y = x.flatten(1)
    for layer in range(depth):
        y = y @ weights[2 * layer].T + weights[2 * layer + 1]
        y = y if layer == depth - 1 else getattr(torch, activation)(y)
    torch.testing.assert_close(model(x), y)


def test_recurring_widths_are_those_of_the_layers_in_turn() -> None:
    model = build("mlp-6-4", input_shape=(1, 2, 2), classes=3, depth=5)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert [(one.in_features, one.out_features) for one in linear] == [(4, 6), (6, 4), (4, 6), (6, 4), (4, 3)]


def shifted_sum(x: Tensor, weight: Tensor, bias: Tensor, circular: bool) -> Tensor:
    """A 3x3 convolution as a sum of shifted images, [B, I, H, W] -> [B, O, H, W]."""
    _, _, rows, columns = x.shape
    padded = functional.pad(x, (1, 1, 1, 1), mode="circular" if circular else "constant")
    total = bias[None, :, None, None].expand(len(x), -1, rows, columns)
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + rows, j : j + columns]
            total = total + torch.einsum("oi,birc->borc", weight[:, :, i, j], window)
    return total


@pytest.mark.parametrize("padding", ["circular", "zero"])
@pytest.mark.parametrize("reductions", [0, 1])
def test_vcnn_equals_a_plain_twin(padding: str, reductions: int) -> None:
    torch.manual_seed(0)
    model = build(
        "vcnn", input_shape=(2, 5, 6), classes=3, depth=4, width=4, padding=padding, reductions=reductions
    ).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    weights = list(model.parameters())
    y = x
    for layer in range(3):
        y = shifted_sum(y, weights[2 * layer], weights[2 * layer + 1], padding == "circular").relu()
        y = y[:, :, ::2, ::2] if layer < reductions else y
    torch.testing.assert_close(model(x), y.flatten(1) @ weights[6].T + weights[7])


def test_vcnn_with_circular_padding_does_not_see_where_an_image_begins() -> None:
    torch.manual_seed(0)
    model = build("vcnn", input_shape=(1, 8, 8), classes=3, depth=5, width=4).double()
    body = nn.Sequential(*list(model.children())[:-2])
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(body(x.roll((3, 2), (2, 3))), body(x).roll((3, 2), (2, 3)))


def test_a_residual_block_whose_branch_is_zero_hands_its_input_on() -> None:
    x = torch.randn(2, 4, 6, 6).relu()
    for name in ("resnet20", "preact_resnet20"):
        block = small(name, (3, 6, 6)).get_submodule("stage1.1").eval()
        block.get_submodule("conv2").weight.data.zero_()
        torch.testing.assert_close(block(x), x)


def test_the_order_of_layers_in_a_basic_block() -> None:
    block = small("resnet20", (3, 6, 6)).get_submodule("stage2.0").double().eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    p = dict(block.named_children())
    branch = p["bn2"](p["conv2"](p["bn1"](p["conv1"](x)).relu()))
    torch.testing.assert_close(block(x), (p["shortcut"](x) + branch).relu())
    assert branch.shape == (2, 8, 3, 3)


def test_the_order_of_layers_in_a_pre_activation_block() -> None:
    block = small("preact_resnet20", (3, 6, 6)).get_submodule("stage2.0").double().eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    p = dict(block.named_children())
    ready = p["bn1"](x).relu()
    branch = p["conv2"](p["bn2"](p["conv1"](ready)).relu())
    torch.testing.assert_close(block(x), p["shortcut"](ready) + branch)


def test_dropout_stands_between_the_convolutions_and_only_when_training() -> None:
    model = build("wrn-10-1", input_shape=(3, 8, 8), classes=2, dropout=0.5)
    block = model.get_submodule("stage1.0")
    names = [name for name, _ in block.named_children()]
    assert names.index("act2") < names.index("dropout") < names.index("conv2")
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model.eval()(x), model(x))
    seen: list[Tensor] = []
    block.get_submodule("dropout").register_forward_hook(lambda *given: seen.append(given[2]))
    model.train()(x)
    assert (seen[0] == 0).float().mean() > 0.6, "about half by ReLU, half of the rest by dropout"


@hypothesis.given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 2), st.integers(1, 7))
@hypothesis.settings(max_examples=30)
def test_padding_and_projection_give_the_same_shape(inputs: int, more: int, stride: int, side: int) -> None:
    x = torch.randn(2, inputs, side, side)
    padded = PadShortcut(inputs, inputs + more, stride)(x)
    assert padded.shape == projection(inputs, inputs + more, stride).eval()(x).shape
    assert torch.equal(padded[:, :inputs], x[:, :, ::stride, ::stride])
    assert not padded[:, inputs:].any()


def test_vgg_pools_to_one_pixel_at_32() -> None:
    model = small("vgg16", (3, 32, 32))
    body = nn.Sequential(*list(model.children())[:-2])
    assert body(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 1, 1)
    assert small("vgg16", (3, 64, 64)).get_submodule("fc").in_features == 32 * 4


def test_construction_follows_the_seed() -> None:
    first, again = small("resnet20", (1, 8, 8)), small("resnet20", (1, 8, 8))
    for (name, one), (_, two) in zip(first.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, two), name
