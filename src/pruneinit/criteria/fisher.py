"""Fisher pruning: the expected change of the loss, from the gradients of single examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from pruneinit.batch import Batches, batch_size, describe, each, mapped, tensors
from pruneinit.criteria.products import Parts, filled, mean, unseen
from pruneinit.criteria.unreached import warn_if_zero, warn_unreached
from pruneinit.errors import InputError, check_whole
from pruneinit.functional import (
    Loss,
    Norm,
    call,
    cross_entropy,
    differentiable,
    effective_weights,
    scalar,
    scoring_mode,
)
from pruneinit.masks import Masks
from pruneinit.weights import uncompiled


@dataclass(frozen=True)
class Fisher:
    """Keep the weights of largest ½ W² E[(∂L/∂W)²], the mean over examples of the square of each one's own gradient.

    E[(∂L/∂W)²] is the diagonal of the empirical Fisher information: the labels are those of the data, not drawn from
    the model. It stands for the diagonal of the Hessian in the saliency of optimal brain damage, and is never negative.

    Source: Theis, Korshunova, Tejani, Huszár, "Faster gaze prediction with dense networks and Fisher pruning" (2018).

    Cost: one forward and backward pass for every single example, and memory for `chunk` gradients of the weights beside
    the mean, which is kept in float64: the squares of small gradients are beyond the range of float32.

    Attributes:
        norm: Must be `"running"` for a model that has batch normalisation: with the statistics of the batch an example
            has no gradient of its own.
        loss: `loss(model, batch)`, a scalar averaged over the batch. It gets batches of one example: of each tensor
            whose first dimension is the size of the batch one row, and everything else as it is.
        chunk: How many examples to compute at once. More than one needs a model and a loss that `torch.func.vmap` can
            run, and is a good deal faster on small networks and on accelerators.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> {name: tuple(s.shape) for name, s in Fisher()(model, [(x, y)]).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    norm: Norm | None = None
    loss: Loss = field(default=cross_entropy, repr=False)
    chunk: int = 1

    def __post_init__(self) -> None:
        check_whole("chunk", self.chunk)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or all prunable weights, in float64.

        A warning names the weights that the loss does not depend on (with `chunk=1`), or says that all scores are 0.

        Raises:
            InputError: There are no batches, one does not fit or cannot be cut into examples, the loss is not finite,
                or batch normalisation would mix the examples.
        """
        _require_examples_apart(model, self.norm)
        with scoring_mode(model, self.norm):
            weights = {name: tensor.requires_grad_() for name, tensor in effective_weights(model, masks).items()}
            found = mean(model, each(batches), lambda batch: self._mean_square(model, batch, weights), weights)
        warn_unreached(unseen(found, weights), len(weights))
        squares = filled(found, weights)
        scores = {name: 0.5 * weights[name].detach().double().square() * square for name, square in squares.items()}
        warn_if_zero(scores)
        return scores

    def _mean_square(self, model: nn.Module, batch: Any, weights: Mapping[str, Tensor]) -> Parts:
        """The mean over the examples of one batch of the square of the gradient; None where it has none."""
        if not tensors(batch):
            raise InputError(f"the batch {describe(batch)} cannot be cut into examples: expected tensors in it")
        gradients = _gradient if self.chunk == 1 else _gradients
        found: dict[str, Tensor | None] = dict.fromkeys(weights)
        for part in _parts(batch, self.chunk):
            for name, gradient in gradients(model, part, self.loss, weights).items():
                square = gradient.double().square().sum(0) / batch_size(batch)
                before = found[name]
                found[name] = square if before is None else before.add_(square)
        return found


def _gradient(model: nn.Module, example: Any, loss: Loss, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient on a batch of one example, under a first dimension of size 1."""

    def differentiate(net: nn.Module, batch: Any) -> tuple[Tensor | None, ...]:
        # While the weights here still stand in for the model's: checkpointed blocks run a second time in here.
        return torch.autograd.grad(differentiable(loss(net, batch), batch), list(weights.values()), allow_unused=True)

    found = zip(weights, call(model, example, differentiate, weights), strict=True)
    return {name: gradient.unsqueeze(0) for name, gradient in found if gradient is not None}


def _gradients(model: nn.Module, batch: Any, loss: Loss, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradients on each example of a batch by itself, stacked."""
    size = batch_size(batch)

    def value(weights: dict[str, Tensor], rows: list[Tensor]) -> Tensor:
        left = iter(rows)
        example = mapped(lambda leaf: next(left).unsqueeze(0) if _is_cut(leaf, size) else leaf, batch)
        return _one(call(model, example, loss, weights))

    rows = [leaf for leaf in tensors(batch) if _is_cut(leaf, size)]
    detached = {name: tensor.detach() for name, tensor in weights.items()}
    try:
        # Fused attention cannot be vectorised. Without no_grad the other parameters would keep a graph of it all.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            result = vmap(grad_and_value(value), in_dims=(None, 0), randomness="different")(detached, rows)
    except (RuntimeError, InputError) as error:
        raise InputError(
            f"the gradients of {size} examples cannot be computed at once: {str(error).strip().splitlines()[0]}; if "
            "the model runs on this batch otherwise, use chunk=1"
        ) from error
    found: dict[str, Tensor] = result[0]
    scalar(result[1].sum(), batch)
    return found


def _one(value: Any) -> Tensor:
    # As `scalar`, which cannot look at a value within vmap.
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError(f"the loss must be a scalar tensor, got {describe(value)}")
    return value.reshape(())


def _parts(batch: Any, chunk: int) -> Iterator[Any]:
    """The batch cut into parts of at most `chunk` examples."""
    size = batch_size(batch)
    for start in range(0, size, chunk):
        yield mapped(partial(_rows, size=size, rows=slice(start, start + chunk)), batch)


def _rows(leaf: Any, size: int, rows: slice) -> Any:
    return leaf[rows] if _is_cut(leaf, size) else leaf


def _is_cut(leaf: Any, size: int) -> bool:
    """Whether a leaf of a batch has a row for each example."""
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == size


def _require_examples_apart(model: nn.Module, norm: Norm | None) -> None:
    mixing = [
        name
        for name, module in uncompiled(model).named_modules()
        if isinstance(module, _BatchNorm) and not (norm == "running" and module.track_running_stats)
    ]
    if mixing:
        raise InputError(
            f"Fisher takes the gradient of each example by itself, and {mixing[0]} normalises by the statistics of the "
            "batch: say norm='running', or use a layer that keeps running statistics"
        )
