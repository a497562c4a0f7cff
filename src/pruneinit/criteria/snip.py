"""Sensitivity-based pruning, SBP in the paper, the same score as SNIP."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.gradients import weights_and_gradients
from pruneinit.criteria.sensitivity import sensitivity_
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks


@dataclass(frozen=True)
class Snip:
    """Keep the weights whose removal changes the loss most, to first order: |W · ∂L/∂W|.

    Source: Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity" (2019);
    Hayou et al. 2021, equation 2. Several batches are averaged at the gradient, before the absolute value.

    Cost: one forward and backward pass over the batches; memory, beside the model and the activations, for the scores
    and the gradient of one weight at a time; where masks remove something, also for the masked weights.

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
    loss: Loss = field(default=cross_entropy, repr=False)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights.

        A warning names the weights that the loss does not depend on, or says that all scores are 0.

        Raises:
            InputError: As `gradients` does: no batches, one that does not fit, a loss that is not finite.
        """
        weights, scores = weights_and_gradients(model, batches, loss=self.loss, norm=self.norm, masks=masks)
        return sensitivity_(scores, weights)
