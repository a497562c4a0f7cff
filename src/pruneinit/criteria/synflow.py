"""Iterative synaptic flow pruning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, each, mapped, tensors
from pruneinit.calls import opened
from pruneinit.errors import check_whole
from pruneinit.flow import Flow, Program, Recorder, total
from pruneinit.flow.scaled import times
from pruneinit.functional import call, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import groups_of, together
from pruneinit.reparametrize import tied_names
from pruneinit.weights import plain_name, uncompiled, weight

# Absolute weights, and what a pass has found with them: first all flow, then its derivative by each weight.
Pass = tuple[dict[str, Tensor], list[Any]]


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
    parameters and one gradient of the weights, and in several rounds for one more copy of the weights.

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
    output: Callable[[nn.Module, Any], Any] = field(default=inputs_only, repr=False)

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
        return _Rounds(self.output, model, batches, several=False)(masks)

    def prepare(self, model: nn.Module, batches: Batches | None = None) -> Callable[[Masks | None], dict[str, Tensor]]:
        """The same as a function of masks, for several rounds over a model that stays as it is meanwhile.

        The first round writes down what PyTorch computes, and the others run that again on the weights that they have
        left, without the model's Python: the scores are the same. Where magnitudes have moved by more than 2^60, or
        the model takes another way for other weights, a round runs the model and writes it down anew.

        Raises:
            InputError: There are no batches. What the function raises is what the criterion itself does.

        Example:
            >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
            >>> scores = SynFlow().prepare(model, [torch.zeros(5, 2)])
            >>> masks = Masks({"0.weight": torch.eye(2).bool(), "2.weight": torch.tensor([[True, False]])})
            >>> [score.count_nonzero().item() for score in (scores(masks), scores(masks))[1].values()]
            [1, 1]
        """
        return _Rounds(self.output, model, batches, several=True)


class _Rounds:
    """One round after another on the same model and batch.

    Attributes:
        several: Whether to write a pass down for the rounds to come.
    """

    def __init__(
        self, output: Callable[[nn.Module, Any], Any], model: nn.Module, batches: Batches | None, several: bool
    ) -> None:
        self.output, self.model, self.several = output, model, several
        self.groups = groups_of(model)
        self.batch = together(lambda: next(iter(each(batches))), self.groups)
        self._program: Program | None = None
        self._weights: dict[str, Tensor] = {}  # whole and absolute, in the units of the program
        self._served = True  # whether the last program has served at all

    def __call__(self, masks: Masks | None) -> dict[str, Tensor]:
        scores = together(lambda: _shares(*(self._repeated(masks) or self._run(masks))), self.groups)
        if not any(bool(score.any()) for score in scores.values()):
            warnings.warn(
                "every score is 0, so that masks would go by position alone: nothing flows from the input to the "
                "output; keep more weights",
                stacklevel=3,
            )
        return scores

    def _repeated(self, masks: Masks | None) -> Pass | None:
        """A pass by the program; None where there is none that holds for these masks."""
        shapes = {name: tensor.shape for name, tensor in self._weights.items()}
        if self._program is None or masks is None or {name: mask.shape for name, mask in masks.items()} != shapes:
            return None
        leaves = {name: tensor * masks[name].to(tensor.device) for name, tensor in self._weights.items()}
        results = self._program(list(leaves.values()))
        self._served |= results is not None
        return None if results is None else (leaves, results)

    def _run(self, masks: Masks | None) -> Pass:
        """A pass by the model."""
        self.several = self.several and self._served
        recorder = Recorder() if self.several else None
        model, flow = self.model, Flow(recorder)
        with scoring_mode(model, "running"):
            weights = effective_weights(model, masks)
            others = _others(model, weights)
            # All in one dtype, float32 at least: with less, thousands of layers would add up rounding.
            floats = [t.dtype for t in (*weights.values(), *others.values()) if t.is_floating_point()]
            dtype = reduce(torch.promote_types, floats, torch.float32)
            leaves = {name: flow.start(tensor.to(dtype).abs()).requires_grad_() for name, tensor in weights.items()}
            others = {name: flow.start(t.to(dtype).abs()) for name, t in others.items() if t.is_floating_point()}
            batch = _ones(self.batch, dtype)
            for tensor in tensors(batch):
                if tensor.is_floating_point():
                    flow.signal(tensor)
            if recorder:
                recorder.vary(leaves.values())

            def differentiate(net: nn.Module, part: Any) -> list[Any]:
                with recorder or nullcontext():
                    with flow:
                        outputs = self.output(net, part)
                    flowing = total(outputs, flow.scales)
                    if not flowing.requires_grad:
                        return [flowing, *(None for _ in leaves)]
                    # While the leaves still stand in for the weights: checkpointed blocks run a second time in here.
                    with flow:
                        grads = opened(torch.autograd.grad)(flowing, list(leaves.values()), allow_unused=True)
                    return [flowing, *grads]

            results = call(model, batch, differentiate, leaves | others)
            if recorder:
                self._program, self._served = recorder.program(results), False
                whole = effective_weights(model, None) if self._program else {}
                self._weights = {name: _as(leaves[name], whole[name], flow) for name in leaves if name in whole}
        return leaves, results


def _as(leaf: Tensor, whole: Tensor, flow: Flow) -> Tensor:
    """The absolute values of a weight that nothing is masked of, in the units of a leaf."""
    scale = flow.scales.of(leaf)
    return times(whole.to(leaf.dtype).abs(), -scale.exponent if scale else 0)


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


def _shares(leaves: Mapping[str, Tensor], results: Sequence[Any]) -> dict[str, Tensor]:
    """For each weight the part of all flow that goes through it."""
    flowing, *grads = results
    positive = bool(flowing)
    return {
        name: (leaf.detach() * grad).div_(flowing.detach().to(leaf.device)).abs_()
        if grad is not None and positive
        else torch.zeros_like(leaf.detach())
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }
