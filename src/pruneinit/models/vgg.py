"""VGG (Simonyan and Zisserman 2015) with the single linear classifier usual on small images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from pruneinit.errors import InputError, unknown
from pruneinit.models.activations import activation_module
from pruneinit.models.checks import Shape, check_count, check_shape

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDENING = (1, 2, 4, 8, 8)
_SMALLEST = 2 ** len(_WIDENING)


def vgg(
    input_shape: Shape,
    classes: int,
    *,
    depth: int = 16,
    width: int = 64,
    activation: str = "relu",
    batch_norm: bool = False,
    repeat: int = 1,
) -> nn.Sequential:
    """Five blocks of 3x3 convolutions, each closed by max pooling, then one linear layer.

    Args:
        input_shape: (C, H, W) of an image, at least 32x32, since the five poolings halve it each.
        classes: Outputs.
        depth: 11, 16 or 19, the name of the published network; its three linear layers are one here.
        width: Channels w of the first block; the others have 2w, 4w, 8w and 8w.
        activation: By name; after every convolution.
        batch_norm: Normalise between convolution and activation. Convolutions keep their bias, as in torchvision.
        repeat: Multiplies the convolutions between two poolings; 3 with depth 16 is the paper's 3xVGG16.

    Raises:
        InputError: An unknown depth or activation, images that are too small, a count below 1.

    Example:
        >>> model = vgg((3, 32, 32), 10, depth=11, width=4)
        >>> model.block1, model.fc
        (Sequential(
          (conv1): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
          (act1): ReLU()
          (pool): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
        ), Linear(in_features=32, out_features=10, bias=True))
    """
    channels, rows, columns = check_shape(input_shape)
    if depth not in _CONVOLUTIONS:
        raise unknown("VGG depth", str(depth), map(str, _CONVOLUTIONS))
    if min(rows, columns) < _SMALLEST:
        raise InputError(
            f"VGG halves images five times and needs at least {_SMALLEST}x{_SMALLEST} pixels, got {rows}x{columns}; "
            "use a resnet or an mlp"
        )
    make = activation_module(activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, (count, widening) in enumerate(zip(_CONVOLUTIONS[depth], _WIDENING, strict=True), 1):
        stack: OrderedDict[str, nn.Module] = OrderedDict()
        for layer in range(1, count * check_count("repeat", repeat) + 1):
            outputs = check_count("width", width) * widening
            stack[f"conv{layer}"] = nn.Conv2d(channels, outputs, 3, 1, 1)
            if batch_norm:
                stack[f"bn{layer}"] = nn.BatchNorm2d(outputs)
            stack[f"act{layer}"] = make()
            channels = outputs
        stack["pool"] = nn.MaxPool2d(2)
        layers[f"block{block}"] = nn.Sequential(stack)
    layers["flatten"] = nn.Flatten()
    pixels = (rows // _SMALLEST) * (columns // _SMALLEST)
    layers["fc"] = nn.Linear(channels * pixels, check_count("classes", classes))
    return nn.Sequential(layers)
