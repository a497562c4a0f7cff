"""Magnitude-based pruning, MBP in the paper."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.products import fine
from pruneinit.functional import effective_weights
from pruneinit.masks import Masks


@dataclass(frozen=True)
class Magnitude:
    """Keep the weights of largest absolute value, |W|.

    At initialisation a layer's weights have variance σ_w² / fan-in, so under one global threshold the widest layer
    goes first (Hayou et al. 2021, section 3.2).

    Source: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks" (2015), for
    trained networks; at initialisation it is MBP of Hayou et al. 2021.

    Cost: no pass through the model.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> _ = torch.nn.init.constant_(model.weight, -3.0)
        >>> Magnitude()(model)
        {'weight': tensor([[3., 3.]])}
    """

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights, in float32 or finer."""
        return {name: fine(tensor).abs() for name, tensor in effective_weights(model, masks).items()}
