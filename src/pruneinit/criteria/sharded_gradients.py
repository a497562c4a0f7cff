"""Gradients of a model whose parameters are DTensors: every process gets those of its own parts.

Sharded parameters cannot be replaced for one evaluation, as `functional.call` does, because FSDP's hooks put together
the parameters that it knows. So the real model runs, one layer whole at a time as in training, and each part of a
gradient is taken as it comes. Parameters, their `.grad` and buffers are put back afterwards, whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, each
from pruneinit.errors import InputError
from pruneinit.functional import Loss, Norm, differentiable, eager, fitting, scoring_mode
from pruneinit.masks import Masks, check_masks
from pruneinit.processes import Groups, gathered, groups_of, together
from pruneinit.reparametrize import chain, stored
from pruneinit.sharded import is_sharded, local, matching, part, reshard_, sharded_like
from pruneinit.weights import listed, uncompiled


def sharded_gradients(
    model: nn.Module, batches: Batches | None, *, loss: Loss, norm: Norm | None, masks: Masks | None
) -> tuple[dict[str, Tensor], list[str]]:
    """As `gradients`, for a sharded model: the mean over the examples of all processes, sharded like the weights.

    Args:
        model: A model whose parameters are DTensors, as `fully_shard` makes them.
        batches: This process's share. One that has fewer batches repeats its last, which then counts nothing: all must
            run the model equally often.
        loss: `loss(model, batch)`, a scalar averaged over the examples of the batch.
        norm: Which statistics batch normalisation uses.
        masks: Which weights are wanted, and what of each is kept; None for all.

    Returns:
        For each weight its gradient, and the names of those that the loss does not depend on.

    Raises:
        InputError: As `gradients` does, on all processes; or a weight is not sharded while others are. What fails
            inside of the model's forward pass on one process alone is raised there alone, since the others wait for it
            in an exchange of parameters: that process must end, whereupon torchrun ends them all.
    """
    groups = groups_of(model)
    inner = uncompiled(model)
    parameters = _parameters(model, masks)
    mean = _Mean(parameters)
    with scoring_mode(model, norm), eager(), _lent(inner, parameters, masks), _buffers(inner) as restore:
        handles = mean.watch(inner)
        try:
            for batch, share, number in _steps(batches, groups):
                mean.begin(number)
                _backward(inner, loss, batch, share, groups)
                restore()
        finally:
            for handle in handles:
                handle.remove()
    found = {name: sharded_like(values, parameters[name]) for name, values in mean.values.items()}
    return found, [name for name in found if name not in mean.reached]


class _Mean:
    """The mean over batches of gradients that arrive one parameter at a time, in this process's parts of them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.values = {
            name: torch.zeros_like(local(p), dtype=torch.promote_types(p.dtype, torch.float32))
            for name, p in parameters.items()
        }
        self.reached: set[str] = set()
        self.examples = 0
        self.weight = 0.0

    def begin(self, examples: int) -> None:
        """Make room for the gradients of a batch of so many examples."""
        self.examples += examples
        self.weight = examples / self.examples
        for values in self.values.values():
            values.mul_(1 - self.weight)

    def watch(self, model: nn.Module) -> list[Any]:
        """Take each gradient away from its parameter as soon as it is there, also of parameters that nobody asked for.

        Returns:
            Handles that end it.
        """
        names = {id(p): name for name, p in self.parameters.items()}
        trained: list[Any] = [p for p in model.parameters() if p.requires_grad]
        return [p.register_post_accumulate_grad_hook(partial(self._take, names.get(id(p)))) for p in trained]

    def _take(self, name: str | None, parameter: Any) -> None:
        gradient, parameter.grad = parameter.grad, None
        if name is not None and gradient is not None:
            here = gradient.redistribute(placements=parameter.placements)  # it most often is so already
            self.values[name].add_(local(here), alpha=self.weight)
            self.reached.add(name)


