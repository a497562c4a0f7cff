"""Prospect pruning, ProsPr: which weights matter once the network has trained a little."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, blame, each
from pruneinit.criteria.products import (
    Parts,
    Tensors,
    filled,
    fine,
    gradient,
    hessian_product,
    leaves,
    mean,
    speeds,
    twice_differentiable,
    unseen,
)
from pruneinit.criteria.unreached import warn_if_zero, warn_unreached
from pruneinit.errors import InputError, check_positive, check_whole
from pruneinit.functional import Loss, Norm, cross_entropy, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import groups_of, together
from pruneinit.reparametrize import stored, tied_names
from pruneinit.sharded import require_whole
from pruneinit.weights import weight


@dataclass(frozen=True)
class ProsPr:
    """Keep the weights whose removal changes the loss most after a few steps of training: |∂L(w_k)/∂c| at c = 1.

    c multiplies the initial weights, w_0 = c · W, and k steps of SGD follow, each on a batch of its own:
    v_{i+1} = μ v_i + ∂L_i/∂w, w_{i+1} = w_i - α v_{i+1}. All trainable parameters move, biases and normalisation too.
    The derivative goes back through all steps exactly, by products with the Hessian of each. What masks or survivors
    have removed stays 0, scores 0 and does not move.

    Source: Alizadeh, Tailor, Zintgraf, van Amersfoort, Farquhar, Lane, Gal, "Prospect Pruning: Finding Trainable
    Weights at Initialization using Meta-Gradients" (2022). The defaults are those of the authors' command line; the
    example for their package has α = 0.5 and μ = 0.9.

    Cost: two forward passes, two backward passes and one backward pass through both for each step, a forward and a
    backward pass over the batches after. Memory for the graph of one batch and for k + 4 copies of the parameters.

    Attributes:
        steps: k, how many steps of SGD. So at least k + 1 batches are needed: the first k train, and L is the mean loss
            over all that follow. To use one batch for everything, give it k + 1 times.
            Of a model that several processes share, the i-th batches of all of them together are the i-th batch.
        learning_rate: α.
        momentum: μ, in [0, 1).
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers. The running ones do not change in the steps.
        loss: `loss(model, batch)`, a scalar averaged over the batch.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> batches = [(torch.randn(16, 3), torch.randint(2, (16,))) for _ in range(4)]
        >>> {name: tuple(s.shape) for name, s in ProsPr(steps=3)(model, batches).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    steps: int = 3
    learning_rate: float = 0.1
    momentum: float = 0.0
    norm: Norm | None = None
    loss: Loss = field(default=cross_entropy, repr=False)

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        check_positive("learning_rate", self.learning_rate)
        if isinstance(self.momentum, bool) or not isinstance(self.momentum, numbers.Real) or not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be a number in [0, 1), got {self.momentum!r}")

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights. A warning names those that L does not see.

        Raises:
            InputError: There are too few batches, one does not fit, a loss is not finite, or an operation has no second
                derivative.
        """
        require_whole(model)
        data = together(lambda: self._enough(batches), groups_of(model))
        with scoring_mode(model, self.norm), twice_differentiable(model):
            weights = effective_weights(model, masks)
            tensors = weights | _others(model, weights)
            speed = _speeds(model, tensors, masks)
            path = [{name: fine(tensor) for name, tensor in tensors.items()}]
            velocity = _zeros(path[0])
            for number, batch in enumerate(data[: self.steps]):
                slopes = filled(self._slopes(model, [batch], path[-1], tensors, number), path[0])
                velocity = {n: self.momentum * velocity[n] + slope for n, slope in slopes.items()}
                path.append({n: w - self.learning_rate * speed[n] * velocity[n] for n, w in path[-1].items()})
            after = self._slopes(model, data[self.steps :], path[-1], tensors, self.steps)
            warn_unreached(unseen(after, weights), len(weights))
            first = self._back(model, data[: self.steps], path, filled(after, path[0]), tensors, speed)
        found = {name: (path[0][name] * first[name]).abs() for name in weights}
        warn_if_zero(found)
        return found

    def _enough(self, batches: Batches | None) -> list[Any]:
        data = list(each(batches))
        if len(data) <= self.steps:
            raise InputError(
                f"ProsPr(steps={self.steps}) needs at least {self.steps + 1} batches, one for each step and one "
                f"for the loss after them, got {len(data)}: give more or smaller ones, or take fewer steps"
            )
        return data

    def _slopes(self, model: nn.Module, batches: list[Any], point: Tensors, like: Tensors, number: int) -> Parts:
        """The gradient of the mean loss after `number` steps, where the model has the tensors of `point`."""
        variables = leaves(point, like)
        try:
            return mean(model, batches, lambda batch: gradient(model, batch, self.loss, variables), like)
        except InputError as error:
            if number == 0:
                raise
            for batch in batches:
                blame(batch)
            raise InputError(
                f"after {number} steps with learning_rate={self.learning_rate:g}: {error}; a lower one may help"
            ) from error

    def _back(
        self,
        model: nn.Module,
        batches: list[Any],
        path: list[dict[str, Tensor]],
        slopes: Tensors,
        like: Tensors,
        speed: Tensors,
    ) -> Tensors:
        """The derivative of L by the first tensors of the path, from that by the last, step by step backwards."""
        pull = _zeros(path[0])  # the derivative by the velocity
        for point, batch in reversed(list(zip(path[:-1], batches, strict=True))):
            pull = {n: self.momentum * pull[n] - self.learning_rate * speed[n] * slope for n, slope in slopes.items()}
            bent = self._bent(model, batch, leaves(point, like), pull)
            slopes = {n: slopes[n] + b for n, b in filled(bent, point).items()}
        return slopes

    def _bent(self, model: nn.Module, batch: Any, variables: Tensors, pull: Tensors) -> Parts:
        return mean(model, [batch], lambda one: hessian_product(model, one, self.loss, variables, pull), variables)


def _others(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters that move with the weights but are not scored, tied ones once; copies."""
    tied = tied_names(model)
    seen = {alias for name in weights for alias in tied[name]}
    found = {}
    for name, aliases in tied.items():
        if name not in seen:
            seen.update(aliases)
            found[name] = weight(model, name).detach().clone()
    return found


def _speeds(model: nn.Module, tensors: Tensors, masks: Masks | None) -> dict[str, Tensor]:
    """As `speeds`, but 0 for what is not trainable."""
    found = speeds(model, tensors, masks)
    return {name: speed * stored(model, name).requires_grad for name, speed in found.items()}


def _zeros(tensors: Tensors) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
