"""Shadows beside the tensors of a forward pass: what each element can depend on, kept storage by storage.

A shadow belongs to a storage, not to a tensor, so all views of a tensor see it and a change in place is seen by all.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneinit.batch import tensors
from pruneinit.reach.operation import Operation
from pruneinit.reach.table import CONSTANTS, follow

# What composed operations ask first: whether somebody else wants to run them, and for more than one example.
_CHECKS = (
    *("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"),
    *("_verify_batch_size", "_verify_spatial_size"),
)
_COMPOSED = ("torch.functional", "torch.nn.functional", "torch.nn.init", "torch._tensor")
# These end in an underscore but leave the elements as they are.
_METADATA = {
    *("requires_grad", "detach", "share_memory"),
    *("squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims", "as_strided"),
}


class Shadows:
    """0 or 1 for each element of the storages that something is known of."""

    def __init__(self) -> None:
        # The tensor is kept so that its storage stays and no other can come to the same address.
        self._known: dict[int, tuple[Tensor, int, Tensor]] = {}

    def of(self, tensor: Any) -> Tensor | None:
        """The shadow of a tensor, in its shape; None where nothing is known of its storage."""
        key = _address(tensor)
        if key not in self._known:
            return None
        _, size, flat = self._known[key]
        flat = _resized(flat, size, tensor.element_size())
        if flat.numel() == tensor.numel() and tensor.is_contiguous():
            return flat.view(tensor.shape)
        return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def cast(self, tensor: Tensor, shadow: Tensor) -> None:
        """Set the shadow of a tensor and of everything that shares its elements."""
        key = _address(tensor)
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


def _address(tensor: Any) -> int:
    """Where the elements of a tensor begin; 0 for what has none of its own."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.numel() == 0:
        return 0
    return tensor.untyped_storage().data_ptr()


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
        name, in_place = _name(func)
        # Some methods call their namesake in C, which asks for them again.
        if _is_composed(func) and func not in self._within:
            self._within.append(func)
            try:
                with self:
                    return _opened(func)(*args, **kwargs)
            finally:
                self._within.pop()
        result = func(*args, **kwargs)
        changed = args[0] if in_place and args else kwargs.get("out")
        outputs = tensors(changed) if changed is not None else self._fresh(tensors(result), args, kwargs)
        if outputs and (name not in CONSTANTS or in_place):
            with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_unchanged, _unchanged):
                self._follow(name, _functional(func, name, in_place), args, kwargs, outputs)
        return result

    def _fresh(self, results: list[Tensor], args: Any, kwargs: Any) -> list[Tensor]:
        """The results that are no views of an argument; views have their shadow already."""
        given = {_address(t) for t in tensors((args, kwargs))}
        return [t for t in results if _address(t) not in given]

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


def _name(func: Callable[..., Any]) -> tuple[str, bool]:
    """The plain name of an operation, and whether it changes its first argument."""
    name = getattr(func, "__name__", "")
    if name == "__get__":  # a property
        return getattr(func.__self__, "__name__", ""), False  # type: ignore[attr-defined]
    if name.startswith("__") and name.endswith("__"):
        plain = name.strip("_")
        in_place = plain.startswith("i") and hasattr(torch.Tensor, f"__{plain[1:]}__")
        return (plain[1:] if in_place else plain), in_place or plain == "setitem"
    if name.endswith("_") and name.rstrip("_") not in _METADATA:
        return name.rstrip("_"), True
    return name, False


def _functional(func: Callable[..., Any], name: str, in_place: bool) -> Callable[..., Any]:
    """The operation in the form that changes no argument."""
    if not in_place:
        return func
    found = getattr(torch.Tensor, name, None) or getattr(torch, name, func)
    return cast(Callable[..., Any], found)


def _is_composed(func: Callable[..., Any]) -> bool:
    """Whether an operation is written in Python, of other operations."""
    return isinstance(func, types.FunctionType) and func.__module__ in _COMPOSED


@cache
def _opened(func: types.FunctionType) -> Callable[..., Any]:
    """The same function without these questions, so that its parts are followed one by one."""
    names = func.__globals__ | dict.fromkeys(_CHECKS, lambda *_: False)
    opened = types.FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened
