"""Batches of any structure: tensors in tuples, lists and dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# PyTorch's trees have no public name yet; this is the only place that knows theirs.
from torch.utils import _pytree as pytree

from pruneinit.errors import InputError

Batches = Iterable[Any]


def each(batches: Batches | None) -> Iterator[Any]:
    """The batches one by one, with a clear error for what is not an iterable of non-empty batches.

    Raises:
        InputError: There are none, one of them holds no example or NumPy arrays, or a single batch or something else
            was given instead of a list.
    """
    if batches is None:
        raise InputError("this needs data: pass batches=[(inputs, labels), ...]")
    single = isinstance(batches, tuple) and batches and isinstance(batches[0], Tensor)
    if single or isinstance(batches, (Tensor, Mapping)):
        raise InputError("batches must be an iterable of batches, got a single batch; pass [batch]")
    if isinstance(batches, (str, bytes)) or not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
        raise InputError(f"batches must be an iterable of (inputs, labels), got {type(batches).__name__}")
    empty = True
    for batch in batches:
        empty = False
        if batch is None:
            raise InputError("a batch is None: expected (inputs, labels)")
        require_tensors("a batch", batch)
        if batch_size(batch) == 0:
            raise InputError(f"a batch is empty: {describe(batch)}")
        yield batch
    if empty:
        raise InputError("there are no batches: expected at least one (inputs, labels)")


def require_tensors(name: str, batch: Any) -> None:
    """See that the numbers of a batch are in tensors. Arrays of texts and objects are for whoever made the batch.

    Args:
        name: What the batch is called in the error.
        batch: Anything.

    Raises:
        InputError: There are numbers in a NumPy array.

    Example:
        >>> require_tensors("a batch", (np.zeros((4, 3)), torch.zeros(4)))
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: a batch holds a NumPy array, float64 4x3, and must be of tensors: ...
    """
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
            shape = "x".join(map(str, leaf.shape)) or "scalar"
            raise InputError(
                f"{name} holds a NumPy array, {leaf.dtype} {shape}, and must be of tensors: use "
                "torch.from_numpy(array).float() for inputs, torch.from_numpy(array).long() for labels"
            )


def batch_size(batch: Any) -> int:
    """How many examples a batch holds: the first dimension of its first tensor.

    Example:
        >>> batch_size((torch.zeros(4, 3), torch.zeros(4)))
        4
    """
    return next((len(leaf) for leaf in tensors(batch) if leaf.dim()), 1)


def joined(batches: Batches) -> Any:
    """All batches as one: the tensors in them concatenated along the first dimension.

    Example:
        >>> joined([(torch.zeros(4, 3), torch.zeros(4)), (torch.zeros(2, 3), torch.zeros(2))])[0].shape
        torch.Size([6, 3])
    """
    every = list(each(batches))
    if len(every) == 1:
        return every[0]
    try:
        return pytree.tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *every)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the batches cannot be joined to one, their shapes differ: {describe(every)}") from error


def blame(batch: Any) -> None:
    """Name a batch as the cause of a result that is not finite, if it is: if it holds NaN or inf.

    Minus infinity is none: attention masks are made of it.

    Raises:
        InputError: A tensor of the batch holds NaN or inf.

    Example:
        >>> blame((torch.tensor([1.0, torch.nan]), torch.zeros(1)))
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: the batch (float32 2, float32 1) holds NaN or inf: 1 of the 2 values of ...
    """
    for number, tensor in enumerate(tensors(batch), start=1):
        if not tensor.is_floating_point():
            continue
        bad = int((tensor.isnan() | tensor.isposinf()).count_nonzero())
        if bad:
            raise InputError(
                f"the batch {describe(batch)} holds NaN or inf: {bad:,} of the {tensor.numel():,} values of its tensor "
                f"{number}; clean the data"
            )


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree of the same structure with `function` applied to each leaf."""
    return pytree.tree_map(function, tree)


def describe(batch: Any) -> str:
    """A batch in words, for error messages.

    Example:
        >>> describe((torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)))
        '(float32 4x3, int64 4)'
    """
    leaves = [
        f"{str(leaf.dtype).removeprefix('torch.')} {'x'.join(map(str, leaf.shape)) or 'scalar'}"
        if isinstance(leaf, Tensor)
        else type(leaf).__name__
        for leaf in pytree.tree_leaves(batch)
    ]
    return f"({', '.join(leaves[:6])}{', ...' if len(leaves) > 6 else ''})"
