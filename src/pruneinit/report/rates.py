"""Which of several learning rates stands for all: the one that held-out training images speak for."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pruneinit.report.outcomes import Outcome

RATE = "training.lr"


def chosen_rate(rates: Mapping[float, Mapping[int, Outcome]]) -> float | None:
    """The learning rate with the best mean validation accuracy over the seeds that all rates have results of.

    Test data has no say. A rate at which a seed failed is taken only where that is so of all of them, and then one
    at which the fewest did. Of equals the smallest rate is chosen.

    Args:
        rates: The results of each rate by their seed.

    Returns:
        The rate; None where there are several and no seed has results of all.

    Example:
        >>> def of(seed, validation):
        ...     return Outcome(f"{seed}", None, {}, "1", validation_accuracy=validation)
        >>> chosen_rate({0.1: {0: of(0, 0.5), 1: of(1, 0.7)}, 0.01: {0: of(0, 0.6), 1: of(1, 0.8)}})
        0.01
    """
    if len(rates) == 1:
        return next(iter(rates))
    common = set.intersection(*(set(seeds) for seeds in rates.values()))
    if not common:
        return None

    def worth(rate: float) -> tuple[int, float, float]:
        found = [rates[rate][seed].validation_accuracy for seed in sorted(common)]
        values = [value for value in found if value is not None]
        return len(values) - len(found), math.fsum(values) / len(values) if values else 0.0, -rate

    return max(rates, key=worth)
