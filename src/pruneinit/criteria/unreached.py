"""What is said of weights that no derivative of the loss reaches."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

from torch import Tensor

from pruneinit.radix import chunks
from pruneinit.sharded import anywhere, local

_NAMED = 3  # weights of a warning that are named; the others are counted


def warn_unreached(names: Collection[str], total: int) -> None:
    """Warn that the loss does not depend on the weights `names` of `total`; not where there are none, or where all are.

    Example:
        >>> import pytest
        >>> with pytest.warns(UserWarning, match="does not depend on 1 of 2 weights, which score 0: head.weight;"):
        ...     warn_unreached(["head.weight"], 2)
    """
    if not names or len(names) == total:
        return
    named = ", ".join(list(names)[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    warnings.warn(
        f"the loss does not depend on {len(names)} of {total} weights, which score 0: {named}; leave them out with "
        "exclude= to keep them whole, or use a loss that reaches them",
        stacklevel=3,
    )


def warn_if_zero(scores: Mapping[str, Tensor]) -> None:
    """Warn that every score is 0, where that is so.

    Example:
        >>> import pytest, torch
        >>> with pytest.warns(UserWarning, match="every score is 0"):
        ...     warn_if_zero({"weight": torch.zeros(2, 2)})
    """
    nonzero = [
        name for name, score in scores.items() if any(bool(part.any()) for _, part in chunks(local(score), score.dtype))
    ]
    if not anywhere(nonzero, scores):
        warnings.warn(
            "every score is 0, so that masks would go by position alone: no derivative reaches a weight; check that "
            "the inputs are not all zero, and what signal passes (diagnose)",
            stacklevel=4,
        )
