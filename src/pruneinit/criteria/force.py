"""FORCE: the sensitivity that a weight will have after pruning, with a way back for weights that are gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.gradients import gradients
from pruneinit.criteria.sensitivity import sensitivity_
from pruneinit.errors import check_whole
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks
from pruneinit.weights import weight


@dataclass(frozen=True)
class Force:
    """Keep the weights of largest |W · ∂L/∂W at W∘δ|, δ the masks of the round before; what is gone can come back.

    The gradient is that of the masked network, also for the weights that it lacks, and W is dense: a weight that is
    gone scores by what it would do if it was back. `prune` selects in each round from all weights (the survivors, of a
    sparsified model), and a single scoring of the whole network is that of `Snip`.

    Source: de Jorge, Sanyal, Behl, Torr, Rogez, Dokania, "Progressive Skeletonization: Trimming more fat from a network
    at initialization" (2021), with exponential schedule and, in the commands published with it, 60 rounds.

    Cost: one forward and backward pass over the batches a round; memory for one gradient of the weights.

    Attributes:
        rounds: How often `prune` scores and selects where it is not told.
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers.
        loss: `loss(model, batch)`, a scalar averaged over the batch.
        revives: Tells `prune` that weights may come back.

    Example:
        >>> import torch
        >>> from pruneinit.pruning import prune
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> prune(model, Force(rounds=5), [(x, y)], sparsity=0.5)
        Masks(2 weights, 20 of 40 kept, sparsity 0.5)
    """

    revives: ClassVar[bool] = True

    rounds: int = 60
    norm: Norm | None = None
    loss: Loss = field(default=cross_entropy, repr=False)

    def __post_init__(self) -> None:
        check_whole("rounds", self.rounds)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights. A warning says if all of them are 0.

        Raises:
            InputError: As `gradients` does: no batches, one that does not fit, a loss that is not finite.
        """
        found = gradients(model, batches, loss=self.loss, norm=self.norm, masks=masks)
        return sensitivity_(found, {name: weight(model, name).detach() for name in found})
