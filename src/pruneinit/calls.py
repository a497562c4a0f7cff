"""What a `TorchFunctionMode` sees of a call of PyTorch: which operation it is, and what it changes."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

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


def address(tensor: Any) -> int:
    """Where the elements of a tensor begin; 0 for what has none of its own."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.numel() == 0:
        return 0
    return tensor.untyped_storage().data_ptr()


def named(func: Callable[..., Any]) -> tuple[str, bool]:
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


def functional_form(func: Callable[..., Any], name: str, in_place: bool) -> Callable[..., Any]:
    """The operation in the form that changes no argument."""
    if not in_place:
        return func
    found = getattr(torch.Tensor, name, None) or getattr(torch, name, func)
    return cast(Callable[..., Any], found)


def is_composed(func: Callable[..., Any]) -> bool:
    """Whether an operation is written in Python, of other operations."""
    return isinstance(func, types.FunctionType) and func.__module__ in _COMPOSED


@cache
def opened(func: types.FunctionType) -> Callable[..., Any]:
    """The same function without these questions, so that its parts are followed one by one."""
    names = func.__globals__ | dict.fromkeys(_CHECKS, lambda *_: False)
    opened = types.FunctionType(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened
