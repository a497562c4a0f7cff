"""From scores and a sparsity to masks: exact counts, in linear time, in bounded memory.

The threshold is found by a radix search on the bit patterns of the scores: each pass counts, chunk by chunk, how
many scores fall into each of 2^16 bins and goes on with the one bin that holds the threshold. No score is sorted
or copied, and counts are Python integers, so nothing overflows at 2^24 or 2^31 weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pruneinit.densities import RULES, counts, given
from pruneinit.errors import InputError, check_sparsity, unknown
from pruneinit.masks import Masks, check_masks

Scores = Mapping[str, Tensor]
Scope = str | Mapping[str, float]

SCOPES = ("global", *RULES)
_CHUNK = 1 << 17  # small enough for the temporaries of a pass to stay in cache
_CHUNK_ELSEWHERE = 1 << 24  # on an accelerator every chunk costs a wait
_BITS = 16


def select(scores: Scores, sparsity: float | None, scope: Scope = "global", *, within: Masks | None = None) -> Masks:
    """Keep the weights with the largest scores: exactly `round((1 - sparsity) * n)` of the n there are.

    Equal scores are broken by position: the weight listed first, and within it the lowest flat index, is kept.

    Args:
        scores: For each weight a tensor of its shape; larger = keep. Any floating dtypes and devices may be mixed.
        sparsity: The fraction to remove, in [0, 1). None where `scope` gives the densities itself.
        scope: How the sparsity is shared out: `"global"` (one threshold for all weights, as in the paper),
            a rule for the densities of the layers, or a mapping from every weight's name to the density it keeps. The
            rules are `"layer"` (every layer the same; also `"uniform"`), `"uniform+"` (the first convolution whole, at
            least 20 % of the last fully connected layer), `"erk"` (Erdos-Renyi-Kernel, by the dimensions of the tensor)
            and `"igq"` (Ideal Gas Quotas, by its size); see `pruneinit.densities.counts`.
        within: Only weights kept by these masks can be kept.

    Returns:
        The masks, each on the device of its score.

    Raises:
        InputError: The sparsity is outside [0, 1), or higher than the scope allows (the highest possible one is named);
            the scope is unknown, a score is NaN or infinite (its layer is named), or `within` keeps fewer weights than
            asked for.

    Example:
        >>> scores = {"a": torch.tensor([3.0, 1.0, 2.0]), "b": torch.tensor([0.5, 5.0])}
        >>> {name: mask.tolist() for name, mask in select(scores, 0.6).items()}
        {'a': [True, False, False], 'b': [False, True]}
        >>> dict(select(scores, None, {"a": 1 / 3, "b": 1.0}).counts)
        {'a': (1, 3), 'b': (2, 2)}
    """
    check_scores(scores)
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    sizes = {name: score.numel() for name, score in scores.items()}
    if within is not None:
        check_masks(within, shapes)
        if missing := [name for name in scores if name not in within]:
            raise InputError(f"within= has no mask for {', '.join(missing)}")
    room = sizes if within is None else {name: within.counts[name][0] for name in scores}
    if isinstance(scope, str):
        if scope not in SCOPES:
            raise unknown("scope", scope, SCOPES)
        if sparsity is None:
            raise InputError(f"scope {scope!r} needs a sparsity in [0, 1), got None")
        keep = round((1 - check_sparsity(sparsity)) * sum(sizes.values()))
        if keep > sum(room.values()):
            raise InputError(
                f"asked to keep {keep:,} of {sum(sizes.values()):,} weights, but within= allows only "
                f"{sum(room.values()):,}"
            )
        if scope == "global":
            return Masks(_largest(scores, keep, within))
        shares = counts(scope, shapes, keep, room)
    elif sparsity is not None:
        raise InputError(f"densities are given for each weight, so sparsity must be None, got {sparsity:g}")
    else:
        shares = given(scope, sizes, room)
    masks: dict[str, Tensor] = {}
    for name, score in scores.items():
        part = None if within is None else Masks({name: within[name]})
        masks |= _largest({name: score}, shares[name], part)
    return Masks(masks)


def _largest(scores: Scores, keep: int, within: Masks | None) -> dict[str, Tensor]:
    """Masks of exactly the `keep` largest scores, ties broken by position."""
    if keep == 0:
        return {name: torch.zeros_like(s, dtype=torch.bool) for name, s in scores.items()}
    dtype = _common_dtype(list(scores.values()))
    threshold, ties = _threshold(scores, keep, within, dtype)
    masks = {}
    for name, score in scores.items():
        mask = torch.empty(score.numel(), dtype=torch.bool, device=score.device)
        allowed = None if within is None else within[name].to(score.device).reshape(-1)
        for start, chunk in _chunks(score, dtype):
            part = mask[start : start + chunk.numel()]
            torch.gt(chunk, threshold, out=part)
            inside = slice(start, start + chunk.numel())
            if allowed is not None:
                part &= allowed[inside]
            if ties:
                equal = chunk == threshold
                if allowed is not None:
                    equal &= allowed[inside]
                first = equal.nonzero().reshape(-1)[:ties]
                part[first] = True
                ties -= first.numel()
        masks[name] = mask.reshape(score.shape)
    return masks


def _threshold(scores: Scores, keep: int, within: Masks | None, dtype: torch.dtype) -> tuple[float, int]:
    """The `keep`-th largest score, and how many scores equal to it are to be kept."""
    width = torch.finfo(dtype).bits
    prefix, rank = 0, keep  # the bits of the threshold's key found so far; its rank among keys with that prefix
    for shift in range(width - _BITS, -1, -_BITS):
        bins = torch.zeros(1 << _BITS, dtype=torch.int64)
        for key in _keys(scores, within, dtype):
            if shift + _BITS < width:
                key = key[(key >> (shift + _BITS)) == prefix]
            digit = ((key >> shift) & ((1 << _BITS) - 1)).long()
            bins += torch.bincount(digit, minlength=1 << _BITS).cpu()
        if shift + _BITS == width:  # the top digit carries the sign: its bins 2^15.. are the negative keys
            bins = bins.roll(1 << (_BITS - 1))
        above = bins.flip(0).cumsum(0).flip(0)  # how many keys have this digit or a larger one
        digit_value = int((above >= rank).nonzero()[-1])
        rank -= int(above[digit_value] - bins[digit_value])
        if shift + _BITS == width:
            digit_value -= 1 << (_BITS - 1)
        prefix = (prefix << _BITS) + digit_value
    integer = {32: torch.int32, 64: torch.int64}[width]
    key = torch.tensor([prefix], dtype=integer)
    return float(_from_key(key).view(dtype)), rank


def _keys(scores: Scores, within: Masks | None, dtype: torch.dtype) -> Iterator[Tensor]:
    """The scores as integers of the same order, chunk by chunk."""
    integer = {32: torch.int32, 64: torch.int64}[torch.finfo(dtype).bits]
    for name, score in scores.items():
        allowed = None if within is None else within[name].to(score.device).reshape(-1)
        for start, chunk in _chunks(score, dtype):
            if allowed is not None:
                chunk = chunk[allowed[start : start + chunk.numel()]]
            bits = (chunk + 0.0).view(integer)  # + 0.0 turns -0.0 into 0.0, so that the two tie
            yield _from_key(bits)


def ordered_keys(score: Tensor) -> Iterator[Tensor]:
    """The scores as 32-bit integers in the same order, chunk by chunk.

    Example:
        >>> torch.cat(list(ordered_keys(torch.tensor([2.0, -1.0, 0.0])))).argsort().tolist()
        [1, 2, 0]
    """
    yield from _keys({"": score}, None, torch.float32)


def _from_key(bits: Tensor) -> Tensor:
    """Float bits <-> a signed integer of the same order: flip all but the sign bit of negative numbers."""
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _chunks(score: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    flat = score.detach().reshape(-1)
    size = _CHUNK if flat.device.type == "cpu" else _CHUNK_ELSEWHERE
    for start in range(0, flat.numel(), size):
        yield start, flat[start : start + size].to(dtype)


def _common_dtype(scores: Sequence[Tensor]) -> torch.dtype:
    return torch.float64 if any(s.dtype == torch.float64 for s in scores) else torch.float32


def check_scores(scores: Scores) -> None:
    """See that scores can be ordered.

    Raises:
        InputError: There are none, or some are no floating-point numbers, NaN or infinite; their layers are named.
    """
    if not scores:
        raise InputError("there are no scores to select from")
    bad = []
    for name, score in scores.items():
        if not score.dtype.is_floating_point:
            raise InputError(f"the scores of {name} must be floating point, got {score.dtype}")
        if not all(bool(chunk.isfinite().all()) for _, chunk in _chunks(score, score.dtype)):
            bad.append(name)
    if bad:
        raise InputError(
            f"scores of {', '.join(bad)} are NaN or infinite: the loss or its gradient overflowed there; "
            "check the data and the initialisation"
        )
