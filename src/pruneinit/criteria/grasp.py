"""Gradient signal preservation, GraSP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pruneinit.batch import Batches, each
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
from pruneinit.errors import InputError, check_positive
from pruneinit.functional import Loss, Norm, cross_entropy, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import groups_of, together
from pruneinit.weights import uncompiled


@dataclass(frozen=True)
class Grasp:
    """Keep the weights whose removal would lower the gradient flow gᵀg most, or raise it least: W · (H g), signed.

    g is the gradient and H the Hessian of one and the same loss, the mean over all examples. To first order the removal
    of a weight changes gᵀg by -2 W · (H g), so the largest W · (H g) are kept. g is taken over the weights that are
    scored, without those that masks or survivors have removed, which no longer move and score 0.

    Source: Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow" (2020). One shot,
    T = 200 and ten examples of each class are theirs.

    Cost: for one batch a forward pass, a backward pass, and a backward pass through both; for several another forward
    and backward pass over all of them first. Memory for the graph of one batch and for two gradients of the weights:
    cut a large batch to smaller ones, and the scores stay the same up to rounding (but with `norm="batch"`).

    Attributes:
        temperature: What the model's outputs are divided by, T in the paper. `model(...)` gives `loss` outputs that are
            divided already, also to a loss of your own. Where they are not one tensor, set `temperature=1` and let the
            loss divide.
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers.
        loss: `loss(model, batch)`, a scalar averaged over the batch.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 3), torch.randint(2, (16,))
        >>> {name: tuple(s.shape) for name, s in Grasp()(model, [(x, y)]).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    temperature: float = 200.0
    norm: Norm | None = None
    loss: Loss = field(default=cross_entropy, repr=False)

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights. A warning names those without a gradient.

        Raises:
            InputError: There are no batches, one does not fit, the loss is not finite, an operation has no second
                derivative, or the outputs cannot be divided.
        """
        groups = groups_of(model)
        data = together(lambda: list(each(batches)), groups)
        with scoring_mode(model, self.norm), twice_differentiable(model), divided(model, self.temperature):
            weights = effective_weights(model, masks)
            variables = leaves(weights, weights)
            speed = speeds(model, weights, masks)

            def flow(slopes: Parts) -> Tensors:
                warn_unreached(unseen(slopes, weights), len(weights))
                return {name: speed[name] * slope for name, slope in slopes.items() if slope is not None}

            # With one batch in all, g and H g come from one graph.
            vector: Tensors | Callable[[Parts], Tensors] = flow
            if len(data) > 1 or groups:
                vector = flow(mean(model, data, lambda batch: gradient(model, batch, self.loss, variables), weights))
            products = mean(
                model, data, lambda batch: hessian_product(model, batch, self.loss, variables, vector), weights
            )
        scores = {name: fine(weights[name]) * product for name, product in filled(products, weights).items()}
        warn_if_zero(scores)
        return scores


@contextmanager
def divided(model: nn.Module, temperature: float) -> Iterator[None]:
    """Let each call of the model return its outputs divided by the temperature.

    Raises:
        InputError: They are not one tensor, or the model was not called.
    """
    calls = 0
    instead = f"use Grasp(temperature=1, loss=...) with a loss that divides the logits by {temperature:g}"

    def divide(module: nn.Module, inputs: Any, outputs: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if not isinstance(outputs, Tensor):
            kind = type(outputs).__name__
            raise InputError(
                f"the temperature divides outputs that are one tensor, this model returns a {kind}: {instead}"
            )
        return outputs / temperature

    if temperature == 1:
        yield
        return
    hook = uncompiled(model).register_forward_hook(divide)
    try:
        yield
    finally:
        hook.remove()
    if not calls:
        raise InputError(f"the loss does not call the model, so the temperature cannot divide its outputs: {instead}")
