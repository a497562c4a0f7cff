"""What the layers of a network put out on real data: second moments, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from pruneinit.batch import Batches, batch_size, blame, each
from pruneinit.functional import Loss, Norm, call, cross_entropy, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.weights import Weight, layers, listed, owner

Watcher = Callable[[str, Tensor], Tensor | None]

# What these put out, without the bias, is their weight times something.
_MULTIPLY = {
    *(nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward),
    *(nn.ConvTranspose1d.forward, nn.ConvTranspose2d.forward, nn.ConvTranspose3d.forward),
}


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
    return moments_of(model, batches, overrides, loss=loss, norm=norm)


def moments_of(
    model: nn.Module,
    batches: Batches,
    overrides: Mapping[str, Tensor],
    *,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, float]:
    """As `second_moments`, of the model with the weights in `overrides` instead of its own."""
    sums: dict[str, float] = {}
    examples = 0
    with scoring_mode(model, norm), torch.no_grad():
        for batch in each(batches):
            seen: dict[str, float] = {}

            def measure(name: str, output: Tensor, seen: dict[str, float] = seen) -> None:
                if name not in seen:
                    seen[name] = mean_square(output)

            with watch(model, overrides, measure):
                call(model, batch, loss, overrides)
            size = batch_size(batch)
            examples += size
            if not all(map(math.isfinite, seen.values())):
                blame(batch)
            for name, value in seen.items():
                sums[name] = sums.get(name, 0.0) + size * value
    return {name: value / examples for name, value in sums.items()}


@contextmanager
def watch(model: nn.Module, overrides: Mapping[str, Tensor], watcher: Watcher) -> Iterator[None]:
    """Call `watcher(name, output)` whenever a layer has computed its output, which it gets without the bias.

    What the watcher returns takes the place of the output; None leaves it. A layer whose class has a forward pass of
    its own is run again instead, to see what it makes of the weight that the watcher has changed in `overrides`.

    The projections of multi-head attention are computed apart for the watcher, before the layer runs, so a changed
    output does not go on: change the weight in `overrides` in place instead, which the layer is about to read.
    """
    handles: list[RemovableHandle] = []
    try:
        for found in listed(model).values():
            if found.kind == "recurrent":  # its products stay inside of one operation
                continue
            # Every layer that shares a tied weight, since it may run before the one that gave the weight its name.
            for name, module in layers(model, found):
                handles.append(_hooked(model, found, name, module, overrides, watcher))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooked(
    model: nn.Module, found: Weight, name: str, module: nn.Module, overrides: Mapping[str, Tensor], watcher: Watcher
) -> RemovableHandle:
    """Hook the layer that owns the weight `found` under `name`, which is another name of it where weights are tied."""
    if isinstance(module, nn.MultiheadAttention):
        hook = _attention_hook(found, name.rpartition(".")[2], overrides, watcher)
        return module.register_forward_pre_hook(hook, with_kwargs=True)
    parent, _ = owner(model, name.rpartition(".")[0])
    if isinstance(parent, nn.MultiheadAttention):
        # Attention multiplies by its output projection itself; the layer is never called.
        return parent.register_forward_hook(_projection_hook(found, module, watcher))
    return module.register_forward_hook(_layer_hook(found, watcher))


def mean_square(output: Tensor) -> float:
    """The mean of the squares, in float64 so that it overflows no earlier than the output itself."""
    return float(output.detach().double().square().mean())


def _projection_hook(found: Weight, layer: nn.Module, watcher: Watcher) -> Callable[[nn.Module, Any, Any], Any]:
    inner = _layer_hook(found, watcher)

    def hook(module: nn.Module, inputs: Any, outputs: Any) -> Any:
        changed = inner(layer, inputs, outputs[0])
        return None if changed is None else (changed, *outputs[1:])

    return hook


def _layer_hook(found: Weight, watcher: Watcher) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
    positions = len(found.shape) - 2  # spatial dimensions that follow the channels

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        bias = cast(Tensor | None, getattr(module, "bias", None))
        shift = None if bias is None else bias.detach().reshape(-1, *[1] * positions)
        changed = watcher(found.name, output if shift is None else output - shift)
        if changed is None:
            return None
        if type(module).forward not in _MULTIPLY:
            # A class of its own may do more than to multiply, standardise its weight say, which undoes any factor.
            return cast(Tensor, module.forward(*inputs))
        return changed if shift is None else changed + shift

    return hook


def _attention_hook(
    found: Weight, leaf: str, overrides: Mapping[str, Tensor], watcher: Watcher
) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        inputs = [given.get(name) for name in ("query", "key", "value")]
        if any(x is None for x in inputs):  # somebody's subclass with arguments of its own
            return
        tensor = overrides[found.name]
        parts = tensor.chunk(3) if leaf == "in_proj_weight" else [tensor]
        if leaf != "in_proj_weight":
            inputs = [inputs["qkv".index(leaf[0])]]
        projected = [functional.linear(x, part).reshape(-1) for x, part in zip(inputs, parts, strict=True)]
        watcher(found.name, torch.cat(projected))

    return hook
