"""Rules for operations on maps, [N, C, *places]: pooling and resampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from pruneinit.reach.operation import Operation, binary


def max_pool(op: Operation) -> Tensor:
    """Sums over the windows, since any element of a window may be its maximum."""
    rank = int(op.name[8])
    size, stride, padding, dilation = (
        _per_dim(op.given(i, word), rank)
        for i, word in ((1, "kernel_size"), (2, "stride"), (3, "padding"), (4, "dilation"))
    )
    size = size or [1] * rank
    stride, padding, dilation = stride or size, padding or [0] * rank, dilation or [1] * rank
    shadow = cast(Tensor, op.value(op.given(0, "input")))
    spatial, result = shadow.shape[-rank:], op.out.shape[-rank:]
    pads = []
    for i in reversed(range(rank)):  # on the right what the last window needs: more with ceil_mode, or less
        needed = (result[i] - 1) * stride[i] + dilation[i] * (size[i] - 1) + 1
        pads += [padding[i], needed - spatial[i] - padding[i]]
    padded = functional.pad(shadow.reshape(-1, 1, *spatial), pads)
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    windows = conv(padded, torch.ones(1, 1, *size, device=shadow.device), stride=stride, dilation=dilation)
    return binary(windows.reshape(op.out.shape), 0.5)


def _per_dim(value: Any, rank: int) -> list[int]:
    if value is None or value in ((), []):
        return []
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def adaptive_max_pool(op: Operation) -> Tensor:
    """As the average over the same windows."""
    rank = int(op.name[17])
    pools = (functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d)
    pool = cast(Callable[[Tensor, list[int]], Tensor], pools[rank - 1])
    return pool(op.value(op.given(0, "input")), list(op.out.shape[-rank:]))


def over_places(op: Operation) -> Tensor:
    """Every place of a map depends on all places of its channel: resampling with signed or moving kernels."""
    shadow = cast(Tensor, op.value(op.given(0, "input")))
    places = tuple(range(2, shadow.dim()))
    result = shadow.sum(places, keepdim=True)
    grid = op.args[1] if op.name == "grid_sampler" else None
    moved = op.shadow(grid) if isinstance(grid, Tensor) else None
    return result if moved is None else result + moved.sum(-1).unsqueeze(1)
