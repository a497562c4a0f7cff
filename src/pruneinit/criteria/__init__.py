"""Pruning criteria: each a small frozen dataclass, called `(model, batches, masks) -> scores`, larger = keep."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.magnitude import Magnitude
from pruneinit.criteria.phew import Phew
from pruneinit.criteria.random import Random
from pruneinit.criteria.snip import Snip
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks


class Criterion(Protocol):
    """What a criterion is: scores for the weights of `masks` (all prunable ones if None), larger = keep."""

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """A tensor of scores for each weight, of its shape. What `masks` removes counts as zero."""
        ...


__all__ = ["Batches", "Criterion", "Loss", "Magnitude", "Norm", "Phew", "Random", "Snip", "cross_entropy"]
