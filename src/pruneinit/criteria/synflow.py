"""Iterative synaptic flow pruning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, each, mapped, tensors
from pruneinit.calls import opened
from pruneinit.errors import check_whole
from pruneinit.flow import Flow, total
from pruneinit.functional import call, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import groups_of, together
from pruneinit.reparametrize import tied_names
from pruneinit.weights import plain_name, uncompiled, weight


def inputs_only(model: nn.Module, batch: Any) -> Any:
    """The output where no other way to get it is given: `model(x)` for a batch `x` or `(x, ...)`."""
    return model(batch[0] if isinstance(batch, (tuple, list)) else batch)


@dataclass(frozen=True)
class SynFlow:
    """Keep the weights through which most flows: |W · ∂R/∂W|.

    R is the sum of the outputs of another network, in which all parameters are replaced by their absolute values, the
    input is one example of ones, and all else is made linear and positive: R = 1ᵀ ∏ |W_l| 1 for a stack of layers
    without biases.

    - Pointwise nonlinearities and dropout pass on what they get; poolings are as in the model.
    - Normalisation is a multiplication by the absolute weight and, for batch normalisation, by running variances as in
      evaluation mode; running means and other constants that are subtracted are left out.
    - A product of two signals is their geometric mean: a gate shares the flow with what it gates, and the projections
      of queries and keys get half of what attention lets through. A softmax takes the mean.
    - Whole numbers, such as tokens, stay as they are.
    - An operation that is not known here (recurrent layers) runs as it is.

    Scores are fractions of R: those of all weights of a layer that everything flows through add up to 1 where there are
    no biases. Tensors are kept near 1 by exact powers of two, layer by layer, so R may be beyond any floating-point
    number. A score below the smallest number of its dtype, 1e-45 of R in float32, is 0.

    Source: Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
    flow" (2020). Their code leaves nonlinearities in, which pass on positive numbers where they are ReLU.

    Cost: one forward and backward pass of one example in each round; memory for the absolute values of the
    parameters and one gradient of the weights.

    Attributes:
        rounds: How many times `prune` is to score and select.
        output: `output(model, batch)`, the tensors whose sum is R; by default `model(x)` for a batch `x` or `(x, ...)`.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
        >>> _ = torch.nn.init.constant_(model[2].weight, -1e30)
        >>> model[0].weight.data = torch.tensor([[1.0, -1.0]])
        >>> {name: score.tolist() for name, score in SynFlow()(model, [torch.zeros(5, 2)]).items()}
        {'0.weight': [[0.5, 0.5]], '2.weight': [[1.0]]}
    """

    rounds: int = 100
    output: Callable[[nn.Module, Any], Any] = inputs_only

    def __post_init__(self) -> None:
        check_whole("rounds", self.rounds)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights. A warning says if all of them are 0.

        Only the shapes of the first example of `batches` count, and the whole numbers in it.

        Raises:
            InputError: There are no batches, the first does not fit the model, or the output cannot be followed.
        """
        scores = together(lambda: self._scores(model, next(iter(each(batches))), masks), groups_of(model))
        if not any(bool(score.any()) for score in scores.values()):
            warnings.warn(
                "every score is 0, so that masks would go by position alone: nothing flows from the input to the "
                "output; keep more weights",
                stacklevel=2,
            )
        return scores

    def _scores(self, model: nn.Module, batch: Any, masks: Masks | None) -> dict[str, Tensor]:
        with scoring_mode(model, "running"):
            weights = effective_weights(model, masks)
            others = _others(model, weights)
            # All in one dtype, float32 at least: with less, thousands of layers would add up rounding.
            floats = [t.dtype for t in (*weights.values(), *others.values()) if t.is_floating_point()]
            dtype = reduce(torch.promote_types, floats, torch.float32)
            flow = Flow()
            leaves = {name: flow.start(tensor.to(dtype).abs()).requires_grad_() for name, tensor in weights.items()}
            others = {name: flow.start(t.to(dtype).abs()) for name, t in others.items() if t.is_floating_point()}
            batch = _ones(batch, dtype)
            for tensor in tensors(batch):
                if tensor.is_floating_point():
                    flow.signal(tensor)

            def differentiate(net: nn.Module, part: Any) -> Tensor:
                with flow:
                    outputs = self.output(net, part)
                flowing = total(outputs, flow.scales)
                if flowing.requires_grad:
                    # While the leaves still stand in for the weights: checkpointed blocks run a second time in here.
                    with flow:
                        opened(torch.autograd.backward)(flowing, inputs=list(leaves.values()))
                return flowing.detach()

            return _shares(leaves, call(model, batch, differentiate, leaves | others))


def _ones(batch: Any, dtype: torch.dtype) -> Any:
    """One example of the same structure: floating-point numbers are 1, the others those of the first example."""
    size = batch_size(batch)

    def example(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        part = leaf[:1] if leaf.dim() and len(leaf) == size else leaf
        return torch.ones_like(part, dtype=dtype) if part.is_floating_point() else part.detach().clone()

    return mapped(example, batch)


def _others(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All parameters but the weights that are scored, under any of their names."""
    tied = tied_names(model)
    known = {alias for name in weights for alias in tied[name]}
    found: dict[str, Tensor] = {}
    for name, parameter in uncompiled(model).named_parameters():
        plain = plain_name(name) if "parametrizations" in name else name
        if plain not in known and plain not in found:
            found[plain] = (parameter if plain == name else weight(model, plain)).detach()
    return found


def _shares(leaves: Mapping[str, Tensor], flowing: Tensor) -> dict[str, Tensor]:
    """For each weight the part of all flow that goes through it."""
    positive = bool(flowing)
    return {
        name: leaf.grad.mul_(leaf.detach()).div_(flowing.to(leaf.device)).abs_()
        if leaf.grad is not None and positive
        else torch.zeros_like(leaf.detach())
        for name, leaf in leaves.items()
    }
