"""A model whose pruned layers multiply by their kept weights alone, on images whose batch lies innermost."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pruneinit.reparametrize import Scale, chain
from pruneinit.survivors import Survivors, survivors_of
from pruneinit.train import products
from pruneinit.train.convolution import convolve, innermost, outermost
from pruneinit.train.normalisation import normalise
from pruneinit.train.places import Places
from pruneinit.train.pointwise import tanh

_SPARSE = 0.6
"""Below this density the sums were faster than PyTorch's convolution (8 to 64 channels, 128 images, one thread)."""

_COPIES = 32
"""Products a number of the output that took as long as the copies to and from PyTorch's order, which sums spare."""

_LINEAR, _PRODUCTS = 0.15, 20_000_000
"""Below this density and from so many dense products on, the sums were faster than PyTorch's matrix product."""

Compute = Callable[[Tensor], Tensor | None]
"""What a layer gives, or None where it computes that as ever."""

Known = dict[Hashable, Places | None]


class by_survivors(AbstractContextManager[None]):
    """While it lasts, layers of a sparsified model compute by their kept weights, where that is faster.

    They are convolutions with at most 60 % of their weights, and those of few channels, padded with zeros or
    periodically; and linear layers with at most 15 %, for 20 million products of a dense one or more. Images that come
    from these convolutions have the batch innermost in memory; activations and additions keep that order by themselves,
    the hyperbolic tangent and batch normalisation are compiled for it, and pooling is given it in a form that it is
    fast in. Parameters, gradients, buffers and modes are as ever, numbers the same but for rounding: only that a pruned
    weight times infinity is nothing. There are no second derivatives. A tensor of another device or type than float32
    or float64 is computed as ever.

    Which layers these are is settled here; the context may be entered again, and knows what it found out before.

    Raises:
        InputError: numba is not there.

    Example:
        >>> from pruneinit.masks import Masks
        >>> from pruneinit.survivors import sparsify_
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3))
        >>> mask = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
        >>> mask[:, :, 1, 1] = True
        >>> x, expected = torch.ones(1, 1, 4, 4), sparsify_(model, Masks({"0.weight": mask}))(torch.ones(1, 1, 4, 4))
        >>> with by_survivors(model):
        ...     torch.allclose(model(x), expected)
        True
    """

    def __init__(self, model: nn.Module) -> None:
        products.require()
        self._forwards = list(_forwards(model))
        self._entered: list[list[nn.Module]] = []

    def __enter__(self) -> None:
        changed = []
        for forward in self._forwards:
            if "forward" not in vars(forward.layer):
                forward.layer.forward = forward
                changed.append(forward.layer)
        self._entered.append(changed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self._entered.pop():
            vars(layer).pop("forward", None)


class _Forward:
    """What a layer does instead of its forward."""

    def __init__(self, layer: nn.Module, compute: Compute) -> None:
        self.layer = layer
        self.compute = compute

    def __call__(self, *given: Any, **named: Any) -> Any:
        if len(given) == 1 and not named and isinstance(given[0], Tensor) and _computable(given[0]):
            found = self.compute(given[0])
            if found is not None:
                return found
        return type(self.layer).forward(self.layer, *given, **named)


def _forwards(model: nn.Module) -> Iterator[_Forward]:
    for name, module in model.named_modules():
        compute = _compute(model, name, module)
        if compute is not None:
            yield _Forward(module, compute)


def _compute(model: nn.Module, name: str, module: nn.Module) -> Compute | None:
    """How a module is computed; None where it stays as it is, as it does where its class has a forward of its own."""
    kind = getattr(type(module), "forward", None)  # not the class itself, which parametrising replaces
    if isinstance(module, nn.Conv2d | nn.Linear):
        survivors = survivors_of(model, f"{name}.weight")
        return None if survivors is None else _by_kept(module, survivors)
    if kind in (nn.MaxPool2d.forward, nn.AvgPool2d.forward) and not getattr(module, "return_indices", False):
        return partial(_pooled, module)
    if isinstance(module, nn.BatchNorm2d) and kind is nn.BatchNorm2d.forward:
        return partial(_normalised, module)
    return _activated if kind is nn.Tanh.forward else None


def _by_kept(layer: nn.Conv2d | nn.Linear, survivors: Survivors) -> Compute | None:
    kept, kind, known = len(survivors.index), type(layer), Known()
    if isinstance(layer, nn.Linear):
        plain = kind.forward is nn.Linear.forward
        return partial(_multiplied, layer, survivors, known) if plain and kept <= _LINEAR * survivors.numel else None
    plain = kind.forward is nn.Conv2d.forward and kind._conv_forward is nn.Conv2d._conv_forward
    most = _SPARSE * survivors.numel + _COPIES * layer.out_channels
    return partial(_convolved, layer, survivors, known) if plain and kept <= most else None


def _multiplied(layer: nn.Linear, survivors: Survivors, known: Known, x: Tensor) -> Tensor | None:
    count = x.numel() // max(1, layer.in_features)
    if count * survivors.numel < _PRODUCTS or x.shape[-1:] != (layer.in_features,):
        return None
    # Examples are images of one pixel, some of them on top of each other for each thread to have a row.
    rows = torch.get_num_threads() if count % torch.get_num_threads() == 0 else 1
    if rows not in known:
        pixel = nn.Conv2d(layer.in_features, layer.out_features, 1, device="meta")
        known[rows] = Places.of(pixel, survivors.mask[..., None, None], (rows, 1))
    images = x.reshape(rows, -1, layer.in_features).permute(1, 2, 0)[..., None]
    found = _summed(layer, survivors, known[rows], images)
    if found is None:
        return None
    found = found[..., 0].permute(2, 0, 1).reshape(*x.shape[:-1], layer.out_features)
    return found.contiguous() if x.is_contiguous() else found  # what follows may be added to what came


def _convolved(layer: nn.Conv2d, survivors: Survivors, known: Known, x: Tensor) -> Tensor | None:
    if x.dim() != 4 or x.shape[1] != layer.in_channels or layer.padding_mode not in ("zeros", "circular"):
        return None
    size = x.shape[2], x.shape[3]
    key = size, layer.stride, layer.padding, layer.dilation
    if key not in known:
        known[key] = Places.of(layer, survivors.mask, size)
    return _summed(layer, survivors, known[key], x)


def _summed(layer: nn.Conv2d | nn.Linear, survivors: Survivors, places: Places | None, x: Tensor) -> Tensor | None:
    """A layer by the kept values of its weight: its parameter, or that times a factor."""
    links = chain(layer, "weight")
    if places is None or survivors not in links or not all(isinstance(link, Survivors | Scale) for link in links):
        return None
    weights: Any = layer.parametrizations
    values: Tensor = weights.weight.original if len(links) == 1 else survivors.gather(layer.weight)
    if any(one is not None and one.dtype != x.dtype for one in (values, layer.bias)):
        return None
    return convolve(x, values, layer.bias, places)


def _pooled(layer: nn.Module, x: Tensor) -> Tensor | None:
    if not _is_innermost(x):
        return None
    # With channels in the place of the batch and the batch in that of channels, it is an image in channels_last.
    found: Tensor = type(layer).forward(layer, x.transpose(0, 1))
    return found.transpose(0, 1)


def _normalised(layer: nn.BatchNorm2d, x: Tensor) -> Tensor | None:
    own = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    fits = all(one is None or (one.dtype, len(one)) == (x.dtype, x.shape[1]) for one in own)
    if not (_is_innermost(x) and fits):
        return None
    images = innermost(x)
    if not layer.training and layer.running_mean is not None:
        wide: Tensor = type(layer).forward(layer, images.flatten(2)[None])  # one wide image
        return outermost(wide.view(images.shape))
    found, mean, variance = normalise(images.flatten(1), layer.weight, layer.bias, layer.eps)
    if layer.training and layer.track_running_stats:
        _remember(layer, mean, variance * (found.shape[1] / (found.shape[1] - 1)))
    return outermost(found.view(images.shape))


def _remember(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Let the running moments follow those of a batch, as PyTorch's do."""
    share = layer.momentum or 0.0
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        share = 1 / int(layer.num_batches_tracked) if layer.momentum is None else share
    for moment, seen in ((layer.running_mean, mean), (layer.running_var, variance)):
        if moment is not None:
            moment.lerp_(seen, share)


def _activated(x: Tensor) -> Tensor | None:
    return outermost(_Tanh.apply(innermost(x))) if _is_innermost(x) else None  # type: ignore[no-untyped-call]


class _Tanh(Function):
    """The hyperbolic tangent of images whose batch lies innermost; PyTorch's took longer than all sums together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = tanh(x.detach())
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (found,) = ctx.saved_tensors
        gradient: Tensor = torch.ops.aten.tanh_backward(g, found)
        return gradient


def _computable(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in products.DTYPES and not torch.is_autocast_enabled("cpu")


def _is_innermost(x: Tensor) -> bool:
    return x.dim() == 4 and len(x) > 1 and x.permute(1, 2, 3, 0).is_contiguous()
