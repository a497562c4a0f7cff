"""From what a person writes (a name, a module, any function on tensors) to an `Activation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruneinit.errors import InputError, unknown
from pruneinit.meanfield.activations import ALIASES, NAMED, Activation, elu, leaky_relu, softplus
from pruneinit.meanfield.quadrature import Array, Function, resolve

ActivationSpec = str | Activation | nn.Module | type[nn.Module] | Callable[[Tensor], Tensor]
"""What `activation` accepts."""

_STEP = 1e-11  # A break is looked at from this far on either side:
_CHANGE = 1e-7  # a larger change of the value is a jump, of the slope a kink.
_RANGE = 64.0  # Kinks are looked for between -64 and 64; further out the expectations still find them.

_MODULES: dict[type[nn.Module], Callable[[Any], Activation | None]] = {
    nn.ReLU: lambda m: NAMED["relu"],
    nn.LeakyReLU: lambda m: leaky_relu(float(m.negative_slope)),
    nn.Tanh: lambda m: NAMED["tanh"],
    nn.Hardtanh: lambda m: NAMED["hardtanh"] if (m.min_val, m.max_val) == (-1, 1) else None,
    nn.Sigmoid: lambda m: NAMED["sigmoid"],
    nn.SiLU: lambda m: NAMED["silu"],
    nn.GELU: lambda m: NAMED["gelu"] if m.approximate == "none" else None,
    nn.ELU: lambda m: elu(float(m.alpha)),
    nn.SELU: lambda m: NAMED["selu"],
    nn.Softplus: lambda m: softplus(float(m.beta)),
    nn.PReLU: lambda m: leaky_relu(m.weight.item()) if m.weight.numel() == 1 else None,
    nn.Identity: lambda m: NAMED["identity"],
}


def activation(spec: ActivationSpec) -> Activation:
    """The `Activation` that `spec` means.

    Args:
        spec: A name (`"relu"`, `"tanh"`, ...; `sorted(NAMED)` lists them), an `Activation`, a `torch.nn` module or
            its class, or any elementwise function on tensors. Of a function the derivative is taken by autograd in
            float64, and its kinks are found numerically.

    Raises:
        InputError: The name is not known, or the function is not elementwise, random, not finite, jumps (then the
            derivative misses what the jump contributes) or has no gradient.

    Example:
        >>> activation("swish").name, activation(nn.LeakyReLU(0.2)).name
        ('silu', 'leaky_relu(0.2)')
        >>> activation(lambda x: (x - 1).relu() + x).kinks
        (1.0,)
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        name = ALIASES.get(spec, spec)
        if name not in NAMED:
            raise unknown("activation", spec, [*NAMED, *ALIASES])
        return NAMED[name]
    if isinstance(spec, type):
        return activation(_instance(spec))
    if isinstance(spec, nn.Module):
        return _from_module(spec)
    if not callable(spec):
        raise InputError(
            f"activation must be a name, an Activation, a torch.nn module or a function on tensors, got {spec!r}"
        )
    name = getattr(spec, "__name__", repr(spec))
    if name in NAMED and any(getattr(place, name, None) is spec for place in (torch, nn.functional)):
        return NAMED[name]
    return _from_function(name, spec)


def _instance(kind: type) -> nn.Module:
    if not issubclass(kind, nn.Module):
        raise InputError(f"activation must be a torch.nn module, got the class {kind.__name__}")
    try:
        return kind()
    except TypeError as error:
        raise InputError(f"activation {kind.__name__} needs arguments: pass an instance of it") from error


def _from_module(module: nn.Module) -> Activation:
    known = _MODULES.get(type(module), lambda m: None)(module)
    return known if known is not None else _from_function(repr(module), module)


def _from_function(name: str, function: Callable[[Tensor], Tensor]) -> Activation:
    def call(x: Tensor) -> Tensor:
        try:
            y = function(x)
        except Exception as error:
            raise InputError(
                f"activation {name} does not work on a float64 tensor of one dimension: {error}"
            ) from error
        if not isinstance(y, Tensor) or y.shape != x.shape:
            given = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(f"activation {name} is not elementwise: shape {tuple(x.shape)} became {given}")
        return y

    def values(x: Array) -> Array:
        with torch.no_grad():
            y = call(torch.from_numpy(np.array(x, dtype=np.float64).reshape(-1)))
        return np.asarray(y.double().numpy(), dtype=np.float64).reshape(x.shape)

    def slopes(x: Array) -> Array:
        with torch.enable_grad():
            leaf = torch.from_numpy(np.array(x, dtype=np.float64).reshape(-1)).requires_grad_()
            # The clone lets functions work in place, which autograd forbids on a leaf.
            y = call(leaf.clone())
            if not y.requires_grad:
                raise InputError(f"activation {name} has no gradient: write it with differentiable torch operations")
            (gradient,) = torch.autograd.grad(y.sum(), leaf)
        return np.asarray(gradient.numpy(), dtype=np.float64).reshape(x.shape)

    _check_elementwise(name, values)
    return Activation(name, values, slopes, _kinks(name, values, slopes))


def _check_elementwise(name: str, values: Function) -> None:
    x = np.linspace(-3.1, 2.9, 25)
    whole, again, part = values(x), values(x), values(x[5:12])
    for what, other, expected in (("is random", again, whole), ("is not elementwise", part, whole[5:12])):
        if not np.allclose(other, expected, rtol=1e-6, atol=1e-6, equal_nan=True):
            raise InputError(f"activation {name} {what}: expected a fixed function of each value on its own")


def _kinks(name: str, values: Function, slopes: Function) -> tuple[float, ...]:
    powers = 2.0 ** np.arange(-2, np.log2(_RANGE) + 1)
    mesh = resolve(
        lambda x: np.stack([values(x), slopes(x)]), np.concatenate([-powers[::-1], [0], powers]), gaussian=False
    )
    if not np.isfinite(mesh.values).all():
        where = mesh.points[~np.isfinite(mesh.values).all(axis=0)]
        raise InputError(f"activation {name} is not finite, or its slope is not, near {where.flat[0]:.3g}")
    breaks = mesh.breaks[1:-1]
    step = _STEP * np.maximum(1, np.abs(breaks))
    size = 1 + np.abs(mesh.values).max(axis=-1)
    size = np.maximum(size[:, 1:], size[:, :-1])
    jumps = np.abs(values(breaks + step) - values(breaks - step)) > _CHANGE * size[0]
    if jumps.any():
        raise InputError(
            f"activation {name} jumps near {breaks[jumps][0]:.6g}, or is vertical there: mean-field theory needs a "
            "continuous function with a finite slope"
        )
    turns = np.abs(slopes(breaks + step) - slopes(breaks - step)) > _CHANGE * size[1]
    found: list[float] = []
    for group in np.split(breaks[turns], np.flatnonzero(np.diff(breaks[turns]) > 4 * _STEP * _RANGE) + 1):
        if group.size == 1:
            found.append(float(group[0]))  # Exactly on a first break, where nothing had to be halved.
        elif group.size:
            narrowest = int(np.argmin(np.diff(group)))
            found.append(float(np.round(group[narrowest : narrowest + 2].mean(), 12)) + 0.0)
    return tuple(found)
