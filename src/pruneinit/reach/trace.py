"""Shadows beside the tensors of a forward pass: what each element can depend on, kept storage by storage.

A shadow belongs to a storage, not to a tensor, so all views of a tensor see it and a change in place is seen by all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneinit.batch import tensors
from pruneinit.calls import address, functional_form, is_composed, named, opened
from pruneinit.reach.operation import Operation
from pruneinit.reach.table import CONSTANTS, follow


class Shadows:
    """0 or 1 for each element of the storages that something is known of."""

    def __init__(self) -> None:
        # The tensor is kept so that its storage stays and no other can come to the same address.
        self._known: dict[int, tuple[Tensor, int, Tensor]] = {}

    def of(self, tensor: Any) -> Tensor | None:
        """The shadow of a tensor, in its shape; None where nothing is known of its storage."""
        key = address(tensor)
        if key not in self._known:
            return None
        _, size, flat = self._known[key]
        flat = _resized(flat, size, tensor.element_size())
        if flat.numel() == tensor.numel() and tensor.is_contiguous():
            return flat.view(tensor.shape)
        return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def cast(self, tensor: Tensor, shadow: Tensor) -> None:
        """Set the shadow of a tensor and of everything that shares its elements."""
        key = address(tensor)
        if not key:
            return
        shadow = shadow.float().expand(tensor.shape)
        length = tensor.untyped_storage().nbytes() // tensor.element_size()
        if length == tensor.numel() and tensor.is_contiguous():
            flat = shadow.reshape(-1).contiguous()
            flat = flat.clone() if flat.storage_offset() else flat  # as_strided counts from the storage's beginning
        else:
            flat = torch.zeros(length, device=shadow.device)
            if key in self._known:
                _, size, before = self._known[key]
                flat = _resized(before, size, tensor.element_size())
            flat = flat.as_strided_scatter(shadow, tensor.shape, tensor.stride(), tensor.storage_offset())
        self._known[key] = (tensor, tensor.element_size(), flat)


def _resized(flat: Tensor, size: int, wanted: int) -> Tensor:
    """The shadow of elements of `size` bytes for elements of `wanted` bytes: complex numbers seen as pairs."""
    if wanted == size:
        return flat
    if wanted > size:
        return flat[: len(flat) // (wanted // size) * (wanted // size)].view(-1, wanted // size).amax(1)
    return flat.repeat_interleave(size // wanted)


class Tracer(TorchFunctionMode):
    """Follows every operation: the model computes its real values, and their shadows are computed beside them.

    Attributes:
        reach: Of tensors that depend on the input.
        gates: Of tensors made of weights alone: where they are not always zero, and on which weights they depend.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reach = Shadows()
        self.gates = Shadows()
        self._within: list[Callable[..., Any]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, and follow what it does."""
        kwargs = kwargs or {}
        name, in_place = named(func)
        # Some methods call their namesake in C, which asks for them again.
        if is_composed(func) and func not in self._within:
            self._within.append(func)
            try:
                with self:
                    return opened(func)(*args, **kwargs)
            finally:
                self._within.pop()
        result = func(*args, **kwargs)
        changed = args[0] if in_place and args else kwargs.get("out")
        outputs = tensors(changed) if changed is not None else self._fresh(tensors(result), args, kwargs)
        if outputs and (name not in CONSTANTS or in_place):
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_unchanged, _unchanged):
                self._follow(name, functional_form(func, name, in_place), args, kwargs, outputs)
        return result

    def _fresh(self, results: list[Tensor], args: Any, kwargs: Any) -> list[Tensor]:
        """The results that are no views of an argument; views have their shadow already."""
        given = {address(t) for t in tensors((args, kwargs))}
        return [t for t in results if address(t) not in given]

    def _follow(
        self, name: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], outputs: list[Tensor]
    ) -> None:
        given = tensors((args, kwargs))
        inner = all(self.reach.of(t) is None for t in given)
        followed = self.gates if inner else self.reach
        if inner and all(self.gates.of(t) is None for t in given):
            return
        shadows = []
        for out in outputs:
            if name in CONSTANTS:
                shadows.append(torch.zeros((), device=out.device))
                continue
            operation = Operation(name, func, args, kwargs, out, followed.of, self._factor, self.gates.of, inner)
            shadow = follow(operation).to(out.device)
            # The real result knows what is not zero although all weights are: w + 1, or a sigmoid of w.
            shadows.append(shadow + (out != 0) if inner else shadow)
        for out, shadow in zip(outputs, shadows, strict=True):
            followed.cast(out, shadow)

    def _factor(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            return torch.tensor(float(value != 0))
        if self.reach.of(value) is not None:
            return torch.ones(value.shape, device=value.device)
        gate = self.gates.of(value)
        if gate is None:
            gate = ((value if value.layout == torch.strided else value.to_dense()) != 0).float()
        return gate


def _unchanged(tensor: Tensor) -> Tensor:
    """Keeps checkpointing of the model's from taking part in the autograd of the shadows."""
    return tensor
