"""Fully connected networks (FFNN in the paper)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import cycle, islice

from torch import nn

from pruneinit.errors import InputError
from pruneinit.models.activations import activation_module
from pruneinit.models.checks import Shape, check_count, check_shape


def mlp(
    input_shape: Shape,
    classes: int,
    *,
    depth: int | None = None,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    activation: str = "relu",
) -> nn.Sequential:
    """A fully connected network that flattens its input; every layer has a bias.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, the last one included: `depth=1` is a linear classifier. 3, or one more than `widths`.
        width: Neurons of each hidden layer, 100 if neither this nor `widths` is given.
        widths: Neurons of the hidden layers one after the other, instead of `width`; in a deeper network they recur.
        activation: By name; after every layer but the last.

    Raises:
        InputError: A count below 1, both `width` and `widths`, or an unknown activation.

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
    if width is not None and widths is not None:
        raise InputError(f"widths {tuple(widths)} say how wide each layer is: leave out width {width}")
    if widths is None:
        depth = 3 if depth is None else depth
        widths = (100 if width is None else width,)
    recurring = cycle([check_count("width", one) for one in widths])
    depth = check_count("depth", len(widths) + 1 if depth is None else depth)
    sizes = [channels * rows * columns, *islice(recurring, depth - 1), check_count("classes", classes)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for layer in range(1, depth + 1):
        layers[f"fc{layer}"] = nn.Linear(sizes[layer - 1], sizes[layer])
        if layer < depth:
            layers[f"act{layer}"] = make()
    return nn.Sequential(layers)
