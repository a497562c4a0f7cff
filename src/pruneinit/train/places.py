"""Where a pruned convolution finds its numbers, worked out once for images of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.utils import _pair

from pruneinit.train.products import Indices


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


@dataclass(frozen=True)
class Places:
    """Where a pruned convolution finds its numbers, in images of one size.

    Attributes:
        kept: How many weights.
        forward: From the images to the outputs.
        back: From the outputs to the images.
        images: Channels, height and width of the images.
        out: Channels, height and width of the outputs.
    """

    kept: int
    forward: Walk
    back: Walk
    images: tuple[int, int, int]
    out: tuple[int, int, int]

    @staticmethod
    def of(layer: nn.Conv2d, mask: Tensor, size: tuple[int, int]) -> Places | None:
        """The places of a layer's kept weights.

        They take some 150 bytes a kept weight of a 3x3 kernel, as borders have lists of their own.

        Args:
            layer: Any stride, dilation and groups; padded with zeros or periodically.
            mask: Which of its weights [out, in / groups, height, width] are kept.
            size: Height and width of its input.

        Returns:
            None where periodic padding leads a tap to the same pixel twice, or images are too small for the kernel.
        """
        rows, columns = (_sources(layer, size, axis) for axis in (0, 1))
        if not (len(rows) and len(columns) and _once(rows) and _once(columns)):
            return None
        o, i, y, x = mask.cpu().nonzero(as_tuple=True)
        i = i + o // (layer.out_channels // layer.groups) * mask.shape[1]
        there, back = Taps(layer.out_channels, o, i, y, x), Taps(layer.in_channels, i, o, y, x)
        out = (layer.out_channels, len(rows), len(columns))
        return Places(
            kept=len(o),
            forward=Walk.of(there, rows, columns, size),
            back=Walk.of(back, _turned(rows, size[0]), _turned(columns, size[1]), out[1:]),
            images=(layer.in_channels, *size),
            out=out,
        )


def _sources(layer: nn.Conv2d, size: Sequence[int], axis: int) -> Tensor:
    """The input row (or column) that each tap of the kernel meets at each output row (or column); -1 for none."""
    kernel, stride, dilation = (_pair(one)[axis] for one in (layer.kernel_size, layer.stride, layer.dilation))
    reach = dilation * (kernel - 1)
    before, after = _padding(layer, axis, reach)
    places = torch.arange(-before, size[axis] + after)
    inside = (places >= 0) & (places < size[axis])
    padded = places % size[axis] if layer.padding_mode == "circular" else torch.where(inside, places, -1)
    first = torch.arange(0, max(0, len(padded) - reach), stride)
    return padded[first[:, None] + dilation * torch.arange(kernel)]


def _padding(layer: nn.Conv2d, axis: int, reach: int) -> tuple[int, int]:
    """Before and after, as PyTorch takes it: of zeros what the layer says, else what it was made with."""
    if layer.padding_mode != "zeros":
        sides = layer._reversed_padding_repeated_twice
        return (sides[2], sides[3]) if axis == 0 else (sides[0], sides[1])
    if isinstance(layer.padding, str):
        return (reach // 2, reach - reach // 2) if layer.padding == "same" else (0, 0)
    return (_pair(layer.padding)[axis],) * 2


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


def _starts(columns: Tensor) -> Tensor:
    """The first columns of the runs in which each tap's source moves on with the target, or is none throughout."""
    after = torch.where(columns < 0, -1, columns + 1)[:-1]
    breaks = (after != columns[1:]).any(1).nonzero().view(-1) + 1
    return functional.pad(breaks, (1, 0))
