"""Gradients and products of the Hessian with a vector, for the criteria that look further than one gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pruneinit.batch import batch_size, blame
from pruneinit.criteria.twice import Twice
from pruneinit.errors import InputError
from pruneinit.functional import Loss, call, differentiable
from pruneinit.masks import Masks
from pruneinit.processes import averaged, gathered, groups_of
from pruneinit.reparametrize import factor
from pruneinit.survivors import current_masks
from pruneinit.weights import uncompiled

Tensors = Mapping[str, Tensor]
Parts = Mapping[str, Tensor | None]  # None where nothing depends on the tensor of that name


def fine(tensor: Tensor) -> Tensor:
    """The tensor in float32 or finer.

    Example:
        >>> fine(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def filled(parts: Parts, like: Tensors) -> dict[str, Tensor]:
    """The parts in float32 or finer, in the order of `like`, with zeros of its shapes where there are none.

    Example:
        >>> filled({"w": None}, {"w": torch.ones(2)})
        {'w': tensor([0., 0.])}
    """
    found = {name: parts[name] for name in like}
    return {name: fine(torch.zeros_like(like[name]) if part is None else part) for name, part in found.items()}


def unseen(parts: Parts, names: Iterable[str]) -> list[str]:
    """Those of the names that nothing depends on."""
    return [name for name in names if parts[name] is None]


def leaves(tensors: Tensors, like: Tensors) -> dict[str, Tensor]:
    """Copies of the tensors to differentiate by, in the types of `like`."""
    return {name: t.detach().to(like[name].dtype, copy=True).requires_grad_() for name, t in tensors.items()}


def mean(
    model: nn.Module, batches: Iterable[Any], part: Callable[[Any], Parts], like: Tensors
) -> dict[str, Tensor | None]:
    """The mean of `part(batch)` over batches that count by their number of examples.

    Of a model that several processes share it is the mean over the batches of all, and the same bits on all of them.

    Args:
        model: As the criterion was given it, which says whether it is shared.
        batches: At least one. They are read, and `part` is called, on each process by itself.
        part: What to average, for each name of `like`; None counts as zeros. It must not wait for other processes.
        like: Tensors of the parts' shapes and, where they are no finer, types.

    Returns:
        Tensors in float32 or finer, None where every part is.

    Raises:
        InputError: A part is not finite because its batch is not, or what reading the batches or `part` raises; on all
            processes.

    Example:
        >>> batches = [torch.ones(3), torch.full((1,), 5.0)]
        >>> mean(nn.Linear(1, 1), batches, lambda batch: {"w": batch.mean()}, {"w": torch.zeros(())})
        {'w': tensor(2.)}
    """
    lacking: list[str] = []

    def own() -> tuple[dict[str, Tensor], int]:
        parts, examples = _own_mean(batches, part)
        lacking.extend(unseen(parts, like))
        return filled(parts, like), examples

    found = averaged(model, own)
    everywhere = set(lacking).intersection(*gathered(lacking, groups_of(model)))
    return {name: None if name in everywhere else value for name, value in found.items()}


def _own_mean(batches: Iterable[Any], part: Callable[[Any], Parts]) -> tuple[dict[str, Tensor | None], int]:
    """The mean over the batches of this process, and the number of their examples."""
    total: dict[str, Tensor | None] = {}
    examples = 0
    for batch in batches:
        examples += batch_size(batch)
        share = batch_size(batch) / examples
        parts = part(batch)
        if not all(bool(value.isfinite().all()) for value in parts.values() if value is not None):
            blame(batch)
        for name, value in parts.items():
            before = total.get(name)
            if before is None:
                total[name] = None if value is None else fine(value) * share
            else:  # not in place: two weights may be given one and the same tensor
                total[name] = before.lerp(torch.zeros_like(before) if value is None else fine(value), share)
    return total, examples


def gradient(model: nn.Module, batch: Any, loss: Loss, tensors: Tensors) -> Parts:
    """The gradient of the loss on one batch by `tensors`, leaves that stand in for the model's."""

    def differentiate(net: nn.Module, batch: Any) -> tuple[Tensor | None, ...]:
        # While they stand in for the weights: checkpointed blocks run a second time in here.
        return torch.autograd.grad(differentiable(loss(net, batch), batch), list(tensors.values()), allow_unused=True)

    return dict(zip(tensors, call(model, batch, differentiate, tensors), strict=True))


def hessian_product(
    model: nn.Module, batch: Any, loss: Loss, tensors: Tensors, vector: Tensors | Callable[[Parts], Tensors]
) -> Parts:
    """The Hessian of the loss on one batch by `tensors`, times a vector.

    Args:
        model: Any module, within `twice_differentiable`.
        batch: What `loss` takes.
        loss: A scalar.
        tensors: Leaves that stand in for the model's.
        vector: Where it is not 0; or what makes it out of the gradient on this batch.

    Raises:
        InputError: An operation of the model has no second derivative.
    """

    def differentiate(net: nn.Module, batch: Any) -> Sequence[Tensor | None]:
        with Twice():
            return bend(differentiable(loss(net, batch), batch))

    def bend(value: Tensor) -> Sequence[Tensor | None]:
        try:
            slopes = torch.autograd.grad(value, list(tensors.values()), create_graph=True, allow_unused=True)
            found = dict(zip(tensors, slopes, strict=True))
            detached = {name: None if slope is None else slope.detach() for name, slope in found.items()}
            along = vector if isinstance(vector, Mapping) else vector(detached)
            curved = {n: s for n, s in found.items() if n in along and s is not None and s.requires_grad}
            if not curved:  # the loss is linear in every tensor
                return [None] * len(tensors)
            require_second_derivatives(curved.values())
            seeds = [along[name].to(slope.dtype) for name, slope in curved.items()]
            return torch.autograd.grad(list(curved.values()), list(tensors.values()), seeds, allow_unused=True)
        except RuntimeError as error:
            raise InputError(
                "this criterion needs second derivatives, and an operation of the model or of the loss has none: "
                f"{str(error).strip().splitlines()[0]}; replace the operation, or choose a criterion of first "
                "derivatives such as Snip"
            ) from error

    return dict(zip(tensors, call(model, batch, differentiate, tensors), strict=True))


def speeds(model: nn.Module, tensors: Tensors, masks: Masks | None) -> dict[str, Tensor]:
    """How far a step of gradient descent moves each tensor that the model reads, in units of that tensor's gradient.

    1 for a plain parameter; 0 for what the masks or the model's own survivors have removed; the square of a factor
    between the parameter and the tensor (of `rescale_` or `stabilize_residuals_`): the gradient of the parameter has
    it once, and so has the step of the tensor.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> speeds(model, {"weight": model.weight}, Masks({"weight": torch.tensor([[True, False]])}))
        {'weight': tensor([[1., 0.]])}
    """
    survivors = current_masks(model)
    found = {}
    for name, tensor in tensors.items():
        # A float32 scalar would round the learning rate that it is multiplied by.
        found[name] = factor(model, name).to(fine(tensor).dtype).square()
        for kept in (survivors, masks):
            if kept is not None and name in kept:
                found[name] = found[name] * kept[name].to(found[name].device)
    return found


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Let PyTorch choose implementations that have a second derivative, where it has some that do not."""
    # Fused attention and cuDNN's recurrent layers have a first derivative only.
    recurrent = any(isinstance(module, nn.RNNBase) for module in uncompiled(model).modules())
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext():
        yield


def require_second_derivatives(slopes: Iterable[Tensor]) -> None:
    """See that no operation behind the slopes was declared to have a first derivative only.

    PyTorch leaves a node in the graph that raises when it is run, but `torch.autograd.grad` runs only nodes that lead
    to its inputs, and that one leads nowhere: its share of the result would be missing without a word.
    """
    nodes = [slope.grad_fn for slope in slopes]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if node.name().endswith("::Error"):
            raise RuntimeError("an autograd function is once_differentiable")
        fresh = [following for following, _ in node.next_functions if following not in seen]
        seen.update(fresh)
        nodes.extend(fresh)
