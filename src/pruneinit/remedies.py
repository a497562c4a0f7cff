"""What helps where one threshold starves some layers: the paper's remedies, by what the score moments show."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNEVEN = 100  # Score moments further apart than this leave some layers next to nothing.
_TREND = 0.8  # A rank correlation with depth that is no accident.


def remedy(conditioning: float, *, branches: int, stable: bool, off_edge: bool) -> str:
    """One sentence or two about layers that one global threshold starves.

    Args:
        conditioning: The largest score moment over the smallest.
        branches: How many residual branches the network has.
        stable: Whether they are divided already.
        off_edge: Whether the network is off the Edge of Chaos.

    Example:
        >>> remedy(1e4, branches=15, stable=False, off_edge=False).split(": ")[1]
        'stabilize_residuals_(model, example), the Stable ResNet.'
    """
    if conditioning < UNEVEN:
        return "Take fewer weights away, or share the sparsity out by layer: prune(..., scope='erk')."
    size = "without bound" if math.isinf(conditioning) else f"by a factor of {rounded(conditioning)}"
    text = f"The layers' score moments differ {size}, so one threshold starves some of them. "
    if branches and not stable:
        return text + "Divide the residual branches: stabilize_residuals_(model, example), the Stable ResNet."
    if off_edge:
        return text + "Initialise on the Edge of Chaos: edge_of_chaos_(model)."
    return text + "Share the sparsity out by layer: prune(..., scope='erk')."


def drifts(moments: Sequence[float]) -> bool:
    """Whether score moments rise or fall with depth, as they do off the Edge of Chaos: by rank, the ends left out.

    Example:
        >>> drifts([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]), drifts([1.0, 9.0, 2.0, 8.0, 3.0, 7.0])
        (True, False)
    """
    inner = moments[1:-1]
    if len(inner) < 4 or min(inner) <= 0:
        return False
    order = sorted(range(len(inner)), key=lambda i: inner[i])
    middle = (len(inner) - 1) / 2
    spread = sum((i - middle) ** 2 for i in range(len(inner)))
    return abs(sum((rank - middle) * (place - middle) for rank, place in enumerate(order)) / spread) > _TREND


def rounded(factor: float) -> str:
    """A factor to one digit above 10, and two below; as a power of ten where it is large.

    Example:
        >>> [rounded(factor) for factor in (1.44, 9.96, 14.0, 96.0, 8_900.0, 9e5)]
        ['1.4', '10', '10', '100', '9,000', '10^6']
    """
    if factor < 9.95:
        return f"{factor:.2g}"
    return f"{float(f'{factor:.1g}'):,.0f}" if factor < 99_500 else f"10^{round(math.log10(factor))}"
