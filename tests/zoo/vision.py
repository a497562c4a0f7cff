"""Networks for images, of torchvision and timm."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

from torch import nn

from zoo.architecture import Architecture, images
from zoo.imports import torchvision_models


def _torchvision(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: torchvision_models().get_model(name, weights=None, num_classes=10, **settings)


def _timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torchvision_models()  # timm imports it too
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **settings)

    return build


def _vgg() -> nn.Module:
    """VGG11 with a small classifier: its own has 120 million weights, which only cost time."""
    model = torchvision_models().vgg11_bn(weights=None, init_weights=False, num_classes=10)
    model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))
    return model


def _bit() -> nn.Module:
    torchvision_models()
    from timm.layers import StdConv2d
    from timm.models.resnetv2 import ResNetV2

    return ResNetV2([1, 1, 1, 1], num_classes=10, conv_layer=StdConv2d)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(40, 80, 2), CNBlockConfig(80, 160, 2), CNBlockConfig(160, None, 2)]
    return ConvNeXt(stages, stochastic_depth_prob=0.1, num_classes=10)


def _vit() -> nn.Module:
    return torchvision_models().VisionTransformer(
        image_size=32, patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )


def _awake(build: Callable[[], nn.Module], pattern: str) -> Callable[[], nn.Module]:
    """Draw what a model starts with at zero, and what thereby keeps the gradient from everything before it."""

    def drawn() -> nn.Module:
        model = build()
        names = [name for name, parameter in model.named_parameters() if fnmatch(name, pattern)]
        assert names, "the model has no such parameters"
        for name in names:
            nn.init.normal_(model.get_parameter(name), mean=float(model.get_parameter(name).dim() < 2), std=0.02)
        return model

    return drawn


VISION = [
    Architecture("ResNet18", "torchvision", _torchvision("resnet18"), images(64), norm="batch"),
    Architecture("ResNet50", "torchvision", _torchvision("resnet50"), images(64), norm="batch"),
    Architecture(
        "VGG11-BN", "torchvision", _vgg, images(64), norm="batch", special="a small classifier in place of its own"
    ),
    Architecture("DenseNet121", "torchvision", _torchvision("densenet121"), images(64), norm="batch"),
    Architecture("MobileNetV3-Small", "torchvision", _torchvision("mobilenet_v3_small"), images(64), norm="batch"),
    Architecture("EfficientNet-B0", "torchvision", _torchvision("efficientnet_b0"), images(64), norm="batch"),
    Architecture("ConvNeXt", "torchvision", _convnext, images(64), special="two blocks a stage, half as wide"),
    Architecture("Swin-T", "torchvision", _torchvision("swin_t"), images(64)),
    Architecture(
        "ViT",
        "torchvision",
        _awake(_vit, "heads.head.weight"),
        images(32),
        special="four layers; its classifier, which starts at 0, is drawn",
    ),
    Architecture("RegNetY-400MF", "torchvision", _torchvision("regnet_y_400mf"), images(64), norm="batch"),
    Architecture("ConvNeXtV2-Atto", "timm", _timm("convnextv2_atto"), images(64)),
    Architecture(
        "MLP-Mixer-S/32",
        "timm",
        _awake(_timm("mixer_s32_224", img_size=64), "head.weight"),
        images(64),
        special="its classifier, which starts at 0, is drawn",
    ),
    Architecture(
        "ResNetV2-BiT",
        "timm",
        _bit,
        images(64),
        scalable=False,
        special="standardised convolutions, which undo any factor; one block a stage",
    ),
    Architecture("MobileViT-XXS", "timm", _timm("mobilevit_xxs"), images(64), norm="batch"),
    Architecture(
        "SwinV2-CR-Tiny",
        "timm",
        _awake(
            _timm("swinv2_cr_tiny_224", img_size=64, window_size=2, depths=(1, 1, 2, 1)), "*.blocks.*.norm[12].weight"
        ),
        images(64),
        special="five blocks; its branches' norms, which start at 0, are drawn",
    ),
    Architecture(
        "BEiT",
        "timm",
        _timm("beit_base_patch16_224", img_size=32, embed_dim=64, depth=4, num_heads=4),
        images(32),
        special="four layers",
    ),
]
