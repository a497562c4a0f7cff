"""A model whose pruned layers multiply by their kept weights alone, on images whose batch lies innermost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

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


@contextmanager
def by_survivors(model: nn.Module) -> Iterator[None]:
    """While it lasts, layers of a sparsified model compute by their kept weights, where that is faster.

    They are convolutions with at most 60 % of their weights, and those of few channels, padded with zeros or
    periodically; and linear layers with at most 15 %, for 20 million products of a dense one or more. Images that come
    from these convolutions have the batch innermost in memory; activations and additions keep that order by themselves,
    batch normalisation is compiled for it, and pooling is given it in a form that it is fast in. Everything else is as
    it was: parameters, gradients, modes; numbers are the same but for rounding. A tensor of another device or type than
    float32 or float64 is computed as ever.

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
    products.require()
    with ExitStack() as after:
        for name, module in model.named_modules():
            forward = _forward(model, name, module)
            if forward is not None and "forward" not in vars(module):
                module.forward = forward
                after.callback(delattr, module, "forward")
        yield


def _forward(model: nn.Module, name: str, module: nn.Module) -> Callable[[Tensor], Any] | None:
    """How a module is computed instead; None where it stays as it is, as it does where it has a forward of its own."""
    kind = type(module).forward  # not the class itself, which parametrising replaces
    if isinstance(module, nn.Conv2d | nn.Linear):
        survivors = survivors_of(model, f"{name}.weight")
        return None if survivors is None else _by_kept(module, kind, survivors)
    if kind in (nn.MaxPool2d.forward, nn.AvgPool2d.forward) and not getattr(module, "return_indices", False):
        return partial(_pooled, module, kind)
    if isinstance(module, nn.BatchNorm2d) and kind is nn.BatchNorm2d.forward:
        return partial(_normalised, module, kind)
    return partial(_activated, module, kind) if kind is nn.Tanh.forward else None


def _by_kept(layer: nn.Module, kind: Callable[..., Any], survivors: Survivors) -> Callable[[Tensor], Any] | None:
    kept, known = len(survivors.index), dict[torch.Size, Places | None]()
    if isinstance(layer, nn.Linear) and kind is nn.Linear.forward:
        return partial(_multiplied, layer, survivors, known) if kept <= _LINEAR * survivors.numel else None
    if isinstance(layer, nn.Conv2d) and kind is nn.Conv2d.forward and layer.padding_mode in ("zeros", "circular"):
        most = _SPARSE * survivors.numel + _COPIES * layer.out_channels
        return partial(_convolved, layer, survivors, known) if kept <= most else None
    return None


def _multiplied(layer: nn.Linear, survivors: Survivors, known: dict[torch.Size, Places | None], x: Tensor) -> Tensor:
    count = x.numel() // max(1, layer.in_features)
    if count * survivors.numel < _PRODUCTS or not (_computable(x) and x.shape[-1:] == (layer.in_features,)):
        return nn.Linear.forward(layer, x)
    values = _values(layer, survivors)
    if values.dtype != x.dtype:
        return nn.Linear.forward(layer, x)
    # Examples are images of one pixel, some of them on top of each other for each thread to have a row.
    rows = torch.get_num_threads() if count % torch.get_num_threads() == 0 else 1
    images = x.reshape(rows, -1, layer.in_features).permute(1, 2, 0)[..., None]
    size = images.shape[2:]
    if size not in known:
        pixel = nn.Conv2d(layer.in_features, layer.out_features, 1, device="meta")
        known[size] = Places.of(pixel, survivors.mask[..., None, None], (rows, 1))
    places = known[size]
    assert places is not None  # for mypy: each pixel is met once
    found = convolve(images, values, layer.bias, places)
    found = found[..., 0].permute(2, 0, 1).reshape(*x.shape[:-1], layer.out_features)
    return found.contiguous() if x.is_contiguous() else found  # what follows may be added to what came


def _convolved(layer: nn.Conv2d, survivors: Survivors, known: dict[torch.Size, Places | None], x: Tensor) -> Tensor:
    values = _values(layer, survivors)
    if not (_computable(x) and x.dtype == values.dtype and x.dim() == 4 and x.shape[1] == layer.in_channels):
        return nn.Conv2d.forward(layer, x)
    size = x.shape[2:]
    if size not in known:
        known[size] = Places.of(layer, survivors.mask, (size[0], size[1]))
    places = known[size]
    return nn.Conv2d.forward(layer, x) if places is None else convolve(x, values, layer.bias, places)


def _values(layer: nn.Conv2d | nn.Linear, survivors: Survivors) -> Tensor:
    """What is kept of a layer's weight: its parameter, where nothing else is done to it."""
    links: Any = layer.parametrizations
    return links.weight.original if list(links.weight) == [survivors] else survivors.gather(layer.weight)


def _pooled(layer: nn.Module, forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    # With channels in the place of the batch and the batch in that of channels, it is an image in channels_last.
    return forward(layer, x.transpose(0, 1)).transpose(0, 1) if _is_innermost(x) else forward(layer, x)


def _normalised(layer: nn.BatchNorm2d, forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    if not (_is_innermost(x) and all(one.dtype == x.dtype for one in layer.parameters())):
        return forward(layer, x)
    images = innermost(x)
    if not layer.training and layer.running_mean is not None:
        return outermost(forward(layer, images.flatten(2)[None]).view(images.shape))  # one wide image
    found, mean, variance = normalise(images.flatten(1), layer.weight, layer.bias, layer.eps)
    if layer.training:
        _remember(layer, mean, variance * (found.shape[1] / (found.shape[1] - 1)))
    return outermost(found.view(images.shape))


def _remember(layer: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Let the running moments follow those of a batch."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    layer.num_batches_tracked.add_(1)
    share = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(variance, share)


def _activated(layer: nn.Module, forward: Callable[..., Tensor], x: Tensor) -> Tensor:
    if not _is_innermost(x):
        return forward(layer, x)
    found: Tensor = _Tanh.apply(x)  # type: ignore[no-untyped-call]
    return found


class _Tanh(Function):
    """The hyperbolic tangent of images whose batch lies innermost; PyTorch's took longer than all sums together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = outermost(tanh(innermost(x.detach())))
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
    return x.dim() == 4 and len(x) > 1 and _computable(x) and x.permute(1, 2, 3, 0).is_contiguous()
