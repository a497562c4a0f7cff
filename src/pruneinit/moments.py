"""What the layers of a network put out on real data: second moments, by layer and by neuron."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, blame, each
from pruneinit.functional import Loss, Norm, call, cross_entropy, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.watching import Output, watch

Moment = TypeVar("Moment", float, Tensor)


def second_moments(
    model: nn.Module,
    batches: Batches,
    *,
    masks: Masks | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, float]:
    """The mean square of each layer's output without bias, over examples, neurons and positions.

    On the Edge of Chaos this number neither vanishes nor explodes with depth.

    Args:
        model: Any module, dense or sparsified; left as it was.
        batches: An iterable of batches on the model's device.
        masks: Weights to treat as removed.
        loss: Runs the model on a batch; its value is not used.
        norm: Which statistics batch normalisation uses, as for the criteria.

    Returns:
        A number for each prunable weight whose layer was run, in the order of execution; a layer that runs several
        times counts the first time. It may be inf or NaN where the forward pass overflows.

    Raises:
        InputError: A batch does not fit the model or holds NaN, or `norm` is missing where it matters.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> second_moments(model, [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))])
        {'weight': 16.0}
    """
    with scoring_mode(model, norm), torch.no_grad():
        overrides = effective_weights(model, masks)
    return moments_of(model, batches, overrides, Output.mean_square, loss=loss, norm=norm)


def neuron_moments(
    model: nn.Module,
    batches: Batches,
    *,
    masks: Masks | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, Tensor]:
    """The mean square of each neuron's output without bias, over examples and positions.

    Args and errors are those of `second_moments`, and so are the layers; a neuron is a row of a linear layer, or an
    output channel of a convolution.

    Returns:
        For each layer a float64 tensor [neurons].

    Example:
        >>> model = nn.Linear(1, 2, bias=False)
        >>> model.weight.data = torch.tensor([[2.0], [3.0]])
        >>> neuron_moments(model, [(torch.ones(4, 1), torch.zeros(4, dtype=torch.long))])
        {'weight': tensor([4., 9.], dtype=torch.float64)}
    """
    with scoring_mode(model, norm), torch.no_grad():
        overrides = effective_weights(model, masks)
    return moments_of(model, batches, overrides, Output.mean_squares, loss=loss, norm=norm)


def moments_of(
    model: nn.Module,
    batches: Batches,
    overrides: Mapping[str, Tensor],
    moment: Callable[[Output], Moment],
    *,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, Moment]:
    """The mean of `moment(output)` over examples, of the model with the weights in `overrides` instead of its own."""
    sums: dict[str, Moment] = {}
    examples = 0
    with scoring_mode(model, norm), torch.no_grad():
        for batch in each(batches):
            seen = _of_batch(model, batch, overrides, moment, loss)
            size = batch_size(batch)
            examples += size
            if not all(bool(torch.as_tensor(value).isfinite().all()) for value in seen.values()):
                blame(batch)
            for name, value in seen.items():
                sums[name] = sums[name] + size * value if name in sums else size * value
    return {name: value / examples for name, value in sums.items()}


def _of_batch(
    model: nn.Module, batch: Any, overrides: Mapping[str, Tensor], moment: Callable[[Output], Moment], loss: Loss
) -> dict[str, Moment]:
    """The moment of each layer where it runs first."""
    seen: dict[str, Moment] = {}

    def measure(name: str, output: Output) -> None:
        if name not in seen:
            seen[name] = moment(output)

    with watch(model, overrides, measure):
        call(model, batch, loss, overrides)
    return seen
