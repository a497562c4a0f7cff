"""Random pruning at densities that fall with depth."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.errors import InputError, check_seed
from pruneinit.masks import Masks, check_masks
from pruneinit.reparametrize import stored
from pruneinit.seeds import derived
from pruneinit.sharded import matching, whole
from pruneinit.weights import listed


@dataclass(frozen=True)
class SmartRatio:
    """Keep random weights, the fewer the deeper: in proportion to (L - l + 1)² + (L - l + 1), 30 % of the last layer.

    The score of the i-th weight of a layer of n, in a random order, is r n / (i - 1/2) with r the layer's ratio, so
    that one global threshold λ leaves r n / λ of it, rounded, or all; select with scope `"global"`. Of the last linear
    layer, 30 % come before all other weights, and the rest after them: at a sparsity so high that those 30 % are all
    there is to keep, nothing is left of the other layers.

    Where r / λ is above 1 the layer is whole and all others share the rest; the authors' code gives it to the next
    layers in their order. L counts all weights of `prunable(model)`, in their order.

    Source: Su, Chen, Cai, Wu, Gao, Wang, Lee, "Sanity-Checking Pruning Methods: Random Tickets can Win the Jackpot"
    (2020).

    Cost: no pass through the model; a permutation and float64 scores, 16 bytes a weight. Of a sharded model every
    process draws each layer whole, and keeps its part.

    Attributes:
        seed: Of the random numbers; the same seed gives the same scores on every device.
        last: The density of the last linear layer.
        power: The ratio of layer l is divided by l to this power. The authors' code takes 2 for VGG networks, which are
            widest at their end, and 0 for residual ones.

    Example:
        >>> from pruneinit import prune
        >>> model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 10))
        >>> prune(model, SmartRatio(), sparsity=0.7).densities      # 12 : 6, and 30 %
        {'0.weight': 0.4, '1.weight': 0.2, '2.weight': 0.3}
    """

    seed: int = 0
    last: float = 0.3
    power: float = 0.0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not _is_number(self.last) or not 0 <= self.last <= 1:
            raise InputError(f"last must be a density in [0, 1], got {self.last!r}")
        if not _is_number(self.power) or not 0 <= self.power < math.inf:
            raise InputError(f"power must be a finite number, at least 0, got {self.power!r}")

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights; 0 for what the masks remove."""
        weights = listed(model)
        masks = None if masks is None else check_masks(masks, {name: found.shape for name, found in weights.items()})
        depth = len(weights)
        last = next((name for name in list(weights)[::-1] if weights[name].kind == "linear"), None)
        ratios = {
            name: ((depth - i) ** 2 + depth - i) / (i + 1) ** self.power
            for i, name in enumerate(weights)
            if name != last
        }
        above = max((2 * ratio * weights[name].numel for name, ratio in ratios.items()), default=1.0)
        below = min(ratios.values(), default=1.0)
        scores = {}
        for name in weights if masks is None else masks:
            size = weights[name].numel
            place = torch.arange(1, size + 1, dtype=torch.float64)
            if name == last:
                # Each group between its own bounds: above all other weights, and below them.
                first = place <= round(self.last * size)
                score = torch.where(first, above * (1 + 1 / place), below / place)
            else:
                score = ratios[name] * size / (place - 0.5)
            kept = None if masks is None else whole(masks[name]).cpu()
            scores[name] = matching(self._spread(name, score, weights[name].shape, kept), stored(model, name))
        return scores

    def _spread(self, name: str, score: Tensor, shape: tuple[int, ...], kept: Tensor | None) -> Tensor:
        """The largest scores put on the kept weights of a layer in a random order, and zeros on the others."""
        generator = torch.Generator().manual_seed(derived("smart ratio", self.seed, name))
        order = torch.randperm(score.numel(), generator=generator)
        if kept is not None:
            order = order[kept.reshape(-1)[order]]
        return torch.zeros_like(score).scatter_(0, order, score[: order.numel()]).reshape(shape)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
