"""Means over examples that come in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pruneinit.batch import Batches, batch_size, blame, each


def mean(batches: Batches | None, part: Callable[[Any], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of `part(batch)` over batches, each counted by its number of examples.

    Raises:
        InputError: There are no batches, or a part is not finite because its batch is not.

    Example:
        >>> mean([torch.ones(3), torch.full((1,), 5.0)], lambda batch: {"w": batch.mean()})
        {'w': tensor(2.)}
    """
    total: dict[str, Tensor] = {}
    examples = 0
    for batch in each(batches):
        parts = part(batch)
        if not all(bool(value.isfinite().all()) for value in parts.values()):
            blame(batch)
        examples += batch_size(batch)
        for name, value in parts.items():
            # Not in place: two names may be given one and the same tensor.
            total[name] = total[name].lerp(value, batch_size(batch) / examples) if name in total else value
    return total


def fine(tensor: Tensor) -> Tensor:
    """The tensor in float32 or finer, in which a mean over many batches does not lose the later ones.

    Example:
        >>> fine(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
