"""Gradients of a loss with respect to a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, blame, each
from pruneinit.criteria.sharded_gradients import sharded_gradients
from pruneinit.criteria.unreached import warn_unreached
from pruneinit.errors import InputError
from pruneinit.functional import Loss, Norm, call, cross_entropy, differentiable, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import gathered, groups_of, mean_over_processes, together
from pruneinit.sharded import is_sharded, local

_CHUNK = 1 << 17  # values at a time, so that temporaries stay in cache
_CHUNK_ELSEWHERE = 1 << 24  # on an accelerator every chunk costs a launch


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
    random numbers are as before afterwards. Dropout is off. A warning names the weights that no batch reaches, unless
    none is reached: then all scores are 0, which is for the criterion to say (`warn_if_zero`).

    Cost: a forward and a backward pass over the batches. Beside the model and the activations, memory for the result
    and the gradient of one weight at a time; where masks remove something, also for the masked weights.

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
        For each weight a tensor of its shape, in float32 or finer, the caller's to change; zero where the loss does not
        depend on the weight.

    Raises:
        InputError: There are no batches, one does not fit the model, the loss is not a finite scalar, or `norm` is
            missing where it matters.

    Example:
        >>> model = nn.Linear(1, 2)
        >>> gradients(model, [(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))])
        {'weight': tensor([[0.],
                [0.]])}
    """
    return weights_and_gradients(model, batches, loss=loss, norm=norm, masks=masks)[1]


def weights_and_gradients(
    model: nn.Module, batches: Batches | None, *, loss: Loss, norm: Norm | None, masks: Masks | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights as the forward pass sees them, times their masks, and their `gradients`.

    Where nothing is masked the weights are those of the model and not copies: read them only.

    Example:
        >>> batch = torch.ones(1, 2), torch.tensor([0])
        >>> weights, found = weights_and_gradients(nn.Linear(2, 3), [batch], loss=cross_entropy, norm=None, masks=None)
        >>> weights["weight"].shape, found["weight"].shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """
    groups = groups_of(model)
    if any(is_sharded(parameter) for parameter in model.parameters()):
        weights = effective_weights(model, masks)
        found, unreached = sharded_gradients(model, batches, loss=loss, norm=norm, masks=masks)
    else:
        weights, own, examples = together(lambda: _own(model, batches, loss, norm, masks), groups)
        every = gathered(sorted(weights.keys() - own.keys()), groups)
        unreached = [name for name in weights if all(name in names for names in every)]
        whole = {name: own.pop(name) if name in own else _zeros(weight) for name, weight in weights.items()}
        found = mean_over_processes(whole, examples, groups)
    warn_unreached(unreached, len(weights))
    return weights, found


def _own(
    model: nn.Module, batches: Batches | None, loss: Loss, norm: Norm | None, masks: Masks | None
) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """The weights, the mean gradient over this process's examples of those that they reach, and how many they are."""
    examples = 0
    with scoring_mode(model, norm):
        leaves = {name: tensor.requires_grad_() for name, tensor in effective_weights(model, masks).items()}
        mean = _Mean(leaves)

        def differentiate(net: nn.Module, batch: Any) -> None:
            # While the leaves still stand in for the weights: checkpointed blocks run a second time in here.
            torch.autograd.backward(differentiable(loss(net, batch), batch), inputs=list(leaves.values()))

        for batch in each(batches):
            mean.begin(batch_size(batch))
            call(model, batch, differentiate, leaves)
            mean.end()
            _blame_if_spoilt(batch, mean.values)
            examples += batch_size(batch)
    return {name: leaf.detach() for name, leaf in leaves.items()}, mean.values, examples


def slices(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of tensors of one shape, few at a time: what is computed from them in place needs no second copy.

    Of sharded tensors these are the rows that this process has.

    Example:
        >>> score, weight = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [-4.0]])
        >>> for part, factor in slices(score, weight):
        ...     _ = part.mul_(factor)
        >>> score.tolist()
        [[3.0], [-8.0]]
    """
    parts = [local(tensor) for tensor in tensors]
    chunk = _CHUNK if parts[0].device.type == "cpu" else _CHUNK_ELSEWHERE
    rows = max(1, chunk // max(1, parts[0][:1].numel()))
    return zip(*(torch.split(part, rows) for part in parts), strict=True)


class _Mean:
    """The running mean of the gradients of batches.

    Autograd hands over each leaf's gradient as soon as it has it, and it is folded in and freed before the next one
    is computed. So there is never a whole gradient beside the mean.
    """

    def __init__(self, leaves: Mapping[str, Tensor]) -> None:
        self.values: dict[str, Tensor] = {}  # of those weights that a batch has reached
        self._examples = 0
        self._share = 1.0  # of the batch at hand, among the examples so far
        self._reached: set[str] = set()  # by the batch at hand
        self._held: set[int] = set()  # the storages of the values, by address
        for name, leaf in leaves.items():
            cast(Any, leaf).register_post_accumulate_grad_hook(partial(self._take, name))

    def begin(self, size: int) -> None:
        """A batch of `size` examples comes."""
        self._examples += size
        self._share = size / self._examples
        self._reached = set()

    def end(self) -> None:
        """The batch is over: weights that it did not reach had the gradient 0 in it."""
        for name in self.values.keys() - self._reached:
            self.values[name].lerp_(self.values[name].new_zeros(()), self._share)

    def _take(self, name: str, leaf: Tensor) -> None:
        gradient, leaf.grad = leaf.grad, None
        assert gradient is not None
        if name in self._reached:  # the rest of it, from a block that differentiates itself within the backward pass
            self.values[name] = self.values[name].add(gradient, alpha=self._share)
        elif self._share == 1:
            self.values[name] = self._owned(gradient)
        else:
            if name not in self.values:
                self.values[name] = _zeros(leaf)
            mean = self.values[name]
            for part, new in slices(mean, gradient):
                part.lerp_(new.to(part.dtype), self._share)
        self._reached.add(name)

    def _owned(self, gradient: Tensor) -> Tensor:
        """The gradient in a storage that holds nothing else: autograd may give two weights views of one."""
        # In bfloat16 the mean of many batches would lose its later ones.
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        storage = wide.untyped_storage()
        if storage.nbytes() > wide.nbytes or storage.data_ptr() in self._held:
            wide = wide.clone()
        self._held.add(wide.untyped_storage().data_ptr())
        return wide


def _blame_if_spoilt(batch: Any, found: Mapping[str, Tensor]) -> None:
    """Name a batch that holds NaN or inf as the cause of gradients that are not finite."""
    try:
        blame(batch)  # a look at the batch costs next to nothing, one at all the gradients a lot
    except InputError:
        if not all(bool(part.isfinite().all()) for gradient in found.values() for (part,) in slices(gradient)):
            raise


def _zeros(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf, dtype=torch.promote_types(leaf.dtype, torch.float32), requires_grad=False)
