"""Layer-adaptive magnitude pruning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.functional import effective_weights
from pruneinit.masks import Masks
from pruneinit.sharded import matching, whole


@dataclass(frozen=True)
class Lamp:
    """Keep the weights that make up the largest part of what is left of their layer: W² / Σ W'² over W' not smaller.

    Within a layer the order is that of `Magnitude`. The largest weight of a layer has score 1, and no other has more
    than 1/2, so that under one global threshold every layer keeps at least one weight, unless all of its weights are
    zero. Among weights of equal size the first one counts as the largest, as it does in `select`.

    Source: Lee, Park, Mo, Ahn, Shin, "Layer-adaptive Sparsity for the Magnitude-based Pruning" (2021).

    Cost: no pass through the model; a sort of each layer, in memory of about 40 bytes a weight of the largest one.
    Of a sharded model every process gathers one layer at a time.

    Example:
        >>> model = nn.Linear(3, 1)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, -2.0, 2.0]]))
        >>> Lamp()(model)["weight"]
        tensor([[0.1111, 1.0000, 0.5000]])
    """

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights."""
        return {name: matching(_parts(whole(w)), w) for name, w in effective_weights(model, masks).items()}


def _parts(weight: Tensor) -> Tensor:
    size = weight.double().abs().reshape(-1)
    # Sums of many small squares: in float64, and relative to the largest so that none overflows.
    squares, order = (size / size.max()).square().sort(descending=True, stable=True)
    scores = torch.empty_like(squares).scatter_(0, order, squares / squares.cumsum(0))
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return scores.nan_to_num(0.0).to(dtype).reshape(weight.shape)  # 0 / 0 in a layer of zeros
