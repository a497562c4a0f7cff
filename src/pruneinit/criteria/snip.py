"""Sensitivity-based pruning, SBP in the paper, the same score as SNIP."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.gradients import gradients
from pruneinit.functional import Loss, Norm, cross_entropy, effective_weights
from pruneinit.masks import Masks
from pruneinit.sharded import anywhere, local


@dataclass(frozen=True)
class Snip:
    """Keep the weights whose removal changes the loss most, to first order: |W · ∂L/∂W|.

    Source: Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity" (2019);
    Hayou et al. 2021, equation 2. Several batches are averaged at the gradient, before the absolute value.

    Cost: one forward and backward pass over the batches; memory for one gradient of the weights.

    Attributes:
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers.
        loss: `loss(model, batch)`, a scalar averaged over the batch.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> {name: tuple(s.shape) for name, s in Snip()(model, [(x, y)]).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    norm: Norm | None = None
    loss: Loss = cross_entropy

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights. A warning says if all of them are 0.

        Raises:
            InputError: As `gradients` does: no batches, one that does not fit, a loss that is not finite.
        """
        weights = effective_weights(model, masks)
        scores = {}
        for name, gradient in gradients(model, batches, loss=self.loss, norm=self.norm, masks=masks).items():
            # In float32 at least, like the gradient: a product of two small bfloat16 numbers underflows.
            scores[name] = (weights[name].to(gradient.dtype) * gradient).abs()
        if not anywhere([name for name, score in scores.items() if bool(local(score).any())], scores):
            warnings.warn(
                "every score is 0, so that masks would go by position alone: no gradient reaches a weight; check that "
                "the inputs are not all zero, and what signal passes (diagnose)",
                stacklevel=2,
            )
        return scores
