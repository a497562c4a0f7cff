"""Parameter counts against published ones: the cheapest proof that an architecture is the one it claims to be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruneinit.models import build


def count(name: str, classes: int = 10, **options: object) -> int:
    with torch.device("meta"):  # shapes without memory
        model = build(name, input_shape=(3, 32, 32), classes=classes, **options)  # type: ignore[arg-type]
    return sum(p.numel() for p in model.parameters())


# He et al. 2016, table 6: 0.27 M, 0.46 M, 0.66 M, 0.85 M, 1.7 M parameters with option A. The exact counts, with batch
# normalisation and classifier, are those of the reimplementation akamaster/pytorch_resnet_cifar10.
@pytest.mark.parametrize(
    "depth, published", [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_resnet_with_padding(depth: int, published: int) -> None:
    assert count(f"resnet{depth}", shortcut="padding") == published


# With option B, resnet20 has 272,474 parameters (chenyaofo/pytorch-cifar-models, "cifar10_resnet20", 0.27 M): two
# 1x1 convolutions (16*32 + 32*64) and their normalisation (2*32 + 2*64) more.
@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_resnet_with_projections(depth: int) -> None:
    more = 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64
    assert count(f"resnet{depth}") == count(f"resnet{depth}", shortcut="padding") + more
    if depth == 20:
        assert count("resnet20") == 272_474


# Hayou et al. 2021 prune a ResNet32 of double width (32, 64, 128) with 1.9 M weights.
def test_the_resnet32_of_the_paper() -> None:
    assert count("resnet32", width=32) == pytest.approx(1.9e6, rel=0.03)


# Zagoruyko and Komodakis 2016, table 4 and 5: millions of parameters, CIFAR-10. The exact figures of WRN-28-10 are
# those of the reimplementation xternalz/WideResNet-pytorch: 36,479,194 (CIFAR-10) and 36,536,884 (CIFAR-100).
@pytest.mark.parametrize(
    "name, millions",
    [("wrn-40-1", 0.6), ("wrn-40-2", 2.2), ("wrn-40-4", 8.9), ("wrn-16-8", 11.0), ("wrn-28-10", 36.5)],
)
def test_wide_resnets(name: str, millions: float) -> None:
    assert round(count(name) / 1e6, 1) == millions


def test_wrn_28_10_exactly() -> None:
    assert count("wrn-28-10") == 36_479_194
    assert count("wrn-28-10", classes=100) == 36_536_884
    assert count("wrn-28-10", dropout=0.3) == 36_479_194


# torchvision's documentation gives whole networks for ImageNet: vgg11 132,863,336, vgg16 138,357,544,
# vgg19 143,667,240, with batch normalisation 132,868,840, 138,365,992, 143,678,248. Their three linear layers
# (25,088-4,096-4,096-1,000) have 123,642,856; one linear layer 512-10 stands in for them here.
@pytest.mark.parametrize(
    "name, whole",
    [
        ("vgg11", 132_863_336),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg11_bn", 132_868_840),
        ("vgg16_bn", 138_365_992),
        ("vgg19_bn", 143_678_248),
    ],
)
def test_vgg(name: str, whole: int) -> None:
    linear = 25_088 * 4_096 + 4_096 + 4_096 * 4_096 + 4_096 + 4_096 * 1_000 + 1_000
    assert linear == 123_642_856
    assert count(name) == whole - linear + 512 * 10 + 10


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d)]


def test_3xvgg16_has_three_times_as_many_convolutions_between_two_poolings() -> None:
    with torch.device("meta"):
        plain, tripled = (build(n, input_shape=(3, 32, 32), classes=10) for n in ("vgg16", "3xvgg16"))
    assert len(convolutions(plain)) == 13
    assert len(convolutions(tripled)) == 39
    for block in range(1, 6):
        few, many = (convolutions(m.get_submodule(f"block{block}")) for m in (plain, tripled))
        assert len(many) == 3 * len(few)
        assert few[-1].out_channels == many[-1].out_channels


# A fully connected network: the weights and biases of each layer, written out.
def test_mlp() -> None:
    expected = (3072 * 50 + 50) + 2 * (50 * 50 + 50) + (50 * 10 + 10)
    assert count("mlp", depth=4, width=50) == expected
    lenet = (3072 * 300 + 300) + (300 * 100 + 100) + (100 * 10 + 10)
    assert count("mlp-300-100") == lenet
    recurring = (3072 * 6 + 6) + (6 * 4 + 4) + (4 * 6 + 6) + (6 * 10 + 10)
    assert count("mlp-6-4", depth=4) == recurring


def test_vcnn() -> None:
    first, others = 3 * 9 * 8 + 8, 8 * 9 * 8 + 8
    assert count("vcnn", depth=5, width=8) == first + 3 * others + (8 * 32 * 32 * 10 + 10)
    assert count("vcnn", depth=5, width=8, reductions=2) == first + 3 * others + (8 * 8 * 8 * 10 + 10)


# Counted by hand from He et al. 2016b, figure 4e: stem, pairs of 3x3 convolutions each behind a normalisation of its
# input, 1x1 projections, last normalisation, classifier.
def test_preact_resnet() -> None:
    expected, inputs = 3 * 9 * 16, 16
    for width in (16, 32, 64):
        for block in range(3):
            expected += 2 * inputs + inputs * 9 * width + 2 * width + width * 9 * width
            expected += inputs * width if block == 0 and inputs != width else 0
            inputs = width
    assert count("preact_resnet20") == expected + 2 * 64 + 64 * 10 + 10
