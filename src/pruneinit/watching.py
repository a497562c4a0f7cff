"""Watching the layers of a network put out what they make of their inputs, and changing it on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from pruneinit.weights import Weight, layers, listed, owner

# What these put out, without the bias, is their weight times something.
_MULTIPLY = {
    *(nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward),
    *(nn.ConvTranspose1d.forward, nn.ConvTranspose2d.forward, nn.ConvTranspose3d.forward),
}


@dataclass(frozen=True)
class Output:
    """What a layer puts out, without its bias.

    Attributes:
        parts: Tensors of shape [..., neurons, *positions] whose neurons follow each other: one, but of the fused
            projections of attention three, as their inputs may differ in length.
        positions: How many spatial dimensions follow the neurons.

    Example:
        >>> output = Output((torch.tensor([[1.0, 0.0], [3.0, 2.0]]),))
        >>> output.mean_square(), output.mean_squares().tolist(), output.samples
        (3.5, [5.0, 2.0], 2)
    """

    parts: tuple[Tensor, ...]
    positions: int = 0

    @property
    def neurons(self) -> int:
        """How many neurons there are, over all parts."""
        return sum(part.shape[-1 - self.positions] for part in self.parts)

    @property
    def samples(self) -> int:
        """How many values there are of a neuron: examples times positions; the least of any part."""
        return min(part.numel() // max(1, part.shape[-1 - self.positions]) for part in self.parts)

    def whole(self) -> Tensor:
        """All values: the tensor itself where there is one part, else flat."""
        return self.parts[0] if len(self.parts) == 1 else torch.cat([part.reshape(-1) for part in self.parts])

    def mean_square(self) -> float:
        """The mean of the squares, in float64 so that it overflows no earlier than the output itself."""
        return float(self.whole().detach().double().square().mean())

    def mean_squares(self) -> Tensor:
        """The mean of the squares of each neuron, in float64: [neurons]."""
        return torch.cat([_per_neuron(part.detach().double().square(), self.positions) for part in self.parts])

    def times(self, factors: Tensor) -> Tensor:
        """The values times one factor, or times one for each neuron; flat where there are several parts."""
        if not factors.dim():
            return self.whole() * factors
        shaped = factors.reshape(-1, *[1] * self.positions)
        sizes = [part.shape[-1 - self.positions] for part in self.parts]
        pairs = zip(self.parts, torch.split(shaped, sizes), strict=True)
        return Output(tuple((part * some).to(part.dtype) for part, some in pairs), self.positions).whole()


Watcher = Callable[[str, Output], Tensor | None]


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
        changed = watcher(found.name, Output((output if shift is None else output - shift,), positions))
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
        projected = [functional.linear(x, part) for x, part in zip(inputs, parts, strict=True)]
        watcher(found.name, Output(tuple(projected)))

    return hook


def _per_neuron(squares: Tensor, positions: int) -> Tensor:
    neurons = squares.shape[-1 - positions]
    return squares.movedim(-1 - positions, -1).reshape(-1, neurons).mean(0)
