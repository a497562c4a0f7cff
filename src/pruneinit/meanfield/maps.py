"""The mean-field maps of wide networks: how variance and correlation travel from layer to layer.

y^l = W^l φ(y^{l-1}) + B^l with W ~ N(0, sigma_w^2 / fan-in), B ~ N(0, sigma_b^2): Poole et al. (2016),
Schoenholz et al. (2017), Hayou et al. (2019). Every function takes the activation first, then sigma_w and sigma_b
(standard deviations), and works on plain numbers.
"""

from __future__ import annotations

import math

from pruneinit.errors import InputError
from pruneinit.meanfield.activations import Activation
from pruneinit.meanfield.gaussian import bisect, check_number, finite_moments, mesh, moments
from pruneinit.meanfield.quadrature import correlated
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

_ZERO, _LARGE = 1e-12, 1e12  # Variances that count as 0, and as divergent.


def variance_map(activation: ActivationSpec, sigma_w: float, sigma_b: float, q: float) -> float:
    """The variance after one layer: V(q) = sigma_b^2 + sigma_w^2 E[φ(sqrt(q) Z)^2].

    Raises:
        InputError: A number is negative or not finite, or the activation is wrong or grows too fast at `q`.

    Example:
        >>> round(variance_map("relu", 2**0.5, 0.0, 0.7), 9)
        0.7
    """
    phi, q = _at(activation, sigma_w, sigma_b, q)
    return sigma_b**2 + sigma_w**2 * finite_moments(phi, q).square


def variance_slope(activation: ActivationSpec, sigma_w: float, sigma_b: float, q: float | None = None) -> float:
    """The slope of the variance map at `q` (default: at the fixed point): chi + sigma_w^2 E[φ'' φ].

    A fixed point is stable where it is below 1.

    Raises:
        InputError: As `variance_map`; without `q`, as `fixed_point`.

    Example:
        >>> variance_slope("gelu", 1.5, 0.2, q=0.6) > 1
        True
    """
    phi, q = _at(activation, sigma_w, sigma_b, q)
    return sigma_w**2 * finite_moments(phi, q).growth


def correlation_map(
    activation: ActivationSpec, sigma_w: float, sigma_b: float, c: float, q: float | None = None
) -> float:
    """The correlation after one layer of two inputs with correlation `c`, both of variance `q`.

    (sigma_b^2 + sigma_w^2 E[φ(sqrt(q) Z1) φ(sqrt(q) (c Z1 + sqrt(1 - c^2) Z2))]) / V(q). The division is by the
    variance V(q) of the layer itself, which is q at the fixed point.

    Args:
        activation: As `activation` takes it.
        sigma_w: Standard deviation of the weights times sqrt(fan-in).
        sigma_b: Standard deviation of the biases.
        c: Correlation in [-1, 1].
        q: Variance of the pre-activations; None for the fixed point.

    Raises:
        InputError: A number is out of range, the variance is 0, or `q` is None and there is no fixed point.

    Example:
        >>> round(correlation_map("relu", 2**0.5, 0.0, 0.0), 6), round(1 / math.pi, 6)
        (0.31831, 0.31831)
    """
    if not -1 <= c <= 1:
        raise InputError(f"c must be a correlation in [-1, 1], got {c!r}")
    phi, q = _at(activation, sigma_w, sigma_b, q)
    variance = sigma_b**2 + sigma_w**2 * finite_moments(phi, q).square
    if q == 0 or variance == 0:
        raise InputError(f"correlation is not defined at variance 0 (sigma_w={sigma_w:g}, sigma_b={sigma_b:g})")
    root = math.sqrt(q)
    product = correlated(lambda z: phi.function(root * z), mesh(phi, q).breaks, float(c))
    return (sigma_b**2 + sigma_w**2 * product) / variance


