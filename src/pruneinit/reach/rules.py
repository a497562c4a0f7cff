"""Rules for operations that take elements as they are: place by place, moved, chosen, or summed."""

from __future__ import annotations

from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from pruneinit.batch import mapped, tensors
from pruneinit.reach.operation import Operation

_SUMS = {"add", "sub", "subtract", "rsub", "radd"}
JOINS = ("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack")
# Which positions hold what the result is made of; the other arguments choose.
SELECTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("getitem", "gather", "index_select", "take", "take_along_dim", "masked_select"), (0,)),
    "where": (1, 2),
    **dict.fromkeys(("masked_fill", "masked_scatter", "index_put", "setitem"), (0, 2)),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill"), (0, 3)),
}
_VALUES = {"input", "self", "src", "source", "value", "values", "other"}
_TABLES = {"getitem", "gather", "index_select", "take"}
_DIM = {"norm": 2, "linalg_vector_norm": 2, "kthvalue": 2, "topk": 2}


def everything(op: Operation) -> Tensor:
    """Each element of the result depends on all elements of all arguments, weights included."""
    shadow = sum((s.sum() for s in op.shadows()), torch.zeros((), device=op.out.device))
    if not op.inner:
        gates = [g for t in tensors((op.args, op.kwargs)) if (g := op.gate(t)) is not None and g.requires_grad]
        shadow = shadow * (1 + sum((g.sum() for g in gates), torch.zeros((), device=op.out.device)))
    return shadow


def pointwise(op: Operation) -> Tensor:
    """Each element of the result depends on the elements of its place."""
    gates = [op.gate(t) for t in tensors((op.args, op.kwargs)) if op.shadow(t) is None]
    if op.name not in _SUMS and not op.inner and any(g is not None and g.requires_grad for g in gates):
        return everything(op)  # a weight that is neither a factor nor a term
    return reduce(torch.add, op.shadows())


def same(op: Operation) -> Tensor:
    """The result depends on the first argument, place by place."""
    return cast(Tensor, op.value(op.given(0, "input")))


def as_is(op: Operation) -> Tensor:
    """Moves and sums of elements: run on the shadows themselves."""
    joins = op.name in JOINS

    def argument(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not (joins or op.shadow(leaf) is not None or leaf.is_floating_point()):
            return leaf
        return op.value(leaf)

    kwargs = {word: mapped(argument, value) for word, value in op.kwargs.items() if word not in ("dtype", "out")}
    return cast(Tensor, op.func(*mapped(argument, op.args), **kwargs))


def select(op: Operation) -> Tensor:
    """Elements taken or set by an index, a mask or a condition, on which the result then depends too."""
    places = SELECTS[op.name]
    choices = [a for i, a in enumerate(op.args) if i not in places]
    choices += [a for word, a in op.kwargs.items() if word not in _VALUES]
    chosen = [s for t in tensors(choices) if (s := op.shadow(t)) is not None]
    if chosen and op.name in ("where", "masked_fill"):
        return pointwise(op)  # for another input it is the other element
    args = [op.value(a) if i in places else a for i, a in enumerate(op.args)]
    kwargs = {word: op.value(a) if word in _VALUES else a for word, a in op.kwargs.items() if word != "out"}
    if "reduce" in kwargs:
        kwargs["reduce"] = "sum" if op.name == "scatter_reduce" else "add"
    if op.name == "scatter_reduce" and len(args) > 4:
        args[4] = "sum"
    shadow = cast(Tensor, (_set if op.name == "setitem" else op.func)(*args, **kwargs))
    if chosen and len(places) > 1:
        shadow = shadow + args[0]  # for another input it may be written elsewhere
    table = op.args[0]
    read = op.name in _TABLES and op.shadow(table) is None and op.gate(table) is not None
    for s in chosen:
        spread = s if op.name == "gather" else s.sum()
        if op.name == "setitem" and isinstance(op.args[1], Tensor) and op.args[1].dtype == torch.bool:
            spread = s.reshape(s.shape + (1,) * (shadow.dim() - s.dim()))
        shadow = shadow + (spread * op.func(op.factor(table), *op.args[1:], **op.kwargs) if read else spread)
    return shadow


def _set(target: Tensor, index: Any, value: Any) -> Tensor:
    changed = target.clone()
    changed[index] = value
    return changed


def embedding(op: Operation) -> Tensor:
    """Rows of a table, chosen by tokens: they depend on the tokens, and on the table where it is followed."""
    table, indices = op.given(0, "weight"), op.given(1, "input", op.kwargs.get("indices"))
    parts = []
    if op.inner or op.shadow(indices) is not None:
        chosen = torch.ones(indices.shape, device=table.device) if op.inner else op.value(indices)
        parts.append(chosen.unsqueeze(-1) * functional.embedding(indices, op.factor(table)))
    if not op.inner and op.shadow(table) is not None:
        parts.append(functional.embedding(indices, op.value(table)))
    return reduce(torch.add, parts)


def one_hot(op: Operation) -> Tensor:
    """A new last dimension, all of which depends on the number."""
    return cast(Tensor, op.value(op.given(0, "input"))).unsqueeze(-1)


def collapse(op: Operation) -> Tensor:
    """Reductions: sums over the dimensions that go, also for a maximum, which depends on all that it is taken of."""
    source, dim = op.given(0, "input"), op.kwargs.get("dim", op.kwargs.get("axis"))
    if dim is None:
        dim = op.given(_DIM.get(op.name, 1), "dim")
    if isinstance(dim, Tensor) or "other" in op.kwargs:  # torch.maximum by another name
        return pointwise(op)
    shadow = cast(Tensor, op.value(source))
    if isinstance(dim, bool) or not isinstance(dim, (int, tuple, list)) or dim in ((), []):
        return shadow.sum()
    return shadow.sum(dim, keepdim=True).reshape(op.out.shape)


def mix(op: Operation) -> Tensor:
    """Every element along one dimension depends on all along it: softmax, sort."""
    dim = op.given(_DIM.get(op.name, 1), "dim", -1)
    shadow = cast(Tensor, op.value(op.given(0, "input")))
    return shadow.sum(dim if isinstance(dim, int) else -1, keepdim=True)


def glu(op: Operation) -> Tensor:
    """One half of a dimension times a function of the other."""
    first, second = cast(Tensor, op.value(op.given(0, "input"))).chunk(2, op.given(1, "dim", -1))
    return first + second


def overwrite(op: Operation) -> Tensor:
    """What was there is gone: `copy_`, `fill_`."""
    source = op.args[1] if len(op.args) > 1 else op.kwargs.get("src", op.kwargs.get("value"))
    return cast(Tensor, op.value(source)) if isinstance(source, Tensor) else torch.zeros((), device=op.out.device)


def padding(op: Operation) -> Tensor:
    """Zeros, or elements from elsewhere, around a tensor."""
    mode = op.given(2, "mode", "constant")
    return functional.pad(op.value(op.given(0, "input")), op.given(1, "pad"), mode)
