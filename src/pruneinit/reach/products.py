"""Rules for products of tensors: layers, matrix products, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from pruneinit.reach.operation import Operation, binary

_RATIOS = ("div", "divide", "true_divide", "truediv", "rdiv", "rtruediv", "mul", "multiply", "rmul")
# The factors of a product in order, and after a minus what is added to it.
PRODUCTS = {
    "linear": "input weight -bias",
    "bilinear": "input1 input2 weight -bias",
    "conv1d": "input weight -bias",
    "conv2d": "input weight -bias",
    "conv3d": "input weight -bias",
    "conv_transpose1d": "input weight -bias",
    "conv_transpose2d": "input weight -bias",
    "conv_transpose3d": "input weight -bias",
    "matmul": "input other",
    "rmatmul": "input other",
    "mm": "input mat2",
    "bmm": "input mat2",
    "mv": "input vec",
    "dot": "input tensor",
    "inner": "input other",
    "outer": "input vec2",
    "tensordot": "input other",
    **dict.fromkeys(_RATIOS, "input other"),
}
SUMS_WITH_PRODUCTS = {
    "addmm": ("mat1", "mat2"),
    "addmv": ("mat", "vec"),
    "baddbmm": ("batch1", "batch2"),
    "addbmm": ("batch1", "batch2"),
    "addr": ("vec1", "vec2"),
}


def product(op: Operation) -> Tensor:
    """A sum of products: an element passes where the other factors are not always zero.

    Between factors that both are followed, the result depends on either.
    """
    words = PRODUCTS[op.name].split()
    terms = [word for word in words if not word.startswith("-")]
    operands = [op.given(i, word) for i, word in enumerate(terms)]
    without = {word.lstrip("-") for word in words}
    rest = [None if i < len(words) else value for i, value in enumerate(op.args) if i >= len(terms)]
    kwargs = {word: value for word, value in op.kwargs.items() if word not in without and word != "out"}
    func = torch.mul if op.name in _RATIOS else op.func
    if op.name in _RATIOS:
        rest, kwargs = [], {}
    return _products(op, operands, lambda factors: func(*factors, *rest, **kwargs))


def _products(op: Operation, operands: Sequence[Any], run: Callable[[list[Tensor]], Tensor]) -> Tensor:
    factors = [op.factor(operand) for operand in operands]
    parts = []
    if op.inner:
        parts.append(factors)
    else:
        for i, operand in enumerate(operands):
            shadow = op.shadow(operand)
            if shadow is not None:
                parts.append([*factors[:i], shadow, *factors[i + 1 :]])
    # The products count paths, so what is below one is what a fast convolution makes of zero by rounding.
    return reduce(torch.add, (binary(run([binary(f, 0.5, 0.5) for f in part]), 0.5) for part in parts))


def einsum(op: Operation) -> Tensor:
    """A product of any number of factors."""
    operands = op.args[1:] if isinstance(op.args[1], Tensor) else op.args[1]
    return _products(op, list(operands), lambda factors: torch.einsum(op.args[0], *factors))


def add_product(op: Operation) -> Tensor:
    """`addmm` and its kind: a term and a product."""
    products: dict[str, Callable[..., Tensor]] = {
        "addmm": torch.mm,
        "addmv": torch.mv,
        "baddbmm": torch.bmm,
        "addbmm": lambda a, b: torch.bmm(a, b).sum(0),
        "addr": torch.outer,
    }
    operands = [op.given(i, word) for i, word in enumerate(SUMS_WITH_PRODUCTS[op.name], 1)]
    run = products[op.name]
    both: list[Tensor] = [op.value(op.given(0, "input"))]
    if op.inner or any(op.shadow(operand) is not None for operand in operands):
        both.append(_products(op, operands, lambda factors: run(*factors)))
    return reduce(torch.add, both)


def attention(op: Operation) -> Tensor:
    """Scaled dot products: every allowed value, and every key and query that weighs it."""
    query, key, value = (op.given(i, word) for i, word in enumerate(("query", "key", "value")))
    groups = query.shape[-3] // key.shape[-3] if op.kwargs.get("enable_gqa") else 1

    def scores(factors: list[Tensor]) -> Tensor:
        return factors[0] @ _repeated(factors[1], groups).mT

    allowed = torch.ones(query.shape[-2], key.shape[-2], device=op.out.device)
    if op.given(5, "is_causal", False):
        allowed = allowed.tril()
    mask = op.given(3, "attn_mask")
    moved = op.shadow(mask)
    if mask is not None and moved is None:  # a mask that itself depends on the data may allow anything
        allowed = allowed * (mask if mask.dtype == torch.bool else mask > -math.inf).float()
    weighed = torch.zeros(()) if moved is None else moved
    if op.inner or op.shadow(query) is not None or op.shadow(key) is not None:
        weighed = weighed + _products(op, [query, key], scores)
    else:
        allowed = allowed * (1 + scores([op.factor(query), op.factor(key)]))
    shadow: Tensor = allowed @ _repeated(op.value(value), groups)
    return shadow + (allowed * weighed) @ _repeated(op.factor(value), groups)


def _repeated(tensor: Tensor, groups: int) -> Tensor:
    return tensor if groups == 1 else tensor.repeat_interleave(groups, -3)
