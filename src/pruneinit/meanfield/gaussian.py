"""Gaussian moments of an activation, and the small numeric tools that the maps share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.activations import Activation
from pruneinit.meanfield.quadrature import Array, Mesh, density, first_breaks, resolve
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

_SMALL_ROOT = 1e-12  # Standard deviation at which limits q -> 0 are taken.


class Moments(NamedTuple):
    """Gaussian moments of an activation at pre-activations of variance q, with y = sqrt(q) Z.

    Attributes:
        square: E[φ(y)^2].
        slope: E[φ'(y)^2].
        growth: dE[φ(y)^2]/dq = E[φ'(y)^2 + φ(y) φ''(y)], right also where φ'' holds a delta (a kink).
    """

    square: float
    slope: float
    growth: float


def moments(activation: ActivationSpec, q: float) -> Moments:
    """The Gaussian moments of `activation` at variance `q`; infinite where it grows too fast to have them.

    Raises:
        InputError: `q` is not a finite number >= 0, or the activation is wrong (see `activation`).

    Example:
        >>> [round(m, 6) for m in moments("relu", 3.0)]
        [1.5, 0.5, 0.5]
    """
    return _moments(resolved(activation), check_number("q", q))


def finite_moments(phi: Activation, q: float) -> Moments:
    """As `moments`, but an error where they are infinite.

    Raises:
        InputError: The activation grows too fast at variance `q`.

    Example:
        >>> finite_moments(resolved("identity"), 2.0).slope
        1.0
    """
    found = _moments(phi, q)
    if not all(map(math.isfinite, found)):
        raise InputError(f"activation {phi.name} grows too fast at variance {q:g}: choose a smaller variance")
    return found


@functools.lru_cache(maxsize=64)
def mesh(phi: Activation, q: float) -> Mesh:
    """The mesh in z that resolves φ(sqrt(q) z) and φ'(sqrt(q) z): its two rows of values.

    Example:
        >>> mesh(resolved("hardtanh"), 4.0).breaks[[0, -1]]
        array([-10.,  10.])
    """
    root = math.sqrt(q)

    def both(z: Array) -> Array:
        # Too large for float64 is an answer here, not an accident: `_moments` makes it infinite.
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([phi.function(root * z), phi.derivative(root * z)])

    return resolve(both, first_breaks(root, phi.kinks))


def check_number(name: str, value: float) -> float:
    """Return `value` if it is a finite number >= 0, else raise `InputError`.

    Example:
        >>> check_number("sigma_b", 0.2)
        0.2
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a finite number >= 0, got {value!r}") from error
    except OverflowError as error:
        raise InputError(f"{name} must be a finite number >= 0, got a whole number beyond all floats") from error
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"{name} must be a finite number >= 0, got {number:g}")
    return number


def exponential(log: float) -> float:
    """e^log; 0 or infinite where float64 cannot hold it.

    Example:
        >>> exponential(0.0), exponential(1e4), exponential(-1e4)
        (1.0, inf, 0.0)
    """
    return math.exp(log) if log < 709 else math.inf


def bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """The root of `function`, which changes sign between `low` and `high`, to rounding; 0 < low <= high.

    Halves the ratio high/low, so that small roots are as exact as large ones.

    Example:
        >>> round(bisect(lambda x: 2 - x * x, 0.1, 10.0), 12)
        1.414213562373
    """
    falling = function(low) > 0
    middle = math.sqrt(low * high)
    while low < middle < high:
        low, high = (middle, high) if (function(middle) > 0) == falling else (low, middle)
        middle = math.sqrt(low * high)
    return middle


@functools.lru_cache(maxsize=4096)
def _moments(phi: Activation, q: float) -> Moments:
    root = max(math.sqrt(q), _SMALL_ROOT)
    rule = mesh(phi, root * root)
    values, slopes = rule.values
    with np.errstate(over="ignore", invalid="ignore"):
        weights = rule.weights * density(rule.points)
        squares = weights * values**2
        # Exponential growth moves the mass of E[φ^2] out to the last panels, and then beyond them.
        if not np.isfinite(squares).all() or squares[[0, -1]].sum() > 1e-9 * squares.sum():
            return Moments(math.inf, math.inf, math.inf)
        square = squares.sum() if q > 0 else phi.function(np.zeros(1))[0] ** 2
        growth = (weights * values * slopes * rule.points).sum() / root
        return Moments(float(square), float((weights * slopes**2).sum()), float(growth))
