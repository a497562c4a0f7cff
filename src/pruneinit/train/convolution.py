"""Convolutions by their survivors alone: compiled sums over kept weights, on images whose batch lies innermost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pruneinit.train.products import Indices, compiled


@dataclass(frozen=True)
class Walk:
    """What is added up where, in one direction through a convolution: from source images to target images.

    Target rows whose kernels lie on the source in the same way are of one kind, so rows inside an image are; and
    columns are taken in runs, whose sources lie side by side. For each kind of row, run of columns and channel of the
    target there is a list of kept weights that meet the source, each with the pixel that it meets.

    Attributes:
        kinds: Of each target row.
        bases: Of each target row, what is added to the pixels of its kind.
        starts: Of each run, the first column.
        lengths: Of each run, its columns.
        ends: Where the list of each kind, run and channel ends, behind a 0; [kinds * runs * channels + 1].
        pixels: In the source's pixels [channels, height, width], flat.
        which: Which kept weight.
    """

    kinds: Indices
    bases: Indices
    starts: Indices
    lengths: Indices
    ends: Indices
    pixels: Indices
    which: Indices

    @staticmethod
    def of(taps: Taps, rows: Tensor, columns: Tensor, size: Sequence[int]) -> Walk:
        """From the source of each tap of the kernel.

        Args:
            taps: The kept weights.
            rows: [target rows, kernel height]: the source row of each tap, or -1 for none.
            columns: [target columns, kernel width]: likewise.
            size: Height and width of the source.
        """
        starts = _starts(columns)
        shift = torch.where(rows < 0, size[0], rows).amin(1, keepdim=True) % size[0]
        patterns, kinds = torch.unique(torch.where(rows < 0, -1, rows - shift), dim=0, return_inverse=True)
        row = patterns[:, None, taps.row]  # [kinds, 1, taps]
        column = columns[starts][None, :, taps.column]  # [1, runs, taps]
        met = (row >= 0) & (column >= 0)
        kind, run, which = met.nonzero(as_tuple=True)
        pixels = (taps.source * size[0] + row) * size[1] + column
        lists = (kind * len(starts) + run) * taps.targets + taps.target[which]
        order = torch.argsort(lists, stable=True)
        counts = torch.bincount(lists, minlength=met.shape[0] * met.shape[1] * taps.targets)
        lengths = torch.diff(starts, append=torch.tensor([len(columns)]))
        found = kinds, shift * size[1], starts, lengths, functional.pad(counts.cumsum(0), (1, 0))
        return Walk(*(one.view(-1).to(torch.int32).numpy() for one in (*found, pixels[met][order], which[order])))


def _starts(columns: Tensor) -> Tensor:
    """The first columns of the runs in which each tap's source moves on with the target, or is none throughout."""
    after = torch.where(columns < 0, -1, columns + 1)[:-1]
    breaks = (after != columns[1:]).any(1).nonzero().view(-1) + 1
    return functional.pad(breaks, (1, 0))


@dataclass(frozen=True)
class Taps:
    """Kept weights in their order: each from a source channel to a target channel, at a place of the kernel.

    Attributes:
        targets: How many target channels there are.
        target: Of each weight; as the others, [kept].
        source: Of each weight.
        row: From above.
        column: From the left.
    """

    targets: int
    target: Tensor
    source: Tensor
    row: Tensor
    column: Tensor


@dataclass(frozen=True)
class Places:
    """Where a pruned convolution finds its numbers, in images of one size.

    Attributes:
        index: Of the kept weights in the flat weight.
        forward: From the images to the outputs.
        back: From the outputs to the images.
        out: Height and width of the outputs.
    """

    index: Tensor
    forward: Walk
    back: Walk
    out: tuple[int, int]

    @staticmethod
    def of(layer: nn.Conv2d, mask: Tensor, size: tuple[int, int]) -> Places | None:
        """The places of a layer's kept weights; None where periodic padding leads a tap to the same pixel twice.

        Args:
            layer: Any stride, dilation and groups; padded with zeros or periodically.
            mask: Which of its weights [out, in / groups, height, width] are kept.
            size: Height and width of its input.
        """
        rows, columns = (_sources(layer, size, axis) for axis in (0, 1))
        if not (_once(rows) and _once(columns)):
            return None
        o, i, y, x = mask.cpu().nonzero(as_tuple=True)
        i = i + o // (layer.out_channels // layer.groups) * mask.shape[1]
        there, back = Taps(layer.out_channels, o, i, y, x), Taps(layer.in_channels, i, o, y, x)
        out = (len(rows), len(columns))
        return Places(
            index=mask.cpu().reshape(-1).nonzero().view(-1),
            forward=Walk.of(there, rows, columns, size),
            back=Walk.of(back, _turned(rows, size[0]), _turned(columns, size[1]), out),
            out=out,
        )