def correlation_slope(
    activation: ActivationSpec, sigma_w: float, sigma_b: float, c: float, q: float | None = None
) -> float:
    """The slope of the correlation map at `c` and a fixed point `q`: sigma_w^2 E[φ'(y1) φ'(y2)]; at c = 1 it is χ.

    Raises:
        InputError: As `correlation_map`.

    Example:
        >>> round(correlation_slope("relu", 2**0.5, 0.0, 0.0, q=1.0), 9)
        0.5
    """
    phi, q = _at(activation, sigma_w, sigma_b, q)
    if not -1 <= c <= 1:
        raise InputError(f"c must be a correlation in [-1, 1], got {c!r}")
    root = math.sqrt(q)
    return sigma_w**2 * correlated(lambda z: phi.derivative(root * z), mesh(phi, q).breaks, float(c))


def chi(activation: ActivationSpec, sigma_w: float, sigma_b: float, q: float | None = None) -> float:
    """χ = sigma_w^2 E[φ'(sqrt(q) Z)^2], the slope of the correlation map at c = 1.

    Below 1: ordered phase; above: chaotic; 1: the Edge of Chaos. Back-propagated gradients grow by χ a layer.
    At `q` None it is taken at the fixed point of the variance map; for scale-free activations it does not depend on q.

    Raises:
        InputError: As `fixed_point`, or a number is negative or not finite.

    Example:
        >>> round(chi("relu", 2**0.5, 0.0), 9), round(chi("tanh", 1.3041, 0.2), 3)
        (1.0, 1.0)
    """
    phi = resolved(activation)
    if q is None and phi.scale_free:
        check_number("sigma_b", sigma_b)
        return check_number("sigma_w", sigma_w) ** 2 * finite_moments(phi, 1.0).slope
    phi, q = _at(phi, sigma_w, sigma_b, q)
    return sigma_w**2 * finite_moments(phi, q).slope


def fixed_point(activation: ActivationSpec, sigma_w: float, sigma_b: float, start: float = 1.0) -> float:
    """The variance q = V(q) that a deep network settles at, coming from `start`.

    From `start` the variance climbs (V(start) > start) to the next fixed point above, or falls to the next one below,
    so an unstable fixed point is returned only where `start` is on it. Where every q is a fixed point (a scale-free
    activation on its edge) `start` is returned.

    Raises:
        InputError: The variance grows without bound, or a number is negative or not finite.

    Example:
        >>> round(fixed_point("tanh", 1.3041, 0.2), 3)
        0.512
        >>> fixed_point("relu", 1.0, 1.0)
        2.0
    """
    phi = resolved(activation)
    sigma_w, sigma_b, start = (
        check_number("sigma_w", sigma_w),
        check_number("sigma_b", sigma_b),
        check_number("start", start),
    )
    diverges = InputError(
        f"the variance of {phi.name} diverges at sigma_w={sigma_w:g}, sigma_b={sigma_b:g} from {start:g}: "
        "choose a smaller sigma_w"
    )
    if phi.scale_free:
        rate = sigma_w**2 * finite_moments(phi, 1.0).square
        if abs(rate - 1) < 1e-12 and sigma_b == 0:
            return start
        if rate >= 1 - 1e-12 and (start > 0 or sigma_b > 0):
            raise diverges
        return sigma_b**2 / (1 - rate) if start > 0 or sigma_b > 0 else 0.0

    def excess(q: float) -> float:
        return sigma_b**2 + sigma_w**2 * moments(phi, q).square - q

    low = high = max(start, _ZERO)
    step = excess(low)
    while step > 0 and high < _LARGE:
        low, high = high, 2 * high
        step = excess(high)
    if not step <= 0:
        raise diverges
    if low == high:
        while excess(low) < 0:
            if low <= _ZERO:
                return 0.0
            low, high = low / 2, low
    return bisect(excess, low, high)


def _at(activation: ActivationSpec, sigma_w: float, sigma_b: float, q: float | None) -> tuple[Activation, float]:
    phi = resolved(activation)
    check_number("sigma_w", sigma_w)
    check_number("sigma_b", sigma_b)
    return phi, fixed_point(phi, sigma_w, sigma_b) if q is None else check_number("q", q)
