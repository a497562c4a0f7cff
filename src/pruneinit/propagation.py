"""What a signal and its gradient do in a real network: measured layer by layer, to be held against the theory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, joined
from pruneinit.functional import Loss, Norm, call, cross_entropy, effective_weights, scalar, scoring_mode
from pruneinit.masks import Masks
from pruneinit.watching import Output, watch


@dataclass(frozen=True)
class Signal:
    """What one layer puts out on a batch, without its bias, and the gradient that comes back to it.

    Attributes:
        second_moment: The mean square over examples, neurons and positions.
        correlation: Between the outputs on two different examples, the mean over all pairs; in the theory it goes to 1
            in the ordered phase and on the edge. None for a single example or where nothing comes out.
        gradient: Σ (∂L/∂y)² over all neurons, positions and examples, which the theory multiplies by χ from one layer
            back to the one before it. None where the layer's output cannot be followed to the loss.
    """

    second_moment: float
    correlation: float | None
    gradient: float | None


def signals(
    model: nn.Module,
    batches: Batches,
    *,
    masks: Masks | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, Signal]:
    """Send a batch through a network and its gradient back; the model is left as it was.

    Args:
        model: Any module, dense or sparsified.
        batches: Data on the model's device; the batches are joined to one.
        masks: Weights to treat as removed.
        loss: Runs the model on a batch, a scalar averaged over the examples.
        norm: Which statistics batch normalisation uses, as for the criteria.

    Returns:
        For each prunable weight whose layer was run, in the order of execution; a layer that runs several times counts
        the first time.

    Raises:
        InputError: A batch does not fit the model, or `norm` is missing where it matters.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.eye_(model.weight)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> signals(model, [(x, torch.tensor([0, 1]))])["weight"].correlation
        0.0
    """
    with scoring_mode(model, norm), torch.no_grad():
        overrides = effective_weights(model, masks)
    return signals_of(model, batches, overrides, loss=loss, norm=norm)


def signals_of(
    model: nn.Module,
    batches: Batches,
    overrides: Mapping[str, Tensor],
    *,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, Signal]:
    """As `signals`, of the model with the weights in `overrides` instead of its own."""
    batch = joined(batches)
    size = batch_size(batch)
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: Output) -> Tensor | None:
        if name in outputs:
            return None
        outputs[name] = output.whole()
        return outputs[name]  # so that what was kept is what the loss is computed from

    def run(net: nn.Module, part: Any) -> tuple[Tensor | None, ...]:
        value = scalar(loss(net, part), part)
        watched = [output for output in outputs.values() if output.requires_grad]
        return torch.autograd.grad(value, watched, allow_unused=True) if watched else ()

    with scoring_mode(model, norm):
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in overrides.items()}
        with watch(model, leaves, keep):
            gradients = call(model, batch, run, leaves)
    followed = iter(gradients)
    found = {}
    for name, output in outputs.items():
        gradient = next(followed) if output.requires_grad else None
        square = None if gradient is None else float(gradient.double().square().sum())
        value = output.detach().double()
        moment = float(value.square().mean())
        found[name] = Signal(moment, _correlation(value, size), square)
    return found


def inner_gradients(found: Mapping[str, Signal]) -> list[float]:
    """The gradients that were measured, in order, without the first layer's and the last's.

    Example:
        >>> inner_gradients({str(layer): Signal(1.0, None, float(layer)) for layer in range(4)})
        [1.0, 2.0]
    """
    return [signal.gradient for signal in found.values() if signal.gradient is not None][1:-1]


def chi_hat(found: Mapping[str, Signal]) -> float | None:
    """χ as the network itself shows it: how the gradient's square grows per layer on its way back, on average.

    The slope of log Σ(∂L/∂y)² over the layers, without the first and the last, whose widths and inputs are special;
    None for fewer than four layers or where the gradient is 0 or not finite.

    Example:
        >>> chi_hat({str(layer): Signal(1.0, 0.5, 0.9**-layer) for layer in range(8)})
        0.9
    """
    squares = inner_gradients(found)
    if len(squares) < 2 or not all(0 < square < math.inf for square in squares):
        return None
    logs = [math.log(square) for square in squares]
    middle = (len(logs) - 1) / 2
    spread = sum((layer - middle) ** 2 for layer in range(len(logs)))
    slope = sum((layer - middle) * log for layer, log in enumerate(logs)) / spread
    return round(math.exp(-slope), 12)


def _correlation(value: Tensor, size: int) -> float | None:
    """The mean over all pairs of examples, relative to the mean square norm; the batch comes first, as it does."""
    if size < 2 or value.dim() < 1 or len(value) != size:
        return None
    rows = value.reshape(size, -1)
    same = float(rows.square().sum()) / size
    if not 0 < same < math.inf:
        return None
    return (float(rows.sum(0).square().sum()) / size - same) / (size - 1) / same
