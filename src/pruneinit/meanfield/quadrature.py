"""Gaussian expectations that are right at kinks.

Gauss-Hermite rules assume one smooth function on the whole line and lose all their digits at the corner of a ReLU.
Here the line is cut into panels, each with its own Gauss-Legendre rule. Panels end at the kinks that are known, and
every panel on which the function is not yet a polynomial (to rounding) is halved, which also finds kinks that are
not known and resolves steep parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

REACH = 10.0  # Standard deviations kept on each side; the normal density beyond is below 1e-22.
SMALLEST = 1e-13  # Panels this narrow are kept as they are: what they miss is below rounding.
_ORDER = 16
_TOLERANCE = 1e-12
_MOST_PANELS = 1 << 14  # Reached only by functions with numerical noise, which no panel is narrow enough for.
_MOST_POINTS = 1 << 20  # Points evaluated at a time by the inner rule: bounds memory.
_NODES, _WEIGHTS = legendre.leggauss(_ORDER)
# Values at the nodes -> Legendre coefficients of the interpolating polynomial.
_TO_COEFFICIENTS = (legendre.legvander(_NODES, _ORDER - 1) * _WEIGHTS[:, None]) * (np.arange(_ORDER) + 0.5)

# Between the last node and the end of a panel a kink would go unseen, so there the polynomial is compared with the
# function. Not at the end itself, where a known kink may be.
_ENDS = np.array([-1 + 1e-11, 1 - 1e-11])
_TO_ENDS = _TO_COEFFICIENTS @ legendre.legvander(_ENDS, _ORDER - 1).T


class Mesh(NamedTuple):
    """A composite rule: `sum(weights * f(points))` is the integral of a function f over the panels.

    Attributes:
        breaks: The ends of the panels, ascending, shape (P + 1,).
        points: Shape (P, 16), within each panel.
        weights: Shape (P, 16), without any density.
        values: What the resolved functions are at the points, shape (K, P, 16) for K functions.
    """

    breaks: Array
    points: Array
    weights: Array
    values: Array


def density(z: Array) -> Array:
    """The standard normal density."""
    return np.asarray(np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi), dtype=np.float64)


def rule(left: Array, right: Array) -> tuple[Array, Array]:
    """Gauss-Legendre points and weights on the panels [left, right], each of shape `left.shape + (16,)`.

    Example:
        >>> points, weights = rule(np.array([0.0]), np.array([1.0]))
        >>> round(float((weights * points**3).sum()), 12)
        0.25
    """
    half = 0.5 * (right - left)[..., None]
    return left[..., None] + half * (1 + _NODES), half * _WEIGHTS


def resolve(functions: Function, breaks: Array, gaussian: bool = True, floor: float = 0.0) -> Mesh:
    """Halve the panels between `breaks` until `functions` are polynomials on each, to 12 digits.

    Args:
        functions: Takes points of shape (...), returns the K functions' values, shape (K, ...).
        breaks: Ascending ends of the first panels, shape (P + 1,); kinks that are known belong here.
        gaussian: Judge the functions times the normal density (the tails then need no care); otherwise each panel on
            the scale of the largest value on it.
        floor: With `gaussian`, the size below which the functions count as noise.

    Returns:
        The mesh with the functions' values. A kink that was not among `breaks` ends in a panel narrower than about
        `SMALLEST` times the reach.

    Example:
        >>> mesh = resolve(lambda x: np.abs(x - 0.3)[None], np.array([-1.0, 1.0]))
        >>> round(float((mesh.weights * mesh.values[0]).sum()), 10)  # ((1.3)^2 + (0.7)^2) / 2
        1.09
    """
    left, right = breaks[:-1], breaks[1:]
    kept: list[tuple[Array, Array, Array]] = []
    panels, scale = 0, np.full((1, 1), floor)
    while left.size:
        points, _ = rule(left, right)
        ends = left[:, None] + 0.5 * (right - left)[:, None] * (1 + _ENDS)
        values, at_ends = np.split(functions(np.concatenate([points, ends], axis=1)), [_ORDER], axis=-1)
        with np.errstate(invalid="ignore", over="ignore"):
            tail = np.abs(values @ _TO_COEFFICIENTS)[..., -2:].max(axis=-1)
            tail = np.maximum(tail, 0.1 * np.abs(values @ _TO_ENDS - at_ends).max(axis=-1))
            largest = np.abs(values).max(axis=-1)
            if gaussian:
                nearest = np.where(left * right <= 0, 0.0, np.minimum(np.abs(left), np.abs(right)))
                share = density(nearest)
                scale = np.maximum(scale, (largest * density(0.5 * (left + right))).max(axis=-1, keepdims=True))
                rough = (tail * share > _TOLERANCE * scale).any(axis=0)
            else:
                rough = (tail > _TOLERANCE * (1 + largest)).any(axis=0)
        # Values that are not finite stay as they are, for the caller to see.
        rough &= np.isfinite(values).all(axis=(0, -1))
        rough &= right - left > SMALLEST * np.maximum(1, np.abs(left))
        if panels + left.size + np.count_nonzero(rough) > _MOST_PANELS:
            rough[:] = False
        panels += left.size - int(np.count_nonzero(rough))
        kept.append((left[~rough], right[~rough], values[:, ~rough]))
        middle = 0.5 * (left[rough] + right[rough])
        left, right = np.concatenate([left[rough], middle]), np.concatenate([middle, right[rough]])
    lefts, rights = np.concatenate([k[0] for k in kept]), np.concatenate([k[1] for k in kept])
    order = np.argsort(lefts, kind="stable")
    points, weights = rule(lefts[order], rights[order])
    values = np.concatenate([k[2] for k in kept], axis=1)[:, order]
    return Mesh(np.append(lefts[order], rights[order][-1]), points, weights, values)


def first_breaks(scale: float, kinks: tuple[float, ...] = ()) -> Array:
    """Panels on [-10, 10] standard deviations for functions of `scale * z`, to start `resolve` from.

    Besides the kinks there are breaks at every integer z, and at powers of two of `scale * z`: most activations do
    something of size one near the origin, which a wide Gaussian would otherwise step over.

    Example:
        >>> float(first_breaks(1.0, kinks=(0.3,))[[0, -1]].sum()), 0.3 in first_breaks(1.0, kinks=(0.3,))
        (0.0, True)
    """
    whole = np.arange(-REACH, REACH + 0.5)
    powers = 2.0 ** np.arange(-2, max(-1, int(np.ceil(np.log2(max(scale * REACH, 0.25))))))
    inner = np.concatenate([powers, -powers, np.asarray(kinks, dtype=np.float64)]) / scale
    return np.unique(np.concatenate([whole, inner[np.abs(inner) < REACH]]))


def correlated(function: Function, breaks: Array, c: float) -> float:
    """E[f(Z1) f(c Z1 + sqrt(1 - c^2) Z2)] for independent standard normals Z1, Z2.

    For each Z1 the expectation over Z2 is cut where its argument crosses one of `breaks`. What is left is a function
    of Z1 with a rounded corner of width sqrt(1 - c^2) at each kink; its panels are halved until they resolve that,
    so that correlations close to 1, and 1 itself, lose nothing.

    Args:
        function: f, a function of the standard normal variable (any scale is inside it).
        breaks: The mesh that resolves f (`Mesh.breaks`), from -10 to 10, no panel wider than 1.
        c: The correlation, in [-1, 1].

    Example:
        >>> round(correlated(lambda z: np.maximum(z, 0), first_breaks(1.0, (0.0,)), 1.0), 10)
        0.5
    """
    inner = smoothed(function, breaks, c)
    crossed = breaks / c if abs(c) > 0.1 else np.array([])  # Below, the smoothing is wider than the density.
    # Corners narrower than the first panels: put panels of their width on either side, which are halved from there.
    corner = REACH * np.sqrt((1 - c) * (1 + c))
    crossed = np.concatenate([crossed, crossed - corner, crossed + corner]) if corner < 1 else crossed
    outer = np.unique(np.concatenate([breaks, crossed[np.abs(crossed) < REACH]]))
    points, weights = rule(breaks[:-1], breaks[1:])
    # An odd f at c near 0 leaves only rounding in the inner expectation: measured against f it is seen to be nothing.
    size = float(np.sqrt((weights * density(points) * function(points) ** 2).sum()))
    mesh = resolve(lambda z: np.stack([inner(z)]), outer, floor=size)
    return float((mesh.weights * density(mesh.points) * function(mesh.points) * mesh.values[0]).sum())


def smoothed(function: Function, breaks: Array, c: float) -> Function:
    """The function z -> E[f(c z + sqrt(1 - c^2) Z)], for the mesh `breaks` of f as `correlated` takes it.

    Example:
        >>> relu_after_noise = smoothed(lambda z: np.maximum(z, 0), first_breaks(1.0, (0.0,)), 0.0)
        >>> round(float(relu_after_noise(np.zeros(1))[0]), 9), round(1 / (2 * np.pi) ** 0.5, 9)
        (0.39894228, 0.39894228)
    """
    spread = float(np.sqrt((1 - c) * (1 + c)))
    if spread == 0:
        return lambda z: function(c * z)
    grid = np.arange(-REACH, REACH + 1, 2.0)

    def rows(z: Array) -> Array:
        cuts = np.clip((breaks - c * z[:, None]) / spread, -REACH, REACH)
        ends = np.sort(np.concatenate([cuts, np.broadcast_to(grid, (z.size, grid.size))], axis=1), axis=1)
        left, right = ends[:, :-1], ends[:, 1:]
        row, panel = np.nonzero(right > left)
        t, weights = rule(left[row, panel], right[row, panel])
        terms = (weights * density(t) * function(c * z[row, None] + spread * t)).sum(axis=1)
        return np.bincount(row, weights=terms, minlength=z.size).astype(np.float64)

    def everywhere(z: Array) -> Array:
        flat = z.reshape(-1)
        step = max(1, _MOST_POINTS // (_ORDER * (breaks.size + grid.size)))
        parts = [rows(flat[start : start + step]) for start in range(0, flat.size, step)]
        return np.concatenate(parts).reshape(z.shape) if parts else np.zeros(z.shape)

    return everywhere
