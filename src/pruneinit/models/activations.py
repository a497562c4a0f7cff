"""Activations as modules, by name: a theory that reads a model finds each as a layer of its own."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pruneinit.errors import unknown

Make = Callable[[], nn.Module]

_MODULES: dict[str, Make] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def activation_module(name: str) -> Make:
    """What makes a new module of the activation `name`.

    Raises:
        InputError: No such activation.

    Example:
        >>> activation_module("tanh")()
        Tanh()
        >>> activation_module("rellu")
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: unknown activation 'rellu': expected one of ...; did you mean 'relu'?
    """
    if name not in _MODULES:
        raise unknown("activation", name, _MODULES)
    return _MODULES[name]
