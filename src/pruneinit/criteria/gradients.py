"""Gradients of a loss with respect to a model's weights, with the model left exactly as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from pruneinit.errors import InputError, unknown
from pruneinit.masks import Masks
from pruneinit.reparametrize import replaced, weight_names
from pruneinit.weights import prunable, weight

Norm = Literal["batch", "running"]
Loss = Callable[[nn.Module, Any], Tensor]
Batches = Iterable[Any]


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    """The loss used where none is given: mean cross entropy of `model(x)` for a batch `(x, y)`."""
    x, y = batch
    return functional.cross_entropy(model(x), y)


def effective_weights(model: nn.Module, masks: Masks | None) -> dict[str, Tensor]:
    """The weights as the forward pass sees them, times their masks; detached.

    Args:
        model: Any module, dense or sparsified.
        masks: Which weights are wanted, and what of each is kept; None for all prunable weights.
    """
    if masks is None:
        return {name: weight(model, name).detach() for name in prunable(model)}
    found = {}
    for name, (kept, total) in masks.counts.items():
        tensor = weight(model, name).detach()
        found[name] = tensor if kept == total else tensor * masks[name].to(tensor.device)
    return found


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

    Args:
        model: Any module.
        batches: What `loss` takes, usually `(x, y)` pairs, on the model's device.
        loss: `loss(model, batch)`, a scalar averaged over the examples of the batch.
        norm: Whether batch normalisation uses the statistics of the `"batch"` or the `"running"` ones. Must be given
            for a model that has such layers, because the two give very different scores at initialisation.
        masks: Which weights are wanted; what they remove counts as zero. None for all prunable weights, as they are.

    Returns:
        For each weight a tensor of its shape. A weight that the loss does not depend on has gradient zero.

    Raises:
        InputError: There are no batches, one does not fit the model, the loss is not a finite scalar, or `norm` is
            missing where it matters.

    Example:
        >>> model = nn.Linear(1, 2)
        >>> gradients(model, [(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long))])
        {'weight': tensor([[0.],
                [0.]])}
    """
    leaves = {name: tensor.requires_grad_() for name, tensor in effective_weights(model, masks).items()}
    total: dict[str, Tensor] = {}
    examples = 0
    with scoring_mode(model, norm):
        for batch in each(batches):
            size = batch_size(batch)
            value = evaluate(model, batch, loss, leaves)
            parts = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
            examples += size
            for (name, leaf), part in zip(leaves.items(), parts, strict=True):
                if part is None:
                    total.setdefault(name, torch.zeros_like(leaf))
                elif name in total:
                    # A running mean: needs no second buffer for the sum and one batch stays as it is.
                    total[name].lerp_(part, size / examples)
                else:
                    total[name] = part
    return {name: grad.detach() for name, grad in total.items()}


def evaluate(model: nn.Module, batch: Any, loss: Loss, overrides: Mapping[str, Tensor]) -> Tensor:
    """`loss(model, batch)` with some weights replaced and every buffer a copy, so that the model is untouched.

    Raises:
        InputError: The batch does not fit the model, or the loss is not a finite scalar.
    """
    value = run(model, batch, loss, overrides)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError(f"the loss must be a scalar tensor, got {describe(value)}")
    if not bool(value.isfinite()):
        raise InputError(
            f"the loss is {value.item()} on the batch given, {describe(batch)}: check the data for NaN, or the "
            "initialisation for overflow (pruneinit.edge_of_chaos_)"
        )
    return value.reshape(())


def run(model: nn.Module, batch: Any, loss: Loss, overrides: Mapping[str, Tensor]) -> Any:
    """As `evaluate`, but whatever `loss` returns is returned, finite or not.

    Raises:
        InputError: The batch does not fit the model.
    """
    aliases = {name: weight_names(found) for name, found in prunable(model).items()}
    wanted = {alias: t for name, t in overrides.items() for alias in aliases.get(name, (name,))}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with replaced(model, wanted) as plain:
            tensors = {f"model.{name}": t for name, t in (buffers | plain).items()}
            return functional_call(_WithLoss(model, loss), tensors, (batch,))
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"the model cannot be run on the batch given, {describe(batch)}: {reason}; expected what "
            "loss(model, batch) takes, by default (inputs, class labels)"
        ) from error


@contextmanager
def scoring_mode(model: nn.Module, norm: Norm | None) -> Iterator[None]:
    """The model in evaluation mode, batch normalisation as `norm` says, gradients on, random numbers fenced off.

    Raises:
        InputError: `norm` is unknown, or missing for a model with batch normalisation.
    """
    modes = {name: module.training for name, module in model.named_modules()}
    normalisations = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    if norm not in (None, "batch", "running"):
        raise unknown("norm", str(norm), ("batch", "running"))
    if normalisations and norm is None:
        raise InputError(
            f"the model has {len(normalisations)} layers that normalise by batch or by running statistics, and the "
            "two give different scores: say norm='batch' or norm='running'"
        )
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
            model.eval()
            for module in normalisations:
                module.training = norm == "batch"
            yield
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]


def batch_size(batch: Any) -> int:
    """How many examples a batch holds: the first dimension of its first tensor."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, Tensor) and leaf.dim():
            return len(leaf)
    return 1


def describe(batch: Any) -> str:
    """A batch in words, for error messages.

    Example:
        >>> describe((torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)))
        '(float32 4x3, int64 4)'
    """
    leaves = [
        f"{str(t.dtype).removeprefix('torch.')} {'x'.join(map(str, t.shape)) or 'scalar'}"
        if isinstance(t, Tensor)
        else type(t).__name__
        for t in pytree.tree_leaves(batch)
    ]
    return f"({', '.join(leaves[:6])}{', ...' if len(leaves) > 6 else ''})"


class _WithLoss(nn.Module):
    """Lets `functional_call` replace tensors of the real model while a loss of the user's runs on it."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.model, batch)


def each(batches: Batches | None) -> Iterator[Any]:
    """The batches one by one, with a clear error for what is not an iterable of non-empty batches."""
    if batches is None:
        raise InputError("this criterion needs data: pass batches=[(inputs, labels), ...]")
    if isinstance(batches, Tensor) or (isinstance(batches, tuple) and batches and isinstance(batches[0], Tensor)):
        raise InputError("batches must be an iterable of batches, got a single batch; pass [batch]")
    empty = True
    for batch in batches:
        empty = False
        if batch_size(batch) == 0:
            raise InputError(f"a batch is empty: {describe(batch)}")
        yield batch
    if empty:
        raise InputError("there are no batches: expected at least one (inputs, labels)")
