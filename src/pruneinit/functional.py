"""Running a model with other weights, with the model left exactly as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from pruneinit.batch import blame, describe
from pruneinit.errors import InputError, check_model, unknown
from pruneinit.masks import Masks, check_masks
from pruneinit.reparametrize import copied_state, replaced, require_ours, tied_names
from pruneinit.seeds import derived
from pruneinit.sharded import matching, require_whole, reshard_
from pruneinit.weights import listed, owner, uncompiled, weight

Norm = Literal["batch", "running"]
Loss = Callable[[nn.Module, Any], Tensor]


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    """The loss used where none is given: mean cross entropy of `model(x)` for a batch `(x, y)`."""
    x, y = batch
    return functional.cross_entropy(model(x), y)


def effective_weights(model: nn.Module, masks: Masks | None) -> dict[str, Tensor]:
    """The weights as the forward pass sees them, times their masks; detached.

    Args:
        model: Any module, dense or sparsified.
        masks: Which weights are wanted, and what of each is kept; None for all prunable weights.

    Raises:
        InputError: A mask is of another model, or tied layers read a weight as different tensors.
    """
    reshard_(model)
    weights = listed(model)
    masks = None if masks is None else check_masks(masks, {name: found.shape for name, found in weights.items()})
    wanted = weights if masks is None else masks
    # Tied layers of which one reads the tensor through weight norm compute with two tensors, and have no one score.
    shared = (w for w in weights.values() if w.name in wanted and w.aliases)
    if tied := [w.name for w in shared if len({id(owner(model, n)[0]) for n in (w.name, *w.aliases)}) > 1]:
        require_ours(model, tied)
    found = {}
    for name in wanted:
        tensor = weight(model, name).detach()
        if masks is not None and masks.counts[name][0] < masks.counts[name][1]:
            tensor = tensor * matching(masks[name], tensor)
        elif any(getattr(owner(model, alias)[0], "max_norm", None) is not None for alias in weights[name].aliases):
            tensor = tensor.clone()  # an embedding that is tied to it would write to it
        found[name] = tensor
    return found


def scalar(value: Any, batch: Any) -> Tensor:
    """The value of a loss on a batch, if it is a finite scalar.

    Raises:
        InputError: It is not.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError(f"the loss must be a scalar tensor, got {describe(value)}")
    if not bool(value.isfinite()):
        blame(batch)
        raise InputError(
            f"the loss is {value.item()} on the batch given, {describe(batch)}: check the data for NaN, or the "
            "initialisation for overflow (pruneinit.edge_of_chaos_)"
        )
    return value.reshape(())


def differentiable(value: Any, batch: Any) -> Tensor:
    """The value of a loss on a batch, if it is a finite scalar that has a gradient.

    Raises:
        InputError: It is not.
    """
    found = scalar(value, batch)
    if not found.requires_grad:
        raise InputError(
            f"the loss on the batch given, {describe(batch)}, depends on no weight to be scored: expected one made of "
            "the model's outputs; look for detach(), item(), no_grad() and argmax() in model and loss"
        )
    return found


def call(model: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Any], overrides: Mapping[str, Tensor]) -> Any:
    """`loss(model, batch)` with some weights replaced and every buffer a copy, so that the model is untouched.

    Raises:
        InputError: The batch does not fit the model, or the model is sharded.
    """
    model = uncompiled(model)
    require_whole(model)
    tied = tied_names(model)
    wanted = {alias: tensor for name, tensor in overrides.items() for alias in tied[name]}
    copies = copied_state(model)
    with fitting(batch), replaced(model, wanted) as plain, eager():
        tensors = {f"model.{name}": t for name, t in (copies | plain).items()}
        return functional_call(_WithLoss(model, loss), tensors, (batch,), tie_weights=False)


@contextmanager
def fitting(batch: Any) -> Iterator[None]:
    """Say of what goes wrong in running a model on a batch that the two do not fit.

    Raises:
        InputError: In place of what PyTorch raises.
    """
    try:
        yield
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, KeyError):  # which says nothing but the key
            reason = f"there is no {reason}"
        raise InputError(
            f"the model cannot be run on the batch given, {describe(batch)}: {reason}; expected what "
            "loss(model, batch) takes, by default (inputs, class labels)"
        ) from error


@contextmanager
def scoring_mode(model: nn.Module, norm: Norm | None) -> Iterator[None]:
    """The model in evaluation mode, batch normalisation as `norm` says, gradients on, random numbers fenced off.

    Raises:
        InputError: `norm` is unknown, or missing for a model with batch normalisation. Or `model` is none.
    """
    check_model(model)
    modes = [(module, module.training) for module in model.modules()]
    normalisations = [m for m, _ in modes if isinstance(m, _NormBase) and m.track_running_stats]
    if norm not in (None, "batch", "running"):
        raise unknown("norm", str(norm), ("batch", "running"))
    if normalisations and norm is None:
        raise InputError(
            f"the model has {len(normalisations)} layers that normalise by batch or by running statistics, and the "
            "two give different scores: say norm='batch' or norm='running'"
        )
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
            _seed(devices)
            if any(training for _, training in modes):
                model.eval()
            for module in normalisations:
                module.training = norm == "batch"
            yield
    finally:
        for any_module, training in modes:
            if any_module.training != training:  # to set an attribute of a module is slow
                any_module.training = training


def _seed(devices: list[int]) -> None:
    """Let noise that a model draws in evaluation mode be the same whatever was drawn before."""
    seed = derived("noise of the model")
    torch.default_generator.manual_seed(seed)
    for index in devices:
        torch.cuda.default_generators[index].manual_seed(seed)


@contextmanager
def eager() -> Iterator[None]:
    """Run what `torch.compile` has compiled as plain PyTorch.

    Each set of replaced weights would be compiled anew, for seconds, and the autograd graph would be one operation.
    """
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and the import would take a second
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


class _WithLoss(nn.Module):
    """Lets `functional_call` replace tensors of the real model while a loss of the user's runs on it."""

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Any:
        return self.loss(self.model, batch)
