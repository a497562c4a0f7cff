"""The paper's upper bounds on the critical sparsity (Hayou et al. 2021, theorems 1 and 2), on plain numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.checks import check_scale, check_widths
from pruneinit.meanfield.gaussian import bisect
from pruneinit.meanfield.laws import Law
from pruneinit.meanfield.maps import chi
from pruneinit.meanfield.quadrature import Array
from pruneinit.meanfield.spec import ActivationSpec


def snip_bound(depth: int, width: int, activation: ActivationSpec, sigma_w: float, sigma_b: float) -> float:
    """Theorem 1: E[s_cr] of SBP is at most (1/L)(1 + log(κ L N²)/κ), κ = |log χ|/8, up to O(1/(κ² √(L N²))).

    On the Edge of Chaos κ is 0 and there is no bound. In practice it says something only far off the edge or at great
    depth: it is above 1 as long as L κ < log(κ L N²).

    Args:
        depth: L, weight layers of width N.
        width: N.
        activation: φ.
        sigma_w: Weight scale.
        sigma_b: Bias scale.

    Returns:
        The bound without its rest, at most 1 (where it says nothing).

    Raises:
        InputError: A number is out of range, or there is no fixed point.

    Example:
        >>> snip_bound(100, 100, "tanh", 0.5, 0.05) < 1, snip_bound(100, 100, "relu", 2**0.5, 0.0)
        (True, 1.0)
    """
    width = check_widths([width, width])[0]
    if isinstance(depth, bool) or not isinstance(depth, (int, np.integer)) or not 1 <= depth <= 10**9:
        raise InputError(f"depth must be a whole number from 1 to 1e+09, got {depth!r:.30}")
    sigma_w, sigma_b = check_scale("sigma_w", sigma_w), check_scale("sigma_b", sigma_b)
    slope = chi(activation, sigma_w, sigma_b)
    kappa = abs(math.log(slope)) / 8 if slope > 0 else math.inf
    if kappa == math.inf:
        return min(1.0, 1 / depth)
    if kappa * depth * width**2 <= 1:
        return 1.0
    return min(1.0, (1 + math.log(kappa * depth * width**2) / kappa) / depth)


def magnitude_bound(widths: Sequence[int]) -> float:
    """Theorem 2: what E[s_cr] of MBP is at most in the limit of great depth, where one layer has the most inputs.

    Magnitude empties the layer of the smallest weights, that with the largest fan-in, l0. With Q_x the quantile of
    |N(0, 1)| and γ the smallest ratio of another layer's standard deviation to that of l0: if at every sparsity above
    x0 the chance P(|X| > γ Q_x) is at most (1 - x)^(γ^(2-ε)), then for n weights in layer l0
    E[s_cr] ≤ x0 + n (1 - x0)^(1 + γ^(2-ε)) / (1 + γ^(2-ε)), minimised over ε in (0, 2) and such x0.

    Returns:
        The bound, at most 1; 1 where no layer alone has the largest fan-in.

    Raises:
        InputError: The widths are no network's.

    Example:
        >>> magnitude_bound([100, 100, 100, 100]), magnitude_bound([100] * 300 + [1600] + [100] * 300) < 0.8
        (1.0, True)
    """
    widths = check_widths(widths)
    fans, sizes = widths[:-1], [a * b for a, b in itertools.pairwise(widths)]
    widest = max(range(len(fans)), key=lambda i: fans[i])
    others = [fan for i, fan in enumerate(fans) if i != widest]
    if not others or max(others) >= fans[widest]:
        return 1.0
    gamma = math.sqrt(fans[widest] / max(others))
    return min(1.0, _smallest(gamma, sizes[widest]))


def _smallest(gamma: float, size: int) -> float:
    normal = Law.single("normal", 0.0)
    thresholds = np.linspace(-6.0, 2.2, 2000)  # log Q_x
    density, left = normal.above(thresholds), normal.above(thresholds + math.log(gamma))
    best = 1.0
    for epsilon in np.linspace(0.01, 1.99, 100):
        power = gamma ** (2 - epsilon)
        holds = left <= density**power
        # The condition must hold at every sparsity above x0: beyond the last place where it does not.
        first = int(len(holds) - np.argmin(holds[::-1])) if not holds.all() else 0
        if first >= len(holds):
            continue
        from_here: Array = density[first:]
        best = min(best, float(np.min(1 - from_here + size * from_here ** (1 + power) / (1 + power))))
    return best


def magnitude_limit(widths: Sequence[int]) -> float:
    """The sharp form of theorem 2: the sparsity at which the layer of the largest fan-in is expected to be empty.

    The same argument without its last step: at great depth the other layers alone decide the threshold, and E[s_cr] is
    at most the sparsity at which layer l0 keeps less than one weight.

    Raises:
        InputError: The widths are no network's.

    Example:
        >>> widths = [100] * 30 + [400] + [100] * 30
        >>> magnitude_limit(widths) <= magnitude_bound(widths)
        True
    """
    widths = check_widths(widths)
    fans = widths[:-1]
    sizes = [a * b for a, b in itertools.pairwise(widths)]
    widest = max(range(len(fans)), key=lambda i: fans[i])
    laws = [Law.single("normal", -math.log(fan)) for fan in fans]

    def expected(threshold: float) -> float:
        return sizes[widest] * float(laws[widest].above(np.log([threshold]))[0]) - 1

    if expected(1e-6) <= 0:
        return 0.0
    last = bisect(expected, 1e-6, 1e3)
    kept = sum(size * float(law.above(np.log([last]))[0]) for law, size in zip(laws, sizes, strict=True))
    return 1 - kept / sum(sizes)
