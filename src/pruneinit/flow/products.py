"""Rules for products: layers, matrix products, attention, and what normalisation becomes.

A product of two signals is replaced by its square root, and a quotient by what is above the line. The output then stays
in proportion to each signal, a gate shares the flow with what it gates, and no flow is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pruneinit.flow.call import Call
from pruneinit.flow.rules import Result, shares
from pruneinit.flow.scaled import ROOM, Scale, times
from pruneinit.reach.products import PRODUCTS, SUMS_WITH_PRODUCTS

Factor = tuple[Any, Scale]
# For each product all its leading arguments, and those that are factors.
_WORDS = {
    name: (words.replace("-", "").split(), [word for word in words.split() if not word.startswith("-")])
    for name, words in PRODUCTS.items()
}


def multiply(call: Call) -> Result:
    """Elements times elements."""
    return _product([call.factor(call.given(i, word)) for i, word in enumerate(("input", "other"))], torch.mul)


def product(call: Call) -> Result:
    """Layers and matrix products."""
    words, terms = _WORDS[call.name]
    factors = [call.factor(call.given(i, word)) for i, word in enumerate(terms)]
    rest = call.args[len(words) :]
    kwargs = {word: a for word, a in call.kwargs.items() if word not in {*terms, "bias", "out"}}
    bias = call.given(len(terms), "bias") if "bias" in words else None
    hole = (None,) if len(call.args) > len(words) else ()
    if bias is None:
        return _product(factors, lambda *tensors: call.func(*tensors, *hole, *rest, **kwargs))
    added, of_bias = call.factor(bias)
    if sum(scale.signal for _, scale in factors) > 1:
        result, exponent = _product(factors, lambda *tensors: call.func(*tensors, *hole, *rest, **kwargs))
        channels = (-1, *(1,) * (len(factors[1][0].shape) - 2)) if call.name.startswith("conv") else (-1,)
        return _sum(result, exponent, added.reshape(channels), of_bias.exponent)
    exponent = sum(scale.exponent for _, scale in factors)
    first, added, exponent = _with_bias(factors[0][0], exponent, added, of_bias.exponent)
    return call.func(first, *(tensor for tensor, _ in factors[1:]), added, *rest, **kwargs), exponent


def einsum(call: Call) -> Result:
    """A product of any number of factors."""
    operands = call.args[1:] if isinstance(call.args[1], Tensor) else call.args[1]
    return _product([call.factor(o) for o in operands], lambda *tensors: torch.einsum(call.args[0], *tensors))


def add_product(call: Call) -> Result:
    """`addmm` and its kind: a term and a product."""
    runs: dict[str, Callable[..., Tensor]] = {
        "addmm": torch.mm,
        "addmv": torch.mv,
        "baddbmm": torch.bmm,
        "addbmm": lambda a, b: torch.bmm(a, b).sum(0),
        "addr": torch.outer,
    }
    factors = [call.factor(call.given(i, word)) for i, word in enumerate(SUMS_WITH_PRODUCTS[call.name], 1)]
    result, exponent = _product(factors, runs[call.name])
    result, beta = result * abs(call.kwargs.get("alpha", 1)), abs(call.kwargs.get("beta", 1))
    if not beta:
        return result, exponent
    term = call.given(0, "input")
    scale = call.scales.of(term)
    units = max(exponent, scale.exponent if scale else 0)
    return times(result, exponent - units) + beta * call.term(term, units), units


def quotient(call: Call) -> Result:
    """By a constant a product; by anything else what is above the line."""
    above, below = call.given(0, "input"), call.given(1, "other")
    if call.name in ("rdiv", "rtruediv"):
        above, below = below, above
    tensor, scale = call.factor(above)
    if call.scales.of(below) is None:
        return tensor / call.factor(below)[0], scale.exponent
    return tensor * torch.ones_like(below).detach(), scale.exponent


_NORMS = {
    name: ("input", *words.split())
    for name, words in {
        "batch_norm": "running_mean running_var weight bias training momentum eps",
        "instance_norm": "running_mean running_var weight bias use_input_stats momentum eps",
        "layer_norm": "normalized_shape weight bias eps",
        "group_norm": "num_groups weight bias eps",
        "rms_norm": "normalized_shape weight eps",
    }.items()
}


def normalisation(call: Call) -> Result:
    """Times the weight, plus the bias; by running variances where those are used."""
    words = _NORMS[call.name]
    given = {word: call.given(i, word) for i, word in enumerate(words)}
    x, scale = call.factor(given["input"])
    exponent = scale.exponent
    weight, bias = given.get("weight"), given.get("bias")
    if weight is not None:
        weight, of_weight = call.factor(weight)
        exponent += of_weight.exponent
    if bias is not None:
        bias, of_bias = call.factor(bias)
        x, bias, exponent = _with_bias(x, exponent, bias, of_bias.exponent)
    if call.name == "batch_norm" and not given["training"]:
        variance = given["running_var"].to(x.dtype)
        eps = 1e-5 if given["eps"] is None else given["eps"]
        return torch.batch_norm(x, weight, bias, torch.zeros_like(variance), variance, False, 0.0, eps, False), exponent
    if call.name != "layer_norm" and call.name != "rms_norm":  # channels come second, and not last
        weight, bias = (t if t is None else t.reshape(-1, *(1,) * (x.dim() - 2)) for t in (weight, bias))
    scaled = x.clone() if weight is None else x * weight
    return (scaled if bias is None else scaled + bias), exponent


def attention(call: Call) -> Result:
    """As the same attention written by hand, where a softmax is a mean over the places that are not hidden."""
    query, key, value = (call.factor(call.given(i, word)) for i, word in enumerate(("query", "key", "value")))
    if call.kwargs.get("enable_gqa"):
        groups = query[0].shape[-3] // key[0].shape[-3]
        key, value = ((tensor.repeat_interleave(groups, -3), scale) for tensor, scale in (key, value))
    factor = call.kwargs.get("scale") or 1 / math.sqrt(query[0].shape[-1])
    scores, exponent = _product([query, key], lambda q, k: q @ k.mT)
    scores = factor * scores
    mask = call.given(3, "attn_mask")
    if call.given(5, "is_causal", False):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        known = call.scales.of(mask)
        units = max(exponent, known.exponent if known else 0)
        scores, exponent = times(scores, exponent - units) + call.term(mask, units), units
    signal = query[1].signal or key[1].signal
    return _product([(shares(scores, -1), Scale(exponent, signal)), value], torch.matmul)


def _product(factors: Sequence[Factor], run: Callable[..., Tensor]) -> Result:
    result, exponent = run(*(tensor for tensor, _ in factors)), sum(scale.exponent for _, scale in factors)
    degree = sum(scale.signal for _, scale in factors)
    if degree < 2:
        return result, exponent
    result, exponent = times(result, exponent % degree), exponent // degree
    root = result.clamp_min(torch.finfo(result.dtype).tiny) ** (1 / degree)
    return torch.where(result > 0, root, 0.0), exponent  # where it is 0 its gradient is 0, and not infinite


def _sum(first: Tensor, exponent: int, second: Tensor, other: int) -> Result:
    units = max(exponent, other)
    return times(first, exponent - units) + times(second, other - units), units


def _with_bias(first: Tensor, exponent: int, bias: Tensor, of_bias: int) -> tuple[Tensor, Tensor, int]:
    """A factor of a product and what is added to it, in units of the larger, and the exponent of these."""
    shift = exponent - of_bias
    if shift >= -ROOM:
        return first, times(bias, -shift), exponent
    return times(first, shift), bias, of_bias
