"""Ordered or chaotic, and over how many layers: what the slopes of the maps say."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from pruneinit.meanfield.maps import chi, correlation_map, correlation_slope, fixed_point, variance_slope
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

Phase = Literal["ordered", "edge", "chaotic"]


class DepthScales(NamedTuple):
    """Layers after which a deviation from the fixed point has shrunk by e; infinite where it does not shrink.

    Attributes:
        variance: ξ_q.
        correlation: ξ_c.
    """

    variance: float
    correlation: float


def phase(activation: ActivationSpec, sigma_w: float, sigma_b: float, tolerance: float = 1e-3) -> Phase:
    """The phase of a wide network: `"ordered"` (χ < 1), `"edge"` or `"chaotic"` (χ > 1).

    Args:
        activation: As `activation` takes it.
        sigma_w: Standard deviation of the weights times sqrt(fan-in).
        sigma_b: Standard deviation of the biases.
        tolerance: |χ - 1| that still counts as the edge: 1e-3 is felt only over 1000 layers.

    Raises:
        InputError: The variance has no fixed point (except that of scale-free activations off their edge, where χ
            does not need one), or a number is negative or not finite.

    Example:
        >>> phase("relu", 1.0, 0.0), phase("relu", 2**0.5, 0.0), phase("tanh", 2.0, 0.2)
        ('ordered', 'edge', 'chaotic')
    """
    slope = chi(activation, sigma_w, sigma_b)
    if abs(slope - 1) > tolerance:
        return "ordered" if slope < 1 else "chaotic"
    if sigma_b > 0:
        fixed_point(activation, sigma_w, sigma_b)  # χ = 1 with a variance that grows without bound is no edge.
    return "edge"


def correlation_fixed_point(activation: ActivationSpec, sigma_w: float, sigma_b: float) -> float:
    """The correlation c* that any two inputs end up with: 1 in the ordered phase and on the edge, below it in chaos.

    Raises:
        InputError: As `fixed_point`, or the variance is 0.

    Example:
        >>> correlation_fixed_point("tanh", 1.0, 0.2), round(correlation_fixed_point("tanh", 2.0, 0.0), 6)
        (1.0, 0.0)
    """
    phi = resolved(activation)
    q = fixed_point(phi, sigma_w, sigma_b)
    if chi(phi, sigma_w, sigma_b, q) <= 1 + 1e-9:
        return 1.0
    # C is a power series in c with coefficients >= 0: convex on [0, 1], so it crosses the diagonal once below 1.
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        above = correlation_map(phi, sigma_w, sigma_b, middle, q) > middle
        low, high = (middle, high) if above else (low, middle)
    return low


def depth_scales(activation: ActivationSpec, sigma_w: float, sigma_b: float) -> DepthScales:
    """ξ_q and ξ_c of Schoenholz et al. (2017), in layers: how far variance and correlation carry information.

    ξ_q = -1/log of the slope of the variance map at q; ξ_c = -1/log of the slope of the correlation map at its fixed
    point, which is χ in the ordered phase. On the edge ξ_c is infinite (exactly: as far as sigma_w has digits).

    Raises:
        InputError: As `correlation_fixed_point`.

    Example:
        >>> [round(scale, 2) for scale in depth_scales("tanh", 1.0, 0.2)]
        [1.94, 4.01]
    """
    phi = resolved(activation)
    q = fixed_point(phi, sigma_w, sigma_b)
    c = correlation_fixed_point(phi, sigma_w, sigma_b)
    return DepthScales(
        _scale(variance_slope(phi, sigma_w, sigma_b, q)), _scale(correlation_slope(phi, sigma_w, sigma_b, c, q))
    )


def _scale(slope: float) -> float:
    # At 1e-9 from 1 the digits of sigma_w decide, and the scale is beyond any depth.
    if abs(slope) > 1 - 1e-9:
        return math.inf
    return -1 / math.log(abs(slope)) if slope else 0.0
