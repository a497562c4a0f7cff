"""Optimal brain damage: the change of the loss to second order, from the diagonal of its Hessian."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, each
from pruneinit.criteria.products import (
    Parts,
    filled,
    fine,
    mean,
    require_second_derivatives,
    twice_differentiable,
    unseen,
)
from pruneinit.criteria.unreached import warn_if_zero, warn_unreached
from pruneinit.errors import InputError, check_seed, check_whole
from pruneinit.functional import Loss, Norm, call, cross_entropy, differentiable, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.seeds import derived


@dataclass(frozen=True)
class Obd:
    """Keep the weights of largest saliency ½ H_kk W_k², with H_kk the second derivative of the loss by the weight W_k.

    The saliency is signed: a weight with negative curvature, of which a network has many before it is trained, goes
    first, since the loss would fall to second order without it. The first-order term -W_k ∂L/∂W_k, which vanishes where
    the paper prunes, in a minimum, is left out as it is there; see `Snip` for it.

    H_kk is exact for weights of which at most `exact_up_to` entries are not zero. For the others it is Hutchinson's
    estimate, the mean over `samples` of v · (H v) with random signs v, whose variance is 2 Σ_j H_kj² / samples over the
    other entries j of all estimated weights. The signs are the same for all batches, so that the estimate does not
    depend on how examples are cut into batches.

    Source: LeCun, Denker, Solla, "Optimal Brain Damage" (1990); the estimate is of Hutchinson, "A stochastic estimator
    of the trace of the influence matrix for Laplacian smoothing splines" (1989), in the form of Bekas, Kokiopoulou,
    Saad, "An estimator for the diagonal of a matrix" (2007).

    Cost: for each batch a forward and a backward pass, and a backward pass through both for each of `samples` and for
    each entry whose curvature is exact. Memory for the graph of both, the result, and two gradients of the weights.

    Attributes:
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers.
        loss: `loss(model, batch)`, a scalar averaged over the batch.
        samples: How many random directions the estimate is averaged over.
        exact_up_to: How many entries other than zero a weight may have to get the exact diagonal; 0 for none.
        seed: Of the random directions.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> {name: tuple(s.shape) for name, s in Obd()(model, [(x, y)]).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    norm: Norm | None = None
    loss: Loss = field(default=cross_entropy, repr=False)
    samples: int = 100
    exact_up_to: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_whole("samples", self.samples)
        if (
            not isinstance(self.exact_up_to, numbers.Integral)
            or isinstance(self.exact_up_to, bool)
            or self.exact_up_to < 0
        ):
            raise InputError(f"exact_up_to must be a whole number, at least 0, got {self.exact_up_to!r}")

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights.

        A warning names the weights that the loss does not depend on, or says that all scores are 0.

        Raises:
            InputError: There are no batches, one does not fit, the loss is not finite, or an operation has no second
                derivative.
        """
        with scoring_mode(model, self.norm), twice_differentiable(model):
            weights = {name: tensor.requires_grad_() for name, tensor in effective_weights(model, masks).items()}
            found = mean(model, each(batches), lambda batch: self._diagonal(model, batch, weights), weights)
        warn_unreached(unseen(found, weights), len(weights))
        scores = {}
        for name, curvature in filled(found, weights).items():
            weight = fine(weights[name].detach())
            scores[name] = 0.5 * (curvature * weight) * weight
        warn_if_zero(scores)
        return scores

    def _diagonal(self, model: nn.Module, batch: Any, weights: Mapping[str, Tensor]) -> Parts:
        """The diagonal of the Hessian on one batch, where a weight is not zero; None where the loss does not see it."""

        def differentiate(net: nn.Module, batch: Any) -> Parts:
            # While the weights here still stand in for the model's: checkpointed blocks run again in here.
            value = differentiable(loss(net, batch), batch)
            try:
                slopes = torch.autograd.grad(value, list(weights.values()), create_graph=True, allow_unused=True)
                seen = {n: s for n, s in zip(weights, slopes, strict=True) if s is not None}
                # A gradient that depends on no parameter at all has no graph.
                curved = {n: s for n, s in seen.items() if s.requires_grad}
                require_second_derivatives(curved.values())
                flat = {n: torch.zeros_like(s) for n, s in seen.items() if n not in curved}
                return dict.fromkeys(weights) | flat | self._curvature(curved, weights)
            except RuntimeError as error:
                raise InputError(
                    "Obd needs second derivatives, and an operation of the model or of the loss has none: "
                    f"{str(error).strip().splitlines()[0]}; replace the operation, or choose Fisher, which needs only "
                    "first derivatives"
                ) from error

        loss = self.loss
        found: Parts = call(model, batch, differentiate, weights)
        return found

    def _curvature(self, slopes: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The diagonals of the weights whose gradients these are."""
        exact = {name for name in slopes if int(weights[name].count_nonzero()) <= self.exact_up_to}
        estimated = {name: slope for name, slope in slopes.items() if name not in exact}
        found = {name: _exact_diagonal(slopes[name], weights[name]) for name in exact}
        if estimated:
            found |= self._estimate(estimated, {name: weights[name] for name in estimated})
        return found

    def _estimate(self, slopes: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: fine(torch.zeros_like(weight, requires_grad=False)) for name, weight in weights.items()}
        for sample in range(self.samples):
            signs = [self._signs(sample, name, weight) for name, weight in weights.items()]
            products = _product(list(slopes.values()), list(weights.values()), signs)
            for name, sign, product in zip(weights, signs, products, strict=True):
                if product is not None:
                    found[name] += fine(sign * product) / self.samples
        return found

    def _signs(self, sample: int, name: str, weight: Tensor) -> Tensor:
        """Random signs, and 0 where the weight is 0: such an entry scores 0 and would only add noise to the others."""
        generator = torch.Generator().manual_seed(derived("obd signs", self.seed, sample, name))
        bits = torch.randint(0, 2, weight.shape, generator=generator, dtype=torch.int8).to(weight.device)
        return (2 * bits - 1).to(weight.dtype) * (weight.detach() != 0)


def _exact_diagonal(slope: Tensor, weight: Tensor) -> Tensor:
    """The second derivative by each entry that is not zero, one after the other."""
    found = fine(torch.zeros_like(weight, requires_grad=False))
    for place in weight.detach().nonzero().tolist():
        entry = tuple(place)
        one = torch.zeros_like(slope, requires_grad=False)
        one[entry] = 1
        (column,) = _product([slope], [weight], [one])
        if column is not None:
            found[entry] = column[entry]
    return found


def _product(slopes: list[Tensor], weights: list[Tensor], vectors: list[Tensor]) -> tuple[Tensor | None, ...]:
    """The Hessian times a vector; the graph of the slopes stays."""
    return torch.autograd.grad(slopes, weights, vectors, retain_graph=True, allow_unused=True)
