"""Random pruning, the baseline that every criterion must beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.errors import check_seed
from pruneinit.masks import Masks, check_masks
from pruneinit.reparametrize import stored
from pruneinit.seeds import derived
from pruneinit.sharded import matching
from pruneinit.weights import listed


@dataclass(frozen=True)
class Random:
    """Scores drawn uniformly from [0, 1), independent of weights and data.

    Source: the usual baseline, such as in Frankle, Dziugaite, Roy, Carbin, "Pruning Neural Networks at Initialization:
    Why Are We Missing the Mark?" (2021).

    Cost: no pass through the model. Of a sharded one every process draws each layer whole, and keeps its part.

    Attributes:
        seed: Of the random numbers; the same seed gives the same scores on every device and every number of processes.

    Example:
        >>> Random(seed=1)(nn.Linear(2, 1))["weight"].shape
        torch.Size([1, 2])
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights.

        Raises:
            InputError: A mask is of another model.
        """
        generator = torch.Generator().manual_seed(derived("random scores", self.seed))
        scores = {}
        weights = listed(model)
        masks = None if masks is None else check_masks(masks, {name: found.shape for name, found in weights.items()})
        for name in masks if masks is not None else weights:
            score = torch.rand(weights[name].shape, generator=generator)
            scores[name] = matching(score, stored(model, name))
        return scores
