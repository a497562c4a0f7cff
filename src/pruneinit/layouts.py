"""Which layers have weights to prune, under which names, and how these are laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.rnn import RNNCellBase

from pruneinit.errors import InputError

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_TRANSPOSE = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")

# Layers outside of PyTorch that multiply by a matrix, by their full name, since their library need not be installed;
# and which dimension of the matrix counts outputs.
_ELSEWHERE = {"transformers.pytorch_utils.Conv1D": 1}
_REGISTERED: dict[type[nn.Module], int] = {}


@dataclass(frozen=True)
class Layout:
    """What the shape of a weight means.

    Attributes:
        kind: As of `Weight`.
        fan_in: How many inputs an output value sums over.
        out_dim: The dimension that counts output neurons.
        groups: Groups of a convolution, else 1.
    """

    kind: str
    fan_in: float
    out_dim: int = 0
    groups: int = 1


def register_linear(layer: type[nn.Module], *, transposed: bool = False) -> None:
    """Say that layers of a class of your own multiply by their `weight` like `nn.Linear`, so that it can be pruned.

    Needed only for a class that is none of PyTorch's linear layers and convolutions and inherits from none of them.
    `Conv1D` of transformers is known already.

    Args:
        layer: The class; its subclasses are meant too. What it puts out is `inputs @ weight.T`, and `bias` if it has
            one, for the last dimension of its inputs.
        transposed: The matrix is [inputs, outputs], and multiplied as `inputs @ weight`.

    Raises:
        InputError: It is not a class of modules, one whose weights are known already, or a base of such.

    Example:
        >>> import torch
        >>> class Times(nn.Module):
        ...     def __init__(self, inputs, outputs):
        ...         super().__init__()
        ...         self.weight = nn.Parameter(torch.randn(inputs, outputs))
        ...     def forward(self, x):
        ...         return x @ self.weight
        >>> register_linear(Times, transposed=True)
        >>> from pruneinit import prunable
        >>> prunable(nn.Sequential(Times(3, 5)))["0.weight"].fan_in
        3
    """
    if not isinstance(layer, type) or not issubclass(layer, nn.Module):
        raise InputError(f"register_linear takes a class of modules, got {layer!r}")
    if issubclass(layer, (nn.Linear, *_CONV, *_CONV_TRANSPOSE, nn.MultiheadAttention, nn.RNNBase, RNNCellBase)):
        raise InputError(f"the weights of {layer.__name__} are known already: it is a {layer.__mro__[1].__name__}")
    if issubclass(nn.Linear, layer) or issubclass(nn.Conv1d, layer):
        raise InputError(f"register_linear takes a class of layers, {layer.__name__} is a base of many: name yours")
    _REGISTERED[layer] = int(transposed)


def leaves(module: nn.Module) -> tuple[str, ...]:
    """The names within a module that its prunable weights have, if it has them; empty for what is no layer.

    Example:
        >>> leaves(nn.LSTM(2, 3, bidirectional=True))
        ('weight_ih_l0', 'weight_hh_l0', 'weight_ih_l0_reverse', 'weight_hh_l0_reverse')
        >>> leaves(nn.ReLU())
        ()
    """
    if isinstance(module, (nn.Linear, *_CONV, *_CONV_TRANSPOSE)) or _foreign(module) is not None:
        return ("weight",)
    if isinstance(module, nn.MultiheadAttention):
        return _ATTENTION
    if isinstance(module, RNNCellBase):
        return ("weight_ih", "weight_hh")
    if isinstance(module, nn.RNNBase):
        parts = ("ih", "hh", "hr") if module.proj_size else ("ih", "hh")
        ways = ("", "_reverse") if module.bidirectional else ("",)
        return tuple(f"weight_{p}_l{i}{way}" for i in range(module.num_layers) for way in ways for p in parts)
    return ()


def layout(module: nn.Module, shape: tuple[int, ...]) -> Layout:
    """What the shape of a layer's weight means.

    Example:
        >>> layout(nn.Conv2d(4, 8, 3, groups=2), (8, 2, 3, 3))
        Layout(kind='conv', fan_in=18, out_dim=0, groups=2)
    """
    if isinstance(module, _CONV):
        return Layout("conv", math.prod(shape[1:]), groups=module.groups)
    if isinstance(module, _CONV_TRANSPOSE):
        fan_in = shape[0] / module.groups * math.prod(shape[2:]) / math.prod(module.stride)
        return Layout("conv_transpose", fan_in, 1, module.groups)
    if isinstance(module, nn.MultiheadAttention):
        return Layout("attention", shape[1])
    if isinstance(module, (nn.RNNBase, RNNCellBase)):
        return Layout("recurrent", shape[1])
    out_dim = _foreign(module) or 0
    return Layout("linear", shape[1 - out_dim], out_dim)


def _foreign(module: nn.Module) -> int | None:
    """Of a layer that is not PyTorch's, which dimension of its weight counts outputs; None where it is no layer."""
    for cls in type(module).__mro__:
        if cls in _REGISTERED:
            return _REGISTERED[cls]
        if (name := f"{cls.__module__}.{cls.__qualname__}") in _ELSEWHERE:
            return _ELSEWHERE[name]
    return None
