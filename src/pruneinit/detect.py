"""Which activation a model uses, as far as its modules show it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from pruneinit.errors import InputError, check_model
from pruneinit.layouts import leaves
from pruneinit.meanfield import Activation, ActivationSpec, activation

_NOT_ELEMENTWISE = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax, nn.GLU)
_TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def find_activation(model: nn.Module) -> Activation:
    """The one activation of `model`, read off its activation modules and transformer layers.

    Functions called in `forward`, and activation modules of your own, cannot be recognised.

    Raises:
        InputError: There is none, or there are several different ones.

    Example:
        >>> find_activation(nn.Sequential(nn.Linear(2, 2), nn.SiLU())).name
        'silu'
    """
    check_model(model)
    found: dict[str, Activation] = {}
    for spec in _specs(model):
        phi = activation(spec)
        found.setdefault(phi.name, phi)
    if len(found) == 1:
        return next(iter(found.values()))
    what = f"several activations ({', '.join(found)})" if found else "no activation modules"
    raise InputError(f"{type(model).__name__} has {what}: pass the one to initialize for, such as activation='relu'")


def alternates(model: nn.Module) -> bool:
    """Whether layers and activation modules take turns, in the order in which the model lists them: a plain stack.

    Example:
        >>> alternates(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2)))
        True
        >>> alternates(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()))
        False
    """
    # A module that is used twice in a Sequential is listed twice.
    modules = [module for _, module in model.named_modules(remove_duplicate=False)]
    kinds = "".join("w" if leaves(module) else "a" if _elementwise(module) else "" for module in modules)
    return re.fullmatch("w(a+w)*a*", kinds) is not None


def _specs(model: nn.Module) -> Iterator[ActivationSpec]:
    for module in model.modules():
        if isinstance(module, _TRANSFORMER_LAYERS):
            yield module.activation
        elif _elementwise(module):
            yield module


def _elementwise(module: nn.Module) -> bool:
    return type(module).__module__ == nn.modules.activation.__name__ and not isinstance(module, _NOT_ELEMENTWISE)
