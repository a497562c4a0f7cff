"""SNIP in rounds, each of which scores what the rounds before it have left."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.snip import Snip
from pruneinit.errors import check_whole
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks


@dataclass(frozen=True)
class IterativeSnip:
    """Keep the weights of largest |W · ∂L/∂W| in the network that is left, a few fewer each round.

    A single scoring is that of `Snip`; `prune` repeats it on the masked network, and what is gone stays gone. A weight
    that did not matter among many may matter among few, so that far fewer layers are lost at high sparsities.

    Source: de Jorge, Sanyal, Behl, Torr, Rogez, Dokania, "Progressive Skeletonization: Trimming more fat from a network
    at initialization" (2021), where it is Iterative SNIP, with exponential schedule and, in the commands published with
    it, 60 rounds. Verdenius, Stol, Forré, "Pruning via Iterative Ranking of Sensitivity Statistics" (2020) does the
    same in 5 rounds, each of which halves the distance to the final sparsity (SNIP-it).

    Cost: one forward and backward pass over the batches a round; memory for one gradient of the weights.

    Attributes:
        rounds: How often `prune` scores and selects where it is not told.
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers.
        loss: `loss(model, batch)`, a scalar averaged over the batch.

    Example:
        >>> import torch
        >>> from pruneinit.pruning import prune
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> prune(model, IterativeSnip(rounds=5), [(x, y)], sparsity=0.5)
        Masks(2 weights, 20 of 40 kept, sparsity 0.5)
    """

    rounds: int = 60
    norm: Norm | None = None
    loss: Loss = field(default=cross_entropy, repr=False)

    def __post_init__(self) -> None:
        check_whole("rounds", self.rounds)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """The scores of one round for the weights of `masks`, or for all prunable weights.

        Raises:
            InputError: As `Snip` does.
        """
        return Snip(norm=self.norm, loss=self.loss)(model, batches, masks)
