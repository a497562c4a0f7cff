"""The phase diagram of an activation: what a wide network does at every (sigma_b, sigma_w), and its Edge of Chaos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pruneinit.errors import InputError
from pruneinit.meanfield.activations import Activation
from pruneinit.meanfield.edge import NoEdgeOfChaos, default_sigma_b, edge_of_chaos
from pruneinit.meanfield.gaussian import bisect, check_number, moments
from pruneinit.meanfield.quadrature import Array
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

_PER_OCTAVE = 6  # Knots in log q: six of them interpolate to about 8 digits.
_LAST = 40 * _PER_OCTAVE  # The knots reach from 2^-40 to 2^40, where variances count as 0 and as divergent.
_STENCIL = np.arange(-2, 4)  # Knots around the interval from 0 to 1.
_HALVINGS = 45
_NEARLY_ZERO = 1e-6
_FLAT = 1e-9  # A slope this close to 1 carries beyond any depth.


class EdgePoint(NamedTuple):
    """A point of the Edge of Chaos, and what the variance does there.

    Attributes:
        sigma_b: Standard deviation of the biases.
        sigma_w: Standard deviation of the weights times sqrt(fan-in).
        q: The variance of the pre-activations at the fixed point.
        variance_slope: By how much a small deviation from q grows in a layer.
        stable: Whether the variance stays at q; if not, it leaves it layer by layer, and with it the network the edge.
    """

    sigma_b: float
    sigma_w: float
    q: float
    variance_slope: float
    stable: bool

    @property
    def variance_scale(self) -> float:
        """ξ_q: the layers after which a deviation from q has shrunk by e; infinite where it does not shrink."""
        return float(_scales(np.array(self.variance_slope)))


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """What a wide network with one activation does, on a grid of sigma_b and sigma_w.

    Every grid has the shape [W, B]: a row for each sigma_w, a column for each sigma_b.

    Attributes:
        activation: The name of the activation.
        sigma_bs: Standard deviations of the biases, shape [B], rising.
        sigma_ws: Standard deviations of the weights times sqrt(fan-in), shape [W], rising.
        variance: The variance q that a deep network settles at, coming from 1; NaN where it grows without bound.
        chi: χ at q; NaN as the variance, except for scale-free activations, where it does not depend on q.
        phase: `"ordered"`, `"edge"` or `"chaotic"` as `phase` says, and `"diverges"` where it finds no fixed point.
        variance_scale: ξ_q in layers: a deviation from q has shrunk by e; infinite where it does not, NaN with q.
        gradient_scale: 1 / |log χ| in layers: the mean square gradient has shrunk (or, in chaos, grown) by e. In the
            ordered phase this is ξ_c, too: two inputs are as alike as can be told after a few times as many layers.
        edge: The Edge of Chaos, a point for each sigma_b that has one.
    """

    activation: str
    sigma_bs: Array
    sigma_ws: Array
    variance: Array
    chi: Array
    phase: NDArray[np.str_]
    variance_scale: Array
    gradient_scale: Array
    edge: tuple[EdgePoint, ...]


def phase_diagram(
    activation: ActivationSpec, sigma_bs: Sequence[float] | Array, sigma_ws: Sequence[float] | Array
) -> PhaseDiagram:
    """The phases of wide networks with `activation` on a grid, and the Edge of Chaos across it.

    Poole et al. (2016, arXiv 1606.05340) and Schoenholz et al. (2017, arXiv 1611.01232) draw it for tanh; Hayou et al.
    (2019, arXiv 1902.06853) give the edge of any activation. Variances come from a table of the Gaussian moments over
    log q, to about 7 digits; a grid of 40 by 40 takes less than a second for most activations.

    Args:
        activation: As `activation` takes it.
        sigma_bs: Standard deviations of the biases, rising, >= 0.
        sigma_ws: Standard deviations of the weights times sqrt(fan-in), rising, >= 0.

    Returns:
        `PhaseDiagram`, with grids of shape [len(sigma_ws), len(sigma_bs)].

    Raises:
        InputError: A scale is negative or not finite, the scales do not rise, or the activation is wrong.

    Example:
        >>> diagram = phase_diagram("tanh", sigma_bs=[0.05**0.5, 0.5], sigma_ws=[1.0, 2.0])
        >>> diagram.phase.tolist()
        [['ordered', 'ordered'], ['chaotic', 'chaotic']]
        >>> [round(point.sigma_w**2, 3) for point in diagram.edge]  # published: 1.76 at sigma_b^2 = 0.05
        [1.761, 2.401]
    """
    phi = resolved(activation)
    columns, rows = _rising("sigma_b", sigma_bs), _rising("sigma_w", sigma_ws)
    b, w = np.meshgrid(columns, rows)
    if phi.scale_free:
        variance, slope = _scale_free(phi, b, w)
        growth = np.where(np.isnan(variance), np.nan, slope)  # The map of the variance is a straight line.
    else:
        variance, slope, growth = _settled(phi, b, w)
    chi = w**2 * slope
    return PhaseDiagram(
        activation=phi.name,
        sigma_bs=columns,
        sigma_ws=rows,
        variance=variance,
        chi=chi,
        phase=_phases(chi, variance, b),
        variance_scale=_scales(w**2 * growth),
        gradient_scale=_scales(np.where(chi > 1, 1 / np.maximum(chi, 1), chi)),
        edge=edge_curve(phi, columns),
    )


def edge_curve(activation: ActivationSpec, sigma_bs: Sequence[float] | Array) -> tuple[EdgePoint, ...]:
    """The Edge of Chaos across `sigma_bs`; what has no edge is left out.

    Raises:
        InputError: As `phase_diagram`.

    Example:
        >>> [(point.sigma_b, round(point.sigma_w, 4)) for point in edge_curve("relu", [0.0, 0.5])]
        [(0.0, 1.4142)]
    """
    phi = resolved(activation)
    points = []
    for sigma_b in _rising("sigma_b", sigma_bs):
        try:
            points.append(edge_point(phi, float(sigma_b)))
        except NoEdgeOfChaos:
            continue
    return tuple(points)


def edge_point(activation: ActivationSpec, sigma_b: float | None = None) -> EdgePoint:
    """`edge_of_chaos`, and whether the variance is stable there.

    Raises:
        NoEdgeOfChaos: As `edge_of_chaos`.
        InputError: As `edge_of_chaos`.

    Example:
        >>> edge_point("gelu", 0.2).stable, edge_point("gelu", 0.5).stable
        (False, True)
    """
    phi = resolved(activation)
    sigma_b = default_sigma_b(phi) if sigma_b is None else check_number("sigma_b", sigma_b)
    sigma_w, q = edge_of_chaos(phi, sigma_b)
    slope = sigma_w**2 * moments(phi, q).growth
    stable = abs(slope) <= 1 + _FLAT
    if q == 0 and stable:  # The slope there is 1: only the variance a little above says whether it grows.
        stable = sigma_w**2 * moments(phi, _NEARLY_ZERO).square <= _NEARLY_ZERO
    return EdgePoint(sigma_b, sigma_w, q, slope, stable)


def _rising(name: str, values: Sequence[float] | Array) -> Array:
    numbers = np.array([check_number(name, value) for value in values])
    if not numbers.size or (np.diff(numbers) <= 0).any():
        raise InputError(f"{name}s must be one or more rising numbers, got {[float(n) for n in numbers[:4]]}")
    return numbers


def _scale_free(phi: Activation, b: Array, w: Array) -> tuple[Array, Array]:
    """The variance and E[φ'^2] of an activation with E[φ^2] = E[φ'^2] q."""
    slope = moments(phi, 1.0).slope
    rate = w**2 * slope
    settles = rate < 1 - 1e-12
    variance = np.full(b.shape, np.nan)
    variance[settles] = b[settles] ** 2 / (1 - rate[settles])
    variance[(np.abs(rate - 1) < 1e-12) & (b == 0)] = 1.0
    return variance, np.full(b.shape, slope)


def _settled(phi: Activation, b: Array, w: Array) -> tuple[Array, Array, Array]:
    """The fixed point reached from 1, and E[φ'^2] and dE[φ^2]/dq there."""
    shape, b, w = b.shape, b.ravel(), w.ravel()
    found = np.full((b.size, 4), np.nan)  # q and the three moments
    interval, kind = _brackets(phi, b, w)
    found[kind == "zero"] = 0.0, *moments(phi, 0.0)
    found[kind == "start"] = 1.0, *moments(phi, 1.0)
    inside = np.flatnonzero(kind == "inside")
    if inside.size:
        found[inside] = _interpolated(phi, b[inside], w[inside], interval[inside])
    for i in inside[~np.isfinite(found[inside]).all(axis=1)]:  # Next to where the moments become infinite.
        q = _exact(phi, float(b[i]), float(w[i]), int(interval[i]))
        found[i] = q, *moments(phi, q)
    variance, _, slope, growth = (column.reshape(shape) for column in found.T)
    return variance, slope, growth


def _brackets(phi: Activation, b: Array, w: Array) -> tuple[NDArray[np.int_], NDArray[np.str_]]:
    """Between which knots the variance settles, knot k being 2^(k/6), and where that is not so.

    The kind is `"inside"` an interval, at the `"start"`, at `"zero"`, or `""` where it grows without bound. Knots are
    only evaluated as far as any point of the grid gets.
    """

    def excess(k: int) -> Array:
        square = moments(phi, _knot(k)).square
        with np.errstate(invalid="ignore"):  # 0 times infinity, at sigma_w = 0
            return b**2 + np.where(w > 0, w**2 * square, 0.0) - _knot(k)

    first = excess(0)
    interval = np.zeros(b.size, dtype=np.int_)
    kind = np.where(first == 0, "start", np.where(first < 0, "zero", "")).astype("<U6")
    for sign in (1, -1):
        walking = first * sign > 0
        for k in range(1, _LAST + 1):
            if not walking.any():
                break
            there = walking & ~(excess(sign * k) * sign > 0)
            interval[there], kind[there] = (k - 1 if sign > 0 else -k), "inside"
            walking &= ~there
    return interval, kind


def _interpolated(phi: Activation, b: Array, w: Array, interval: NDArray[np.int_]) -> Array:
    """The variance and the moments at the fixed point within each interval, shape [P, 4]; NaN where a knot has none."""
    used, place = np.unique(interval, return_inverse=True)
    table = np.array([[moments(phi, _knot(int(k + j))) for j in _STENCIL] for k in used])[place]

    def at(t: Array) -> Array:
        return np.asarray(np.einsum("pj,pjm->pm", _lagrange(t), table))

    with np.errstate(invalid="ignore"):
        low, high = np.zeros(b.size), np.ones(b.size)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            above = b**2 + w**2 * at(middle)[:, 0] > _knots(interval + middle)
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.column_stack([_knots(interval + low), at(low)])


def _exact(phi: Activation, sigma_b: float, sigma_w: float, k: int) -> float:
    """The fixed point between knots `k` and `k` + 1, without the knots around them."""
    return bisect(lambda q: sigma_b**2 + sigma_w**2 * moments(phi, q).square - q, _knot(k), _knot(k + 1))


def _lagrange(t: Array) -> Array:
    """The weights with which the knots of the stencil enter at `t` in [0, 1], shape [P, 6]."""
    weights = [np.prod([(t - m) / (j - m) for m in _STENCIL if m != j], axis=0) for j in _STENCIL]
    return np.stack(weights, axis=-1)


def _knots(k: Array) -> Array:
    return np.asarray(2.0 ** (k / _PER_OCTAVE), dtype=np.float64)


def _knot(k: int) -> float:
    return float(2.0 ** (k / _PER_OCTAVE))


def _phases(chi: Array, variance: Array, b: Array) -> NDArray[np.str_]:
    """As `phase`, with its tolerance."""
    edge = np.abs(chi - 1) <= 1e-3
    phases = np.where(edge, "edge", np.where(chi < 1, "ordered", "chaotic"))
    return np.where(np.isnan(chi) | (edge & np.isnan(variance) & (b > 0)), "diverges", phases)


def _scales(slopes: Array) -> Array:
    """-1 / log of the slopes: infinite from 1 on, NaN where there is no slope."""
    size = np.abs(slopes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 1 - _FLAT, math.inf, -1 / np.log(size))
