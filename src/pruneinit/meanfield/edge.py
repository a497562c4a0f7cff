"""The Edge of Chaos: where gradients neither vanish nor explode.

On the edge χ = sigma_w^2 E[φ'^2] = 1 at the fixed point q of the variance map, so that
q = sigma_b^2 + E[φ^2] / E[φ'^2]: one equation for q, after which sigma_w = E[φ'^2]^(-1/2) (Hayou et al., 2019).
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.activations import Activation
from pruneinit.meanfield.gaussian import bisect, check_number, moments
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

_VARIANCES = np.geomspace(1e-6, 1e6, 121)  # Where roots are looked for, ten to a decade.
_NOISE = 1e-9  # Relative; at sigma_b = 0 the two sides agree to more digits than float64 tells apart.


class Edge(NamedTuple):
    """A point of the Edge of Chaos.

    Attributes:
        sigma_w: Standard deviation of the weights times sqrt(fan-in).
        q: The variance of the pre-activations at the fixed point.
    """

    sigma_w: float
    q: float


class NoEdgeOfChaos(InputError):
    """The activation has no Edge of Chaos at this sigma_b."""


def edge_of_chaos(activation: ActivationSpec, sigma_b: float | None = None) -> Edge:
    """sigma_w and q that put a wide network with `activation` and biases N(0, sigma_b^2) on the Edge of Chaos.

    Three kinds of activation:

    - Scale-free (ReLU, leaky ReLU, identity): the edge is the single point sigma_b = 0. There every q is a fixed
      point; q = 1 is returned.
    - Saturating or concave enough (tanh, erf, hardtanh, sin, sigmoid, ELU, SELU): one sigma_w for every sigma_b > 0,
      and the variance settles at q. At sigma_b = 0, where φ(0) = 0, q is 0 and sigma_w is 1 / |φ'(0)|: signals fade,
      slowly, with depth.
    - SiLU, GELU, Mish, Hardswish: one sigma_w for every sigma_b, but for small sigma_b (below 0.745 for SiLU, 0.416 for
      GELU, 0.307 for Mish, 0.712 for Hardswish) the fixed point is unstable: the variance leaves it by a factor
      `variance_slope` > 1 a layer (1.10 for SiLU and GELU at sigma_b = 0.2), and with it the network leaves the edge.
      `default_sigma_b` avoids that.

    Where several q satisfy the equation, the one with the flattest variance map, which is the most stable, is chosen.

    Args:
        activation: As `activation` takes it.
        sigma_b: Standard deviation of the biases; None for `default_sigma_b(activation)`.

    Returns:
        `Edge(sigma_w, q)`.

    Raises:
        NoEdgeOfChaos: There is none: sigma_b > 0 for a scale-free activation, softplus for any sigma_b, or a fixed
            point outside [1e-6, 1e6].
        InputError: sigma_b is negative or not finite, or the activation is wrong.

    Example:
        >>> edge = edge_of_chaos("tanh", sigma_b=0.2)
        >>> round(edge.sigma_w, 4), round(edge.q, 3)
        (1.3041, 0.512)
        >>> edge_of_chaos("relu", sigma_b=0.1)
        Traceback (most recent call last):
        ...
        pruneinit.meanfield.edge.NoEdgeOfChaos: relu is on the Edge of Chaos only at sigma_b=0, with sigma_w=1.41421;
            got sigma_b=0.1
    """
    phi = resolved(activation)
    return _edge(phi, default_sigma_b(phi) if sigma_b is None else check_number("sigma_b", sigma_b))


def default_sigma_b(activation: ActivationSpec) -> float:
    """The sigma_b to take where none is asked for: 0 for scale-free activations, else 0.2, 0.5 or 1.

    It is the first of the three at which the variance is stable: 0.2 for tanh, erf, ELU and their like, 0.5 for GELU
    and Mish, 1 for SiLU and Hardswish (see `edge_of_chaos`). It matters: through 30 layers of width 600 the mean square
    gradient grows about 280 times for GELU and 20000 times for SiLU at 0.2, and falls to 0.4 and 0.25 of itself here.

    Raises:
        NoEdgeOfChaos: No sigma_b of these has a stable edge (softplus).

    Example:
        >>> default_sigma_b("relu"), default_sigma_b("tanh"), default_sigma_b("gelu")
        (0.0, 0.2, 0.5)
    """
    phi = resolved(activation)
    if phi.scale_free:
        return 0.0
    for sigma_b in (0.2, 0.5, 1.0):
        try:
            sigma_w, q = _edge(phi, sigma_b)
        except NoEdgeOfChaos:
            continue
        if sigma_w**2 * moments(phi, q).growth <= 1 + _NOISE:
            return sigma_b
    raise NoEdgeOfChaos(
        f"{phi.name} has no Edge of Chaos with a stable variance at sigma_b=0.2, 0.5 or 1: pass another sigma_b, or "
        "choose another activation, for example 'tanh' or 'relu'"
    )


@functools.lru_cache(maxsize=256)
def _edge(phi: Activation, sigma_b: float) -> Edge:
    if phi.scale_free:
        edge = Edge(_on_edge(phi, 1.0), 1.0)
        if sigma_b != 0:
            raise NoEdgeOfChaos(
                f"{phi.name} is on the Edge of Chaos only at sigma_b=0, with sigma_w={edge.sigma_w:g}; "
                f"got sigma_b={sigma_b:g}"
            )
        return edge
    roots = _roots(phi, sigma_b)
    if not roots:
        raise NoEdgeOfChaos(
            f"{phi.name} has no Edge of Chaos at sigma_b={sigma_b:g}: no variance in [1e-6, 1e6] is a fixed point "
            "with chi = 1; choose another sigma_b or activation"
        )
    edges = [Edge(_on_edge(phi, q), q) for q in roots]
    return min(edges, key=lambda e: abs(e.sigma_w**2 * moments(phi, e.q).growth))


def _on_edge(phi: Activation, q: float) -> float:
    slope = moments(phi, q).slope
    if not 0 < slope < math.inf:
        raise NoEdgeOfChaos(f"{phi.name} has no Edge of Chaos: its slope is zero everywhere; choose another activation")
    return 1 / math.sqrt(slope)


def _roots(phi: Activation, sigma_b: float) -> list[float]:
    """Every q with q = sigma_b^2 + E[φ^2] / E[φ'^2]."""

    def excess(q: float) -> float:
        square, slope, _ = moments(phi, q)
        if slope == 0 or not math.isfinite(square):
            return math.nan
        return (sigma_b**2 + square / slope) / q - 1

    noise = _NOISE if sigma_b == 0 else 0.0
    samples = [(float(q), excess(float(q))) for q in _VARIANCES]
    clear = [(q, r) for q, r in samples if abs(r) > noise or r == 0 < sigma_b]
    roots = []
    for (low, r), (high, s) in itertools.pairwise(clear):
        if r * s < 0:
            roots.append(bisect(excess, low, high))
    at_zero = moments(phi, 0.0)
    if sigma_b == 0 and at_zero.square == 0 < at_zero.slope:
        roots.append(0.0)
    return roots
