"""Rules for operations that pass on, move or add up what they get.

A rule runs an operation in its own way and gives the result with its exponent. Nonlinearities pass on what they get,
factors and terms count by their absolute values, so that nothing is cancelled and the flow is conserved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pruneinit.flow.call import Call
from pruneinit.flow.scaled import true

Result = tuple[Any, int]
Rule = Callable[[Call], Result]

# The positions of numbers that are values, and not sizes or dimensions; by keyword they are the same for all.
_VALUES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("add", "radd", "maximum", "minimum", "fill", "lerp"), (0, 1)),
    **dict.fromkeys(("where", "masked_fill"), (1, 2)),
    **dict.fromkeys(("index_fill", "scatter"), (3,)),
}
_WORDS = ("other", "value", "src")


def joint(call: Call) -> Result:
    """What is linear in all tensors together: run on them in units of one power of two."""
    args, kwargs, exponent = call.aligned(_VALUES.get(call.name, ()), _WORDS)
    if "alpha" in kwargs:
        kwargs["alpha"] = abs(kwargs["alpha"])
    return call.func(*args, **kwargs), exponent


def set_item(call: Call) -> Result:
    """`target[index] = value`."""
    args, _, exponent = call.aligned((2,))
    changed = args[0].clone()
    changed[call.args[1]] = args[2]
    return changed, exponent


def copy(call: Call) -> Result:
    """What was there is gone."""
    source, scale = call.factor(call.given(1, "src"))
    return source.to(call.args[0].device).expand(call.args[0].shape), scale.exponent


def identity(call: Call) -> Result:
    """Nonlinearities and dropout: as it is, in a tensor of its own unless the operation works in place."""
    source, scale = call.source()
    return source if call.in_place or call.kwargs.get("inplace") else source.clone(), scale.exponent


def pointwise(call: Call) -> Result:
    """A function of one tensor is a nonlinearity; of several it has no rule."""
    return identity(call) if call.count == 1 else unknown(call)


def convert(call: Call) -> Result:
    """Another device is another device, but the precision of floating-point numbers stays."""
    source, scale = call.source()
    result = call.func(*call.args, **call.kwargs)
    if not isinstance(result, Tensor) or not result.is_floating_point():
        return unknown(call)
    return source.to(result.device), scale.exponent


def subtract(call: Call) -> Result:
    """A sum; but a constant is left out, as the running mean of batch normalisation is."""
    first, second = call.given(0, "input"), call.given(1, "other")
    if call.name == "rsub":
        first, second = second, first
    if call.scales.of(second) is None:
        source, scale = call.factor(first)
        return source + torch.zeros_like(second) if isinstance(second, Tensor) else source.clone(), scale.exponent
    return joint(Call("add", torch.add, (second, first), {}, call.scales))


def logsumexp(call: Call) -> Result:
    """The largest, which it is near to."""
    source, scale = call.source()
    return torch.amax(source, *call.args[1:], **call.kwargs), scale.exponent


def spread(call: Call) -> Result:
    """Variances and deviations, by the mean: what is divided by them is left as it is, and a constant has none."""
    source, scale = call.source()
    shape = call.func(*(a.detach() if a is source else a for a in call.args), **call.kwargs).shape
    dim = call.given(1, "dim")
    over = dim if isinstance(dim, (int, tuple, list)) and not isinstance(dim, bool) else None
    return source.mean(over, keepdim=True).reshape(shape), scale.exponent


def inverse(call: Call) -> Result:
    """1, since normalisation is left out: `rsqrt`, `reciprocal`."""
    return torch.ones_like(call.source()[0]).detach(), 0


def padding(call: Call) -> Result:
    """Zeros or another number, or elements from elsewhere, around a tensor."""
    source, scale = call.source()
    mode, value = call.given(2, "mode", "constant"), call.given(3, "value") or 0.0
    if value:
        value = call.term(value, scale.exponent)
    return functional.pad(source, call.given(1, "pad"), mode, value if mode == "constant" else None), scale.exponent


def softmax(call: Call) -> Result:
    """The mean over the places that are not hidden: each as it is, divided by their number."""
    source, scale = call.source()
    return shares(source, call.given(1, "dim", -1)), scale.exponent


def shares(scores: Tensor, dim: int | None) -> Tensor:
    """Each score divided by the number of those along a dimension that are not hidden."""
    seen = scores >= 0
    return torch.where(seen, scores, 0.0) / seen.sum(-1 if dim is None else dim, keepdim=True).clamp_min(1)


def embedding(call: Call) -> Result:
    """Rows of a table."""
    table, scale = call.factor(call.given(1, "weight"))
    return functional.embedding(call.given(0, "input"), table), scale.exponent


def unknown(call: Call) -> Result:
    """No rule: run as it is, on the values themselves."""
    args, kwargs = call.mapped(lambda tensor, scale: true(tensor, scale.exponent, call.name))
    return call.func(*args, **kwargs), 0
