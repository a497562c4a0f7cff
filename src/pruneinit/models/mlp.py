"""Fully connected networks (FFNN in the paper)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from pruneinit.models.activations import activation_module
from pruneinit.models.checks import Shape, check_count, check_shape


def mlp(
    input_shape: Shape, classes: int, *, depth: int = 3, width: int = 100, activation: str = "relu"
) -> nn.Sequential:
    """A fully connected network that flattens its input; every layer has a bias.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, the last one included: `depth=1` is a linear classifier.
        width: Neurons of each hidden layer.
        activation: By name; after every layer but the last.

    Raises:
        InputError: A count below 1 or an unknown activation.

    Example:
        >>> mlp((1, 8, 8), 10, depth=2, width=16, activation="tanh")
        Sequential(
          (flatten): Flatten(start_dim=1, end_dim=-1)
          (fc1): Linear(in_features=64, out_features=16, bias=True)
          (act1): Tanh()
          (fc2): Linear(in_features=16, out_features=10, bias=True)
        )
    """
    channels, rows, columns = check_shape(input_shape)
    make = activation_module(activation)
    hidden = [check_count("width", width)] * (check_count("depth", depth) - 1)
    sizes = [channels * rows * columns, *hidden, check_count("classes", classes)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for layer in range(1, depth + 1):
        layers[f"fc{layer}"] = nn.Linear(sizes[layer - 1], sizes[layer])
        if layer < depth:
            layers[f"act{layer}"] = make()
    return nn.Sequential(layers)
