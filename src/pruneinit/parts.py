"""Parts of tensors, wherever they are: their places in the whole, and the largest values of all.

Everything here is pure, and knows of other processes only that somebody adds up counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruneinit.radix import chunks, kth_largest, threshold

Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Part:
    """A box cut out of a tensor.

    Attributes:
        values: What is in it.
        shape: Of the whole tensor.
        offset: Where in the whole tensor it begins, one number a dimension.
        counts: False for a further copy of what another part holds too.
        allowed: A mask of the values that can be chosen; None for all.
    """

    values: Tensor
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    counts: bool = True
    allowed: Tensor | None = None

    def positions(self, start: int, stop: int) -> Tensor:
        """The flat indices in the whole tensor of the values `start` to `stop` of this part.

        Example:
            >>> Part(torch.zeros(2, 2), (2, 5), (0, 3)).positions(1, 4)
            tensor([4, 8, 9])
        """
        inside = torch.arange(start, stop, device=self.values.device)
        found = torch.zeros_like(inside)
        stride = 1
        for size, offset, length in reversed(list(zip(self.shape, self.offset, self.values.shape, strict=True))):
            found += (inside % length + offset) * stride
            inside = inside // length
            stride *= size
        return found


def largest_of(
    parts: Mapping[str, Sequence[Part]], keep: int, dtype: torch.dtype, total: Total
) -> dict[str, list[Tensor]]:
    """For each part of each weight the mask of what is among the `keep` largest of all.

    Equal scores are broken by position: the weight listed first, and in it the lowest flat index in the whole tensor.

    Args:
        parts: Those that this process holds, at least one of each weight, all with or all without `allowed`; every
            process lists the same weights in the same order.
        keep: How many to keep, at least 1 and at most how many are allowed.
        dtype: float32 or float64, in which scores are compared.
        total: The sum of a tensor of counts over all processes.

    Example:
        >>> row = torch.tensor([2.0, 1.0, 1.0, 1.0])
        >>> halves = [Part(row[2:], (4,), (2,)), Part(row[:2], (4,), (0,))]
        >>> largest_of({"a": halves}, 3, torch.float32, lambda counts: counts)
        {'a': [tensor([ True, False]), tensor([True, True])]}
    """
    counting = {name: [p for p in some if p.counts] for name, some in parts.items()}
    flat = {f"{name} {i}": p for name, some in counting.items() for i, p in enumerate(some)}
    within = {key: p.allowed for key, p in flat.items() if p.allowed is not None} or None
    least, ties = threshold({key: p.values for key, p in flat.items()}, keep, within, dtype, total)
    equal = [sum(int(tied.sum()) for p in some for _, tied in _tied(p, least, dtype)) for some in counting.values()]
    masks = {}
    for (name, some), number in zip(parts.items(), total(torch.tensor(equal)).tolist(), strict=True):
        quota = min(ties, number)
        ties -= quota
        last = math.inf if quota == number else -1
        if 0 < quota < number:
            last = _last_tie(counting[name], some[0].shape, quota, least, dtype, total)
        masks[name] = [_mask(p, least, last, dtype) for p in some]
    return masks


def _last_tie(
    parts: Sequence[Part], shape: tuple[int, ...], quota: int, least: float, dtype: torch.dtype, total: Total
) -> int:
    """The flat index in the whole tensor of the last one to be kept among the scores that equal the threshold."""

    def keys() -> Iterator[Tensor]:
        for some in parts:
            for start, tied in _tied(some, least, dtype):
                yield -some.positions(start, start + tied.numel())[tied]  # the lowest index is the largest key

    return -kth_largest(keys, quota, 32 if math.prod(shape) < 1 << 31 else 64, total)[0]


def _mask(some: Part, least: float, last: float, dtype: torch.dtype) -> Tensor:
    """The mask of a part: scores above the threshold, and those equal to it that lie no further than `last`."""
    mask = torch.empty(some.values.numel(), dtype=torch.bool, device=some.values.device)
    for start, chunk in chunks(some.values, dtype):
        inside = slice(start, start + chunk.numel())
        torch.gt(chunk, least, out=mask[inside])
        if some.allowed is not None:
            mask[inside] &= some.allowed.reshape(-1)[inside]
    if last >= 0:
        for start, tied in _tied(some, least, dtype):
            stop = start + tied.numel()
            mask[start:stop] |= tied if last == math.inf else tied & (some.positions(start, stop) <= last)
    return mask.reshape(some.values.shape)


def _tied(some: Part, least: float, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Chunk by chunk, which scores of a part can be chosen and equal the threshold."""
    for start, chunk in chunks(some.values, dtype):
        tied = chunk == least
        yield start, tied if some.allowed is None else tied & some.allowed.reshape(-1)[start : start + tied.numel()]