def _parameters(model: nn.Module, masks: Masks | None) -> dict[str, nn.Parameter]:
    weights = listed(model)
    masks = None if masks is None else check_masks(masks, {name: found.shape for name, found in weights.items()})
    parameters = {name: stored(model, name) for name in (weights if masks is None else masks)}
    for name, parameter in parameters.items():
        if not is_sharded(parameter):
            raise InputError(f"{name} is not sharded while others are: shard the whole model, the root module last")
        if chain(model, name):
            raise InputError(f"{name} is parametrised and sharded: score it before sharding the model")
        part(parameter)  # refuses what cannot be placed
    return parameters


def _steps(batches: Batches | None, groups: Groups) -> Iterator[tuple[Any, float, int]]:
    """As often as the process with most batches has one: a batch, its factor, and the examples of all processes.

    The factor makes the processes' plain mean, which FSDP takes, the mean over the examples.
    """
    source, batch = each(batches), None
    while True:
        drawn = together(lambda: next(source, None), groups)
        sizes = gathered(0 if drawn is None else batch_size(drawn), groups)
        if not any(sizes):
            return
        batch = batch if drawn is None else drawn
        mine = 0 if drawn is None else batch_size(drawn)
        yield batch, mine * len(sizes) / sum(sizes), sum(sizes)


def _backward(model: nn.Module, loss: Loss, batch: Any, share: float, groups: Groups) -> None:
    """One forward and backward pass; all go backward together, or none does."""
    begun, done = [], []  # forward passes of the model, of which a loss may ask for several
    hooks = [
        model.register_forward_pre_hook(lambda *_: begun.append(1), prepend=True),
        model.register_forward_hook(lambda *_: done.append(1)),
    ]
    value, failure = torch.zeros(()), None  # an error is raised where all can hear of it
    try:
        with fitting(batch):
            value = differentiable(loss(model, batch), batch)
            if not value.requires_grad:
                raise RuntimeError("the loss does not depend on the model")
    except Exception as error:
        failure = error
    finally:
        for hook in hooks:
            hook.remove()

    def outcome() -> None:
        if failure is not None:
            raise failure

    try:
        if len(done) < len(begun):  # inside of the model the others wait for parameters, and would take this for some
            outcome()
        together(outcome, groups)
        with fitting(batch):
            (value * share).backward()  # type: ignore[no-untyped-call]
    except BaseException:
        if begun:
            _reset_(model)
        raise


@contextmanager
def _lent(model: nn.Module, parameters: Mapping[str, nn.Parameter], masks: Masks | None) -> Iterator[None]:
    """The parameters masked in place, trainable and without a gradient, and then as they were."""
    every = list(model.parameters())
    gradients = [p.grad for p in every]
    trainable = {p: p.requires_grad for p in parameters.values()}
    dense: dict[str, Tensor] = {}
    try:
        for p in every:
            p.grad = None
        for name, p in parameters.items():
            p.requires_grad_()
            if masks is not None and masks.counts[name][0] < masks.counts[name][1]:
                dense[name] = local(p).clone()
                local(p).mul_(local(matching(masks[name], p)))
        yield
    finally:
        for name, values in dense.items():
            local(parameters[name]).copy_(values)
        for p, was in trainable.items():
            p.requires_grad_(was)
        for p, gradient in zip(every, gradients, strict=True):
            p.grad = gradient


@contextmanager
def _buffers(model: nn.Module) -> Iterator[Any]:
    """Gives a function that puts back the buffers of all modules; it is also called in the end."""
    before = [
        (module._buffers, leaf, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for leaf, buffer in module._buffers.items()
    ]

    def restore() -> None:
        with torch.no_grad():
            for owner, leaf, buffer, values in before:
                owner[leaf] = buffer
                if buffer is not None and values is not None:
                    buffer.copy_(values)

    try:
        yield restore
    finally:
        restore()


def _reset_(model: nn.Module) -> None:
    """Let FSDP forget a pass that did not come to its end."""
    reset = getattr(model, "reset_iter_state", None)  # since PyTorch 2.13
    if reset is not None:
        reset()
    reshard_(model)
