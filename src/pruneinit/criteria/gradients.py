"""Gradients of a loss with respect to a model's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, blame, each
from pruneinit.criteria.sharded_gradients import sharded_gradients
from pruneinit.functional import Loss, Norm, call, cross_entropy, effective_weights, scalar, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import groups_of, mean_over_processes, together
from pruneinit.sharded import is_sharded


def gradients(
    model: nn.Module,
    batches: Batches | None,
    *,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
    masks: Masks | None = None,
) -> dict[str, Tensor]:
    """The gradient of the mean loss over all examples with respect to each weight.

    Batches count by their number of examples, so that the same examples in smaller batches give the same gradient
    up to rounding (where no batch normalisation mixes them). The model's weights, buffers, mode and the global
    random numbers are as before afterwards. Dropout is off.

    Of a model that several processes share (`DistributedDataParallel`, `fully_shard`), each gives its own share of the
    examples, and the mean is over those of all; it is the same on all, or sharded like the weights. An error of one
    process is raised on all.

    Args:
        model: Any module.
        batches: What `loss` takes, usually `(x, y)` pairs, on the model's device.
        loss: `loss(model, batch)`, a scalar averaged over the examples of the batch.
        norm: Whether batch normalisation uses the statistics of the `"batch"` or the `"running"` ones. Must be given
            for a model that has such layers, because the two give very different scores at initialisation.
        masks: Which weights are wanted; what they remove counts as zero. None for all prunable weights, as they are.

    Returns:
        For each weight a tensor of its shape, in float32 or finer; zero where the loss does not depend on the weight.

    Raises:
        InputError: There are no batches, one does not fit the model, the loss is not a finite scalar, or `norm` is
            missing where it matters.

    Example:
        >>> model = nn.Linear(1, 2)
        >>> gradients(model, [(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))])
        {'weight': tensor([[0.],
                [0.]])}
    """
    groups = groups_of(model)
    if any(is_sharded(parameter) for parameter in model.parameters()):
        return sharded_gradients(model, batches, loss=loss, norm=norm, masks=masks)
    mean, examples = together(lambda: _own_gradients(model, batches, loss, norm, masks), groups)
    return mean_over_processes(mean, examples, groups)


def _own_gradients(
    model: nn.Module, batches: Batches | None, loss: Loss, norm: Norm | None, masks: Masks | None
) -> tuple[dict[str, Tensor], int]:
    """The mean gradient over this process's examples, and how many they are."""
    total: dict[str, Tensor] = {}
    examples = 0
    with scoring_mode(model, norm):
        leaves = {name: tensor.requires_grad_() for name, tensor in effective_weights(model, masks).items()}

        def differentiate(net: nn.Module, batch: Any) -> tuple[Tensor | None, ...]:
            # While the leaves still stand in for the weights: checkpointed blocks run a second time in here.
            return torch.autograd.grad(scalar(loss(net, batch), batch), list(leaves.values()), allow_unused=True)

        for batch in each(batches):
            size = batch_size(batch)
            parts = call(model, batch, differentiate, leaves)
            if not all(bool(part.isfinite().all()) for part in parts if part is not None):
                blame(batch)
            examples += size
            for (name, leaf), part in zip(leaves.items(), parts, strict=True):
                gradient = torch.zeros_like(leaf) if part is None else part.detach()
                # In bfloat16 the mean of many batches would lose its later ones.
                gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
                # A running mean, not in place: two weights may be given one and the same gradient.
                total[name] = total[name].lerp(gradient, size / examples) if name in total else gradient
    return total, examples
