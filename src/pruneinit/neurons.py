"""The output neurons of a layer: which weights are whose, and a factor for each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pruneinit.layouts import layout
from pruneinit.weights import Weight, layers


class NeuronFactors(NamedTuple):
    """The factors of a layer's neurons, and how many of them are not what its own second moment asks for.

    Attributes:
        values: One for each neuron, float64 [neurons].
        dead: How many neurons have no weight left, or put out nothing in the dense network.
        clamped: How many would have had a factor beyond the bounds.
    """

    values: Tensor
    dead: int
    clamped: int


def neuron_factors(squares: Tensor, target: float | Tensor, dead: Tensor, clamp: float) -> NeuronFactors:
    """Factors with which every neuron has the second moment of its layer's mean in the dense network.

    Neurons that are dead get 1. One whose weights see no signal on the data has no moment of its own to go by, and
    gets the factor of its layer: that which brings the mean over its living neurons to the target.

    Args:
        squares: Second moments in the pruned network, float64 [neurons].
        target: The dense network's, the layer's mean or [neurons]; neurons at 0 are dead and not in the mean.
        dead: Which neurons have no weight left, bool [neurons].
        clamp: How many times a factor may be larger or smaller than the layer's.

    Example:
        >>> squares = torch.tensor([1.0, 4.0, 0.0]).double()
        >>> neuron_factors(squares, 4.0, squares == 0, clamp=100.0).values.tolist()
        [2.0, 1.0, 1.0]
    """
    if isinstance(target, Tensor):
        target = target.to(squares)
        dead = dead | (target == 0)
        target = float(target[target > 0].mean()) if bool((target > 0).any()) else 0.0
    living = (squares > 0) & ~dead
    if not target or not bool(living.any()):
        return NeuronFactors(torch.ones_like(squares), int(dead.sum()), 0)
    layer = (target / squares[living].mean()).sqrt()
    asked = torch.where(living, (target / squares).sqrt(), layer)
    values = asked.clamp(layer / clamp, layer * clamp)
    clamped = living & (values != asked)
    return NeuronFactors(torch.where(dead, 1.0, values), int(dead.sum()), int(clamped.sum()))


def separable(model: nn.Module, found: Weight) -> bool:
    """Whether the neurons are the same parts of a weight in every layer that shares it."""
    return all(
        (known.out_dim, known.groups) == (found.out_dim, found.groups)
        for known in (layout(module, found.shape) for _, module in layers(model, found))
    )


def count(found: Weight) -> int:
    """How many output neurons or channels the layer of a weight has.

    Example:
        >>> from pruneinit.weights import prunable
        >>> count(prunable(nn.ConvTranspose2d(4, 6, 3, groups=2))["weight"])
        6
    """
    return found.shape[found.out_dim] * (found.groups if found.out_dim else 1)


def alive(found: Weight, mask: Tensor) -> Tensor:
    """Which neurons have a weight left, bool [neurons].

    Example:
        >>> from pruneinit.weights import prunable
        >>> alive(prunable(nn.Linear(2, 2))["weight"], torch.tensor([[True, False], [False, False]]))
        tensor([ True, False])
    """
    if found.out_dim == 0:
        return mask.flatten(1).any(1)
    return mask.reshape(found.groups, -1, found.shape[1], mask[0, 0].numel()).any(3).any(1).flatten()


def shaped(found: Weight, factors: Tensor) -> Tensor:
    """Factors [neurons] in a shape that broadcasts against the weight.

    Example:
        >>> from pruneinit.weights import prunable
        >>> shaped(prunable(nn.Conv2d(3, 5, 3))["weight"], torch.ones(5)).shape
        torch.Size([5, 1, 1, 1])
    """
    taps = [1] * (len(found.shape) - 2)
    if found.out_dim == 0:
        return factors.reshape(-1, 1, *taps)
    # Of a grouped transposed convolution, [in, out / groups, *kernel], each input feeds the outputs of its own group.
    rows = factors.reshape(found.groups, -1)
    if found.groups > 1:
        rows = rows.repeat_interleave(found.shape[0] // found.groups, 0)
    return rows.reshape(*rows.shape, *taps)
