"""Activation functions as the theory needs them: values, derivatives and kinks, in float64 on plain arrays."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from pruneinit.errors import InputError
from pruneinit.meanfield.quadrature import Array, Function

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Activation:
    """A scalar function applied to every pre-activation.

    Attributes:
        name: What errors and reports call it.
        function: φ, on float64 arrays of any shape.
        derivative: φ', on float64 arrays of any shape; at a kink either one-sided value will do.
        kinks: Where φ is continuous but not smooth, ascending.

    Example:
        >>> relu = NAMED["relu"]
        >>> relu.function(np.array([-1.0, 2.0])), relu.kinks, relu.scale_free
        (array([0., 2.]), (0.0,), True)
    """

    name: str
    function: Function
    derivative: Function
    kinks: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # Moments are remembered by activation, so it must hash: a list of kinks would not.
        object.__setattr__(self, "kinks", tuple(sorted(map(float, self.kinks))))

    @property
    def scale_free(self) -> bool:
        """Whether φ(a x) = a φ(x) for every a > 0: ReLU, leaky ReLU, absolute value, identity.

        Such a network has no variance of its own: its Edge of Chaos is a single point, with sigma_b = 0.
        """
        x = np.array([1e-3, 0.3, 1.7, 40.0])
        plus, minus = self.function(np.array([1.0, -1.0]))
        rays = np.concatenate([self.function(x) - plus * x, self.function(-x) - minus * x])
        return bool(np.all(np.abs(rays) <= 1e-12 * np.tile(x, 2) * max(abs(plus), abs(minus))))


def leaky_relu(slope: float = 0.01) -> Activation:
    """φ(x) = x for x > 0, slope * x below. The Edge of Chaos is sigma_w = sqrt(2 / (1 + slope^2)).

    Raises:
        InputError: `slope` is not a finite number.

    Example:
        >>> leaky_relu(0.2).function(np.array([-1.0, 1.0]))
        array([-0.2,  1. ])
    """
    _check("leaky_relu slope", slope)
    return _leaky_relu(float(slope))


def elu(alpha: float = 1.0) -> Activation:
    """φ(x) = x for x > 0, alpha (e^x - 1) below (Clevert et al., 2015).

    Raises:
        InputError: `alpha` is not a finite number.

    Example:
        >>> elu().function(np.array([-50.0, 1.0])).round(6)
        array([-1.,  1.])
    """
    _check("elu alpha", alpha)
    return _elu("elu" if alpha == 1 else f"elu({alpha:g})", 1.0, float(alpha))


def softplus(beta: float = 1.0) -> Activation:
    """φ(x) = log(1 + e^(beta x)) / beta. It has no Edge of Chaos: see `edge_of_chaos`.

    Raises:
        InputError: `beta` is not a finite number above 0.

    Example:
        >>> softplus(2.0).function(np.array([0.0, 100.0])).round(6)
        array([  0.346574, 100.      ])
    """
    _check("softplus beta", beta)
    if beta <= 0:
        raise InputError(f"softplus beta must be above 0, got {beta:g}")
    return _softplus(float(beta))


def _check(what: str, value: float) -> None:
    if not np.isfinite(value):
        raise InputError(f"{what} must be a finite number, got {value!r}")


# Cached, so that the same parameters give equal activations and share what is remembered about them.
@functools.cache
def _leaky_relu(slope: float) -> Activation:
    name = "leaky_relu" if slope == 0.01 else f"leaky_relu({slope:g})"
    return Activation(name, lambda x: np.where(x > 0, x, slope * x), lambda x: np.where(x > 0, 1.0, slope), (0.0,))


@functools.cache
def _softplus(beta: float) -> Activation:
    name = "softplus" if beta == 1 else f"softplus({beta:g})"
    return Activation(name, lambda x: np.logaddexp(0, beta * x) / beta, lambda x: _sigmoid(beta * x))


@functools.cache
def _elu(name: str, scale: float, alpha: float) -> Activation:
    def function(x: Array) -> Array:
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    def derivative(x: Array) -> Array:
        return scale * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0)))

    return Activation(name, function, derivative, (0.0,))


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float64)


def _erf(x: Array) -> Array:
    # NumPy has no erf; PyTorch's is vectorised and exact to the last digits in float64.
    return np.asarray(torch.erf(torch.from_numpy(np.ascontiguousarray(x))).numpy(), dtype=np.float64)


def _bell(x: Array) -> Array:
    return np.asarray(np.exp(-x * x), dtype=np.float64)


def _silu_slope(x: Array) -> Array:
    s = _sigmoid(x)
    return s + x * s * (1 - s)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + _erf(x / np.sqrt(2)))


_EVERY = (
    Activation("relu", lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(np.float64), (0.0,)),
    leaky_relu(),
    Activation("tanh", lambda x: np.asarray(np.tanh(x)), lambda x: np.asarray(1 - np.tanh(x) ** 2)),
    Activation("hardtanh", lambda x: np.clip(x, -1, 1), lambda x: (np.abs(x) < 1).astype(np.float64), (-1.0, 1.0)),
    Activation("erf", _erf, lambda x: 2 / np.sqrt(np.pi) * _bell(x)),
    Activation("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    Activation("silu", lambda x: x * _sigmoid(x), _silu_slope),
    Activation(
        "gelu",
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * _bell(x / np.sqrt(2)) / np.sqrt(2 * np.pi),
    ),
    elu(),
    _elu("selu", _SELU_SCALE, _SELU_ALPHA),
    softplus(),
    Activation("sin", lambda x: np.asarray(np.sin(x)), lambda x: np.asarray(np.cos(x))),
    Activation("identity", lambda x: x, np.ones_like),
)

NAMED: dict[str, Activation] = {a.name: a for a in _EVERY}
"""The activations known by name."""

ALIASES: dict[str, str] = {"swish": "silu", "linear": "identity"}
"""Other names of the activations in `NAMED`."""
