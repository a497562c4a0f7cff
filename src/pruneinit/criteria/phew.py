"""Paths with higher edge-weights, found by random walks."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, each, mapped
from pruneinit.errors import InputError, check_seed
from pruneinit.functional import Loss, call, cross_entropy, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import groups_of, together
from pruneinit.reach import reacher
from pruneinit.seeds import derived
from pruneinit.walks import Walker, first_visits
from pruneinit.wiring import wiring


@dataclass(frozen=True)
class Phew:
    """Keep the weights that random walks from input to output meet first: PHEW, paths with higher edge-weights.

    Half of the walks go forward from the input, half backward from the output, in turn, each starting at the next
    unit. At a unit, the next weight is drawn with probability |w| / Σ|w| over all weights that lead on: to every layer
    that reads the unit, or back to every unit that is read. Of a convolution a walk so meets a single weight, its
    kernel with probability proportional to Σ|w|. The score falls with the order of the first visit, so that any number
    can be kept; weights that no walk met come after all that one did, by magnitude.

    Up to the weights that walks met, what is kept lies on whole paths over channels and features (the last walk cut
    short). Which places of a map a path takes is not followed, but for weights that reach nothing from any place.

    Where the paper or its code say less: between the layers that read a sum, or the features of a flattened channel,
    the weights decide, where the code of the authors draws them evenly. A path that has come to an output ends only
    where nothing reads on.

    Source: Patil, Dovrolis, "PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well without Training
    Data" (2021), section 4, and the code of the authors.

    Cost: three forward passes of one example to see what feeds what (no data enters the scores), some backward ones
    for each layer, and walks: 2,048 at a time, until `coverage` is met. Memory for about 60 bytes a weight.

    Attributes:
        coverage: The fraction of the weights to be met by walks, in (0, 1]; at least the density that is to be kept.
            Small weights are met late: walks also end where as many again find less than a hundredth more.
        seed: Of the walks.
        loss: Runs the model on a batch; all tensors that it returns are outputs.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> batch = torch.randn(4, 3), torch.randint(2, (4,))
        >>> {name: tuple(s.shape) for name, s in Phew(seed=1)(model, [batch]).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    coverage: float = 0.2
    seed: int = 0
    loss: Loss = field(default=cross_entropy, repr=False)

    def __post_init__(self) -> None:
        """See that the coverage and the seed are such."""
        check_seed(self.seed)
        number = isinstance(self.coverage, numbers.Real) and not isinstance(self.coverage, bool)
        if not number or not 0 < self.coverage <= 1:
            raise InputError(f"coverage must be a number in (0, 1], got {self.coverage!r}")

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights, in float64: so exact are their ranks.

        Raises:
            InputError: There are no batches, one does not fit the model, a weight is not finite, or the paths through
                an operation cannot be walked.
        """
        return together(lambda: self._scores(model, _first(next(iter(each(batches)))), masks), groups_of(model))

    def _scores(self, model: nn.Module, batch: Any, masks: Masks | None) -> dict[str, Tensor]:
        values = effective_weights(model, None) | effective_weights(model, masks)
        for name, value in values.items():
            if not bool(value.isfinite().all()):
                raise InputError(f"{name} holds NaN or infinite values: initialise the model again")
        live = reacher(model, [batch], self.loss)(Masks({name: value != 0 for name, value in values.items()}))
        with scoring_mode(model, "running"):
            wires = call(model, batch, lambda net, part: wiring(net, part, self.loss, values), values)
        sizes = {name: value.abs().double().cpu().reshape(-1) for name, value in values.items()}
        magnitudes = {name: size * live[name].cpu().reshape(-1) for name, size in sizes.items()}
        names = values if masks is None else masks
        wanted = torch.cat([torch.full((len(size),), name in names) for name, size in sizes.items()])
        generator = torch.Generator().manual_seed(derived("phew walks", self.seed))
        order = first_visits(Walker(wires, magnitudes), wanted, self.coverage, generator)
        # Magnitudes between 0 and 1 for those that were not met, and whole numbers above for those that were.
        largest = max(float(size.max()) for size in sizes.values()) or 1.0
        scores = torch.cat(list(sizes.values())) / largest
        scores[order] = torch.arange(len(order), 0, -1, dtype=torch.float64) + 1
        parts = dict(zip(sizes, torch.split(scores, [len(size) for size in sizes.values()]), strict=True))
        return {name: parts[name].reshape(values[name].shape).to(values[name].device) for name in names}


def _first(batch: Any) -> Any:
    """The first example of a batch, as a batch."""
    size = batch_size(batch)
    return mapped(
        lambda leaf: (
            (leaf[:1] if leaf.dim() and len(leaf) == size else leaf).detach().clone()
            if isinstance(leaf, Tensor)
            else leaf
        ),
        batch,
    )
