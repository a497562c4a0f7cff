"""The k-th largest of any number of scores: exactly, in linear time, in bounded memory, over any number of processes.

A radix search on the bit patterns of the scores: each pass counts, chunk by chunk, how many scores fall into each of
2^16 bins and goes on with the one bin that holds the threshold. No score is sorted or copied, and counts are 64-bit
integers, so nothing overflows at 2^24 or 2^31 weights. Where the scores are spread over processes, the counts are added
up between the passes, and integers add up exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 17  # small enough for the temporaries of a pass to stay in cache
_CHUNK_ELSEWHERE = 1 << 24  # on an accelerator every chunk costs a wait
_BITS = 16


def alone(counts: Tensor) -> Tensor:
    """The sum of counts over all processes where there is only this one."""
    return counts


def kth_largest(
    keys: Callable[[], Iterable[Tensor]], rank: int, width: int, total: Callable[[Tensor], Tensor] = alone
) -> tuple[int, int]:
    """The `rank`-th largest of integers, and which one of those equal to it that is, counted from 1.

    Args:
        keys: Gives the integers chunk by chunk, int32 or int64, once for each pass.
        rank: From 1 to how many there are.
        width: 32 or 64, the bits of a key.
        total: The sum of a tensor of counts over all processes that hold keys.

    Example:
        >>> kth_largest(lambda: [torch.tensor([5, -3, 5]), torch.tensor([9])], 3, 64)
        (5, 2)
    """
    prefix = 0  # the bits of the key found so far; `rank` counts among the keys with that prefix
    for shift in range(width - _BITS, -1, -_BITS):
        bins = torch.zeros(1 << _BITS, dtype=torch.int64)
        top = shift + _BITS == width
        for key in _filled(keys()):
            if not top:
                key = key[(key >> (shift + _BITS)) == prefix]
            digit = ((key >> shift) & ((1 << _BITS) - 1)).long()
            bins += torch.bincount(digit, minlength=1 << _BITS).cpu()
        bins = total(bins)
        if top:  # the top digit carries the sign: its bins 2^15.. are the negative keys
            bins = bins.roll(1 << (_BITS - 1))
        above = bins.flip(0).cumsum(0).flip(0)  # how many keys have this digit or a larger one
        digit_value = int((above >= rank).nonzero()[-1])
        rank -= int(above[digit_value] - bins[digit_value])
        if top:
            digit_value -= 1 << (_BITS - 1)
        prefix = (prefix << _BITS) + digit_value
    return prefix, rank


def threshold(
    scores: Mapping[str, Tensor],
    keep: int,
    within: Mapping[str, Tensor] | None,
    dtype: torch.dtype,
    total: Callable[[Tensor], Tensor] = alone,
) -> tuple[float, int]:
    """The `keep`-th largest score, and how many scores equal to it are to be kept.

    Args:
        scores: Of this process.
        keep: At least 1, at most how many scores there are on all processes.
        within: Masks of the scores that count.
        dtype: float32 or float64, in which scores are compared.
        total: The sum of a tensor of counts over all processes.

    Example:
        >>> threshold({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([3.0])}, 1, None, torch.float32)
        (3.0, 1)
    """
    width = torch.finfo(dtype).bits
    key, ties = kth_largest(lambda: _keys(scores, within, dtype), keep, width, total)
    integer = {32: torch.int32, 64: torch.int64}[width]
    return float(_from_key(torch.tensor([key], dtype=integer)).view(dtype)), ties


def chunks(score: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """A tensor's flat values in pieces that fit the cache, each with its start."""
    flat = score.detach().reshape(-1)
    size = _CHUNK if flat.device.type == "cpu" else _CHUNK_ELSEWHERE
    for start in range(0, flat.numel(), size):
        yield start, flat[start : start + size].to(dtype)


def common_dtype(scores: Sequence[Tensor]) -> torch.dtype:
    """What all scores can be compared in without rounding: float64 if one of them is, else float32."""
    return torch.float64 if any(s.dtype == torch.float64 for s in scores) else torch.float32


def ordered_keys(score: Tensor) -> Iterator[Tensor]:
    """The scores as 32-bit integers in the same order, chunk by chunk.

    Example:
        >>> torch.cat(list(ordered_keys(torch.tensor([2.0, -1.0, 0.0])))).argsort().tolist()
        [1, 2, 0]
    """
    yield from _keys({"": score}, None, torch.float32)


def _keys(scores: Mapping[str, Tensor], within: Mapping[str, Tensor] | None, dtype: torch.dtype) -> Iterator[Tensor]:
    """The scores as integers of the same order, chunk by chunk."""
    integer = {32: torch.int32, 64: torch.int64}[torch.finfo(dtype).bits]
    for name, score in scores.items():
        allowed = None if within is None else within[name].to(score.device).reshape(-1)
        for start, chunk in chunks(score, dtype):
            if allowed is not None:
                chunk = chunk[allowed[start : start + chunk.numel()]]
            bits = (chunk + 0.0).view(integer)  # + 0.0 turns -0.0 into 0.0, so that the two tie
            yield _from_key(bits)


def _filled(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same integers in fewer pieces: each costs a pass over all bins, however small it is."""
    held: list[Tensor] = []
    for piece in pieces:
        if held and (piece.device != held[0].device or sum(map(len, held)) + len(piece) > _CHUNK):
            yield held.pop() if len(held) == 1 else torch.cat(held)
            held.clear()
        held.append(piece)
    if held:
        yield held.pop() if len(held) == 1 else torch.cat(held)


def _from_key(bits: Tensor) -> Tensor:
    """Float bits <-> a signed integer of the same order: flip all but the sign bit of negative numbers."""
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)
