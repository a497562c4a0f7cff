from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from pruneinit.errors import InputError
from pruneinit.models import MODELS, build


def make(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build(name, **({"input_shape": (3, 32, 32), "classes": 10} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_every_name_builds(name: str) -> None:
    assert make(name)(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 10)


def keys(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, value.shape) for name, value in model.state_dict().items()]


@pytest.mark.parametrize(
    "name, options, same",
    [
        ("resnet", {"depth": 20}, "resnet20"),
        ("resnet", {}, "resnet32"),
        ("resnet20", {"depth": 20}, "resnet20"),
        ("vgg16", {"batch_norm": True}, "vgg16_bn"),
        ("vgg16", {"repeat": 3}, "3xvgg16"),
        ("wrn-28-10", {"activation": None, "width": None}, "wrn-28-10"),
    ],
    ids=["depth apart", "default depth", "depth twice", "batch norm", "three times", "none"],
)
def test_two_ways_to_say_it(name: str, options: dict[str, object], same: str) -> None:
    assert keys(make(name, **options)) == keys(make(same))


@pytest.mark.parametrize(
    "name, hint",
    [
        ("resnet-32", "did you mean 'resnet32'?"),
        ("vgg16-bn", "did you mean 'vgg16_bn'?"),
        ("wrn28-10", "did you mean 'wrn-28-10'?"),
        ("MLP2", "unknown model 'MLP2': expected one of"),
        ("", "unknown model ''"),
        ("0xvgg16", "did you mean '3xvgg16'?"),
        ("resnet32\n", "unknown model"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=re.escape(hint)):
        make(name)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet33", {}, "the depth of a resnet must be 6n+2 with n >= 1, got 33; try 32 or 38"),
        ("resnet", {"depth": 50.0}, "depth must be a whole number"),
        ("resnet2", {}, "n >= 1, got 2; try 8"),
        ("resnet0", {}, "depth must be a whole number of at least 1, got 0"),
        ("preact_resnet21", {}, "6n+2 with n >= 1, got 21; try 20 or 26"),
        ("wrn-28-0", {}, "width must be a whole number of at least 1, got 0"),
        ("wrn-30-2", {}, "must be 6n+4 with n >= 1, got 30; try 28 or 34"),
        ("wrn-28-10", {"depth": 16}, "'wrn-28-10' means depth 28, got depth=16; leave depth out"),
        ("resnet32", {"depth": 20}, "'resnet32' means depth 32, got depth=20"),
        ("vgg16_bn", {"batch_norm": False}, "'vgg16_bn' means batch_norm True, got batch_norm=False"),
        ("vgg12", {}, "unknown VGG depth '12': expected one of 11, 16, 19"),
        ("vgg16", {"input_shape": (1, 28, 28)}, "at least 32x32 pixels, got 28x28; use a resnet or an mlp"),
        ("vgg16", {"input_shape": (3, 64, 31)}, "got 64x31"),
        ("vgg16", {"repeat": 0}, "repeat must be a whole number of at least 1"),
        ("resnet32", {"width": 0}, "width must be a whole number of at least 1, got 0"),
        ("resnet32", {"width": True}, "width must be a whole number"),
        ("resnet32", {"classes": 0}, "classes must be a whole number of at least 1"),
        ("resnet32", {"input_shape": (32, 32)}, "the input shape must be (channels, height, width), got (32, 32)"),
        ("resnet32", {"input_shape": (0, 32, 32)}, "each of channels, height and width"),
        ("resnet32", {"shortcut": "pad"}, "unknown shortcut 'pad': expected one of padding, projection"),
        ("resnet32", {"activation": "rellu"}, "unknown activation 'rellu'"),
        ("resnet32", {"dropout": 0.1}, "unknown option of resnet32 'dropout'"),
        ("mlp", {"widht": 3}, "did you mean 'width'?"),
        ("mlp", {"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ("mlp", {"depth": 1, "width": -5}, "width must be"),
        ("mlp-300-0", {}, "unknown model 'mlp-300-0'"),
        ("mlp-300-100", {"width": 50}, "widths (300, 100) say how wide each layer is: leave out width 50"),
        ("vcnn", {"depth": 1}, "depth must be a whole number of at least 2, got 1"),
        ("vcnn", {"padding": "same"}, "unknown padding 'same': expected one of circular, zero"),
        ("vcnn", {"depth": 3, "reductions": 3}, "reductions must be at most the 2 convolutions, got 3"),
        ("vcnn", {"reductions": -1}, "reductions must be a whole number of at least 0"),
        ("wrn-16-1", {"dropout": 1.0}, "dropout is a probability in [0, 1), got 1.0"),
        ("wrn-16-1", {"dropout": float("nan")}, "dropout is a probability"),
    ],
)
def test_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make(name, **options)


def test_the_name_of_a_vcnn_tells_its_reductions() -> None:
    named, options = make("vcnn-2", depth=4), make("vcnn", depth=4, reductions=2)
    assert [module.stride for module in named.modules() if hasattr(module, "stride")] == [(2, 2), (2, 2), (1, 1)]
    assert keys(named) == keys(options)