def _sources(layer: nn.Conv2d, size: Sequence[int], axis: int) -> Tensor:
    """The input row (or column) that each tap of the kernel meets at each output row (or column); -1 for none."""
    sides = layer._reversed_padding_repeated_twice
    before, after = sides[2:] if axis == 0 else sides[:2]
    places = torch.arange(-before, size[axis] + after)
    inside = (places >= 0) & (places < size[axis])
    padded = places % size[axis] if layer.padding_mode == "circular" else torch.where(inside, places, -1)
    reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
    first = torch.arange(0, len(padded) - reach, layer.stride[axis])
    return padded[first[:, None] + layer.dilation[axis] * torch.arange(layer.kernel_size[axis])]


def _once(sources: Tensor) -> bool:
    """Whether no tap meets the same place twice, so that what it meets can be turned round."""
    return all(len(met.unique()) == len(met) for met in (tap[tap >= 0] for tap in sources.t()))


def _turned(sources: Tensor, size: int) -> Tensor:
    """The output place at which each tap meets each input place; -1 for none."""
    found = sources.new_full((size, sources.shape[1]), -1)
    for tap in range(sources.shape[1]):
        met = sources[:, tap] >= 0
        found[sources[met, tap], tap] = met.nonzero().view(-1)
    return found


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, places: Places) -> Tensor:
    """A convolution by its kept weights.

    Args:
        x: [N, C, H, W] of the size that `places` is of, float32 or float64 on the CPU. Faster where N is innermost in
            memory, as it is in what this returns.
        weight: [out, in / groups, height, width] of the same type. What is not kept is not read.
        bias: [out], or None.
        places: Of the kept weights.

    Returns:
        [N, out, H', W'], with N innermost in memory. Gradients reach `x`, the kept of `weight`, and `bias`.

    Example:
        >>> layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(4, 2, 5, 5)
        >>> mask = layer.weight > 0
        >>> ours = convolve(x, layer.weight, layer.bias, Places.of(layer, mask, (5, 5)))
        >>> torch.allclose(ours, functional.conv2d(x, layer.weight * mask, layer.bias, padding=1), atol=1e-6)
        True
    """
    found: Tensor = _Convolve.apply(x, weight, bias, places)  # type: ignore[no-untyped-call]
    return found


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, places: Places) -> Tensor:
        images = innermost(x.detach())
        values = weight.detach().reshape(-1)[places.index]
        shift = images.new_zeros(len(weight)) if bias is None else bias.detach()
        out = images.new_empty(len(weight), *places.out, images.shape[-1])
        _add(places.forward, values, shift, images, out)
        ctx.places, ctx.shape = places, weight.shape
        ctx.save_for_backward(images, values)
        return outermost(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        places, (images, values) = ctx.places, ctx.saved_tensors
        of_out = innermost(g)
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = torch.empty_like(images)
            _add(places.back, values, images.new_zeros(len(images)), of_out, of_images)
            of_images = outermost(of_images)
        if ctx.needs_input_grad[1]:
            of_weight = images.new_zeros(ctx.shape)
            of_weight.view(-1)[places.index] = _correlated(places.forward, images, of_out, torch.zeros_like(values))
        return of_images, of_weight, of_out.sum((1, 2, 3)) if ctx.needs_input_grad[2] else None, None


def _add(walk: Walk, values: Tensor, bias: Tensor, source: Tensor, target: Tensor) -> None:
    """Write the sums to `target` [channels, height, width, N], of `source`, likewise."""
    numbers = (*_listed(walk), values.numpy(), bias.numpy(), source.view(-1).numpy(), source.shape[-1])
    compiled(_sums)(*numbers, target.view(*target.shape[:2], -1).numpy())


def _correlated(walk: Walk, source: Tensor, g: Tensor, found: Tensor) -> Tensor:
    """Add each kept weight's gradient to `found`, from that of the target."""
    numbers = (*_listed(walk), source.view(-1).numpy(), source.shape[-1], g.view(*g.shape[:2], -1).numpy())
    compiled(_dots)(*numbers, found.numpy())
    return found


def _listed(walk: Walk) -> tuple[Indices, ...]:
    return walk.kinds, walk.bases, walk.starts, walk.lengths, walk.ends, walk.pixels, walk.which


def innermost(x: Tensor) -> Tensor:
    """[N, C, H, W] as [C, H, W, N], contiguous: a copy only where N is not innermost already."""
    return x.permute(1, 2, 3, 0).contiguous()


def outermost(x: Tensor) -> Tensor:
    """[C, H, W, N] as [N, C, H, W], the same memory."""
    return x.permute(3, 0, 1, 2)


# Four entries at a time, as in `products`.


def _sums(
    kinds: Any, bases: Any, starts: Any, lengths: Any, ends: Any, pixels: Any, which: Any,
    values: Any, bias: Any, x: Any, count: Any, out: Any,
) -> None:  # fmt: skip
    channels = len(out)
    for y in range(len(kinds)):
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
    x: Any, count: Any, g: Any, out: Any,
) -> None:  # fmt: skip
    channels = len(g)
    for y in range(len(kinds)):
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
