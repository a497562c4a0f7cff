"""Effective sparsity: which kept weights lie on a path from an input to an output, for any model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, each, mapped, tensors
from pruneinit.errors import InputError
from pruneinit.functional import Loss, call, cross_entropy, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.reach.trace import Tracer
from pruneinit.sharded import require_whole
from pruneinit.survivors import chosen_masks, current_masks


def effective_masks(
    model: nn.Module, batches: Batches, masks: Masks | None = None, *, loss: Loss = cross_entropy
) -> Masks:
    """The masks without the dead weights: those on no path from an input to an output.

    One forward pass is followed operation by operation, so the model may be anything that PyTorch runs. What counts as
    a path:

    - Biases, positions and other constants are no input: what only they reach is dead.
    - Where a result depends on several tensors (attention on queries, keys and values; products; gates), any of them
      is a path. Choices count too: by an index, a mask, an argmax.
    - Normalisation layers are followed place by place. That their statistics depend on everything is no path.
    - Of an operation that is not known here (recurrent layers, Fourier transforms), every result depends on every
      argument, so that what is called dead is dead.
    - Branches in Python, and elements chosen by an index, are taken as the example takes them. What leaves PyTorch
      (`item()`, `numpy()`, a scripted module) is not followed.

    Cost: one forward and one backward pass of a single example, each operation done twice.

    Args:
        model: Any module, dense or sparsified; left as it was.
        batches: An iterable of batches on the model's device. Only the first example of the first batch is used.
        masks: What of some or all prunable weights is kept, the others being as they are. None, which only a sparsified
            model may have, for its own masks and all that is dense in it.
        loss: Runs the model on a batch; all tensors that it returns are outputs.

    Returns:
        Masks of the same weights; their sparsity is the effective sparsity.

    Raises:
        InputError: The model is dense and there are no masks, a mask is of another model, there are no batches, one
            does not fit the model, or the output does not depend on it in a way that can be followed.

    Source: Vysogorets and Kempe, "Connectivity Matters: Neural Network Pruning Through the Lens of Effective
    Sparsity" (2021).

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> masks = Masks({"2.weight": torch.tensor([[True, False]]), "0.weight": torch.ones(2, 2).bool()})
        >>> batch = torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)
        >>> effective_masks(model, [batch], masks)["0.weight"].tolist()
        [[True, True], [False, False]]
    """
    effective = reacher(model, batches, loss)
    chosen_masks(model, masks)  # to raise; what is dense in a sparsified model counts too, so None goes on as it is
    return effective(masks)


def reacher(model: nn.Module, batches: Batches | None, loss: Loss = cross_entropy) -> Callable[[Masks | None], Masks]:
    """`effective_masks` as a function of the masks alone, for many masks of one model.

    Each call runs the first example once; nothing else is kept but that example. Arguments and errors are those of
    `effective_masks`, but None keeps all of a dense model.
    """
    require_whole(model)
    batch = next(iter(each(batches)))
    size = batch_size(batch)

    def first(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        # A copy, so that its storage holds one example and a model may change it.
        return (leaf[:1] if leaf.dim() and len(leaf) == size else leaf).detach().clone()

    def effective(masks: Masks | None) -> Masks:
        sparse = current_masks(model)
        with scoring_mode(model, "running"), torch.no_grad():
            values = effective_weights(model, None) | effective_weights(model, masks)
        leaves = {
            name: _kept(name, value, sparse, masks).float().requires_grad_(masks is None or name in masks)
            for name, value in values.items()
        }
        with scoring_mode(model, "running"):
            paths = call(model, mapped(first, batch), lambda net, part: _paths(net, part, loss, values, leaves), values)
        wanted = values if masks is None else masks
        return Masks(
            {name: ((leaves[name] > 0) & (paths[name] > 0)).detach().to(wanted[name].device) for name in wanted}
        )

    return effective


def _kept(name: str, value: Tensor, sparse: Masks, masks: Masks | None) -> Tensor:
    kept = torch.ones(value.shape, dtype=torch.bool, device=value.device)
    for some in (sparse, masks):
        if some is not None and name in some:
            kept = kept & some[name].to(value.device)
    return kept


def _paths(
    model: nn.Module, batch: Any, loss: Loss, values: dict[str, Tensor], leaves: dict[str, Tensor]
) -> dict[str, Tensor]:
    """For each weight that is followed a tensor that is positive where a path goes through."""
    tracer = Tracer()
    for tensor in tensors(batch):
        tracer.reach.cast(tensor, torch.ones((), device=tensor.device))
    for parameter in model.parameters():
        # Any parameter may become another than zero, whatever it is now.
        tracer.gates.cast(parameter, torch.ones((), device=parameter.device))
    for name, value in values.items():
        tracer.gates.cast(value, leaves[name])
    with torch.no_grad(), tracer:
        outputs = loss(model, batch)
    found = [reach for tensor in tensors(outputs) if (reach := tracer.reach.of(tensor)) is not None]
    if not found:
        raise InputError(
            "the output cannot be followed back to the input: expected a loss that runs the model on the batch in "
            "operations of PyTorch; return tensors, and no numbers taken by item() or numpy()"
        )
    followed = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    total = sum((reach.sum().cpu() for reach in found), torch.zeros(()))
    if not total.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in followed.items()}
    gradients = torch.autograd.grad(total, list(followed.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(followed, gradients, strict=True))
