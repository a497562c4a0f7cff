"""Convolutions by their survivors alone: compiled sums over kept weights, on images whose batch lies innermost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pruneinit.errors import InputError
from pruneinit.train.places import Places, Walk
from pruneinit.train.products import Indices, compiled
from pruneinit.train.threads import each, shares


def convolve(x: Tensor, values: Tensor, bias: Tensor | None, places: Places) -> Tensor:
    """A convolution by its kept weights.

    Args:
        x: [N, C, H, W] of the size that `places` is of, float32 or float64 on the CPU. Faster where N is innermost in
            memory, as it is in what this returns.
        values: [kept] of the same type: of the weight [out, in / groups, height, width], in its order.
        bias: [out], or None.
        places: Of the kept weights.

    Returns:
        [N, out, H', W'], with N innermost in memory. Gradients reach `x`, `values` and `bias`.

    Raises:
        InputError: Images of another size than that of `places`, or another number of values.

    Example:
        >>> from torch.nn import Conv2d, functional
        >>> layer, x = Conv2d(2, 3, 3, padding=1), torch.randn(4, 2, 5, 5)
        >>> mask = layer.weight > 0
        >>> ours = convolve(x, layer.weight[mask], layer.bias, Places.of(layer, mask, (5, 5)))
        >>> torch.allclose(ours, functional.conv2d(x, layer.weight * mask, layer.bias, padding=1), atol=1e-6)
        True
    """
    if tuple(x.shape[1:]) != places.images:  # the compiled sums would read what is not theirs
        raise InputError(f"images must be of shape [N, {', '.join(map(str, places.images))}], got {list(x.shape)}")
    if tuple(values.shape) != (places.kept,):
        raise InputError(f"values must be of shape [{places.kept}], got {list(values.shape)}")
    # A view made within a function of autograd could not be changed in place.
    return outermost(_Convolve.apply(innermost(x), values, bias, places))  # type: ignore[no-untyped-call]


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, values: Tensor, bias: Tensor | None, places: Places) -> Tensor:
        # The values are copied, as an optimizer may change them before the way back.
        images, values = images.detach(), values.detach().clone()
        shift = images.new_zeros(places.out[0]) if bias is None else bias.detach()
        out = images.new_empty(*places.out, images.shape[-1])
        _add(places.forward, values, shift, images, out)
        ctx.places = places
        ctx.save_for_backward(images, values)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        places, (images, values) = ctx.places, ctx.saved_tensors
        g = g.contiguous()
        of_images = of_values = None
        if ctx.needs_input_grad[0]:
            of_images = torch.empty_like(images)
            _add(places.back, values, images.new_zeros(len(images)), g, of_images)
        if ctx.needs_input_grad[1]:
            of_values = _correlated(places.forward, images, g, values)
        return of_images, of_values, g.sum((1, 2, 3)) if ctx.needs_input_grad[2] else None, None


def _add(walk: Walk, values: Tensor, bias: Tensor, source: Tensor, target: Tensor) -> None:
    """Write the sums to `target` [channels, height, width, N], of `source`, likewise."""
    fixed = (*_listed(walk), values.numpy(), bias.numpy(), source.view(-1).numpy(), source.shape[-1])
    out = target.view(*target.shape[:2], -1).numpy()
    each(_shares(len(values), target), lambda first, last, _: compiled(_sums)(*fixed, first, last, out))


def _correlated(walk: Walk, source: Tensor, g: Tensor, values: Tensor) -> Tensor:
    """The gradient of each of the kept `values`, from that of the target."""
    fixed = (*_listed(walk), source.view(-1).numpy(), source.shape[-1], g.view(*g.shape[:2], -1).numpy())
    rows = _shares(len(values), g)
    found = values.new_zeros(len(rows) - 1, len(values))
    out = found.numpy()
    each(rows, lambda first, last, share: compiled(_dots)(*fixed, first, last, out[share]))
    return found.sum(0)


def _listed(walk: Walk) -> tuple[Indices, ...]:
    return walk.kinds, walk.bases, walk.starts, walk.lengths, walk.ends, walk.pixels, walk.which


def _shares(kept: int, target: Tensor) -> list[int]:
    return shares(target.shape[1], kept * target[0].numel())


def innermost(x: Tensor) -> Tensor:
    """[N, C, H, W] as [C, H, W, N], contiguous: a copy only where N is not innermost already."""
    return x.permute(1, 2, 3, 0).contiguous()


def outermost(x: Tensor) -> Tensor:
    """[C, H, W, N] as [N, C, H, W], the same memory."""
    return x.permute(3, 0, 1, 2)


# Four entries at a time, as in `products`.


def _sums(
    kinds: Any, bases: Any, starts: Any, lengths: Any, ends: Any, pixels: Any, which: Any,
    values: Any, bias: Any, x: Any, count: Any, first: Any, last: Any, out: Any,
) -> None:  # fmt: skip
    channels = len(out)
    for y in range(first, last):
        for c in range(channels):
            for r in range(len(starts)):
                size = lengths[r] * count
                row = out[c, y, starts[r] * count : starts[r] * count + size]
                row[:] = bias[c]
                at = (kinds[y] * len(starts) + r) * channels + c
                n, end = ends[at], ends[at + 1]
                while n + 4 <= end:
                    v0, v1, v2, v3 = values[which[n]], values[which[n + 1]], values[which[n + 2]], values[which[n + 3]]
                    p0, p1 = (bases[y] + pixels[n]) * count, (bases[y] + pixels[n + 1]) * count
                    p2, p3 = (bases[y] + pixels[n + 2]) * count, (bases[y] + pixels[n + 3]) * count
                    x0, x1, x2, x3 = x[p0 : p0 + size], x[p1 : p1 + size], x[p2 : p2 + size], x[p3 : p3 + size]
                    for b in range(size):
                        row[b] += v0 * x0[b] + v1 * x1[b] + v2 * x2[b] + v3 * x3[b]
                    n += 4
                while n < end:
                    p0 = (bases[y] + pixels[n]) * count
                    v0, x0 = values[which[n]], x[p0 : p0 + size]
                    for b in range(size):
                        row[b] += v0 * x0[b]
                    n += 1


def _dots(
    kinds: Any, bases: Any, starts: Any, lengths: Any, ends: Any, pixels: Any, which: Any,
    x: Any, count: Any, g: Any, first: Any, last: Any, out: Any,
) -> None:  # fmt: skip
    channels = len(g)
    for y in range(first, last):
        for c in range(channels):
            for r in range(len(starts)):
                size = lengths[r] * count
                row = g[c, y, starts[r] * count : starts[r] * count + size]
                at = (kinds[y] * len(starts) + r) * channels + c
                n, end = ends[at], ends[at + 1]
                while n + 4 <= end:
                    p0, p1 = (bases[y] + pixels[n]) * count, (bases[y] + pixels[n + 1]) * count
                    p2, p3 = (bases[y] + pixels[n + 2]) * count, (bases[y] + pixels[n + 3]) * count
                    x0, x1, x2, x3 = x[p0 : p0 + size], x[p1 : p1 + size], x[p2 : p2 + size], x[p3 : p3 + size]
                    s0 = s1 = s2 = s3 = out[which[n]] * 0  # a zero of its type
                    for b in range(size):
                        s0 += row[b] * x0[b]
                        s1 += row[b] * x1[b]
                        s2 += row[b] * x2[b]
                        s3 += row[b] * x3[b]
                    out[which[n]] += s0
                    out[which[n + 1]] += s1
                    out[which[n + 2]] += s2
                    out[which[n + 3]] += s3
                    n += 4
                while n < end:
                    p0 = (bases[y] + pixels[n]) * count
                    x0 = x[p0 : p0 + size]
                    s0 = out[which[n]] * 0
                    for b in range(size):
                        s0 += row[b] * x0[b]
                    out[which[n]] += s0
                    n += 1
