"""Vanilla convolutional networks: convolutions and nothing else, the network mean-field theory speaks of."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from pruneinit.errors import InputError, unknown
from pruneinit.models.activations import activation_module
from pruneinit.models.checks import Shape, check_count, check_shape

_PADDINGS: dict[str, Literal["circular", "zeros"]] = {"circular": "circular", "zero": "zeros"}


def vcnn(
    input_shape: Shape,
    classes: int,
    *,
    depth: int = 10,
    width: int = 16,
    activation: str = "relu",
    padding: str = "circular",
    reductions: int = 0,
) -> nn.Sequential:
    """`depth - 1` convolutions of 3x3 with the same channels, then one linear layer on the flattened result.

    There is no pooling and no normalisation, so that every layer obeys the same variance map.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, the classifier included.
        width: Channels of each convolution.
        activation: By name; after every convolution.
        padding: `"circular"`, where the theory is exact at the border too, or `"zero"`.
        reductions: How many of the first convolutions have stride 2. With 0 the classifier sees every pixel and may
            outweigh a narrow network; Xiao et al. 2018 ("How to train 10,000-layer vanilla CNNs") halve the image
            twice this way before the deep stack.

    Raises:
        InputError: A count out of range, an unknown padding or activation.

    Example:
        >>> model = vcnn((1, 28, 28), 10, depth=10, width=8, reductions=2)
        >>> model.conv1, model.fc
        (Conv2d(1, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), padding_mode=circular),
         Linear(in_features=392, out_features=10, bias=True))
    """
    channels, rows, columns = check_shape(input_shape)
    make = activation_module(activation)
    if padding not in _PADDINGS:
        raise unknown("padding", padding, _PADDINGS)
    convolutions = check_count("depth", depth, least=2) - 1
    if check_count("reductions", reductions, least=0) > convolutions:
        raise InputError(f"reductions must be at most the {convolutions} convolutions, got {reductions}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in range(1, convolutions + 1):
        stride = 2 if layer <= reductions else 1
        layers[f"conv{layer}"] = nn.Conv2d(
            channels, check_count("width", width), 3, stride, 1, padding_mode=_PADDINGS[padding]
        )
        layers[f"act{layer}"] = make()
        channels, rows, columns = width, -(-rows // stride), -(-columns // stride)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(width * rows * columns, check_count("classes", classes))
    return nn.Sequential(layers)
