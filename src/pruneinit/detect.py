"""Which activation a model uses, as far as its modules show it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from pruneinit.errors import InputError, check_model
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


def _specs(model: nn.Module) -> Iterator[ActivationSpec]:
    for module in model.modules():
        if isinstance(module, _TRANSFORMER_LAYERS):
            yield module.activation
        elif type(module).__module__ == nn.modules.activation.__name__ and not isinstance(module, _NOT_ELEMENTWISE):
            yield module
