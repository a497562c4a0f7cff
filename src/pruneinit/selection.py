"""From scores and a sparsity to masks: exact counts, in linear time, in bounded memory."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import torch
from torch import Tensor

from pruneinit.errors import InputError, check_sparsity, unknown
from pruneinit.masks import Masks, check_masks
from pruneinit.radix import chunks, common_dtype, threshold
from pruneinit.sharded import anywhere, is_sharded, largest, local

Scores = Mapping[str, Tensor]
Scope = str | Mapping[str, float]

SCOPES = ("global", "layer", "erk")


def select(scores: Scores, sparsity: float | None, scope: Scope = "global", *, within: Masks | None = None) -> Masks:
    """Keep the weights with the largest scores: exactly `round((1 - sparsity) * n)` of the n there are.

    Equal scores are broken by position: the weight listed first, and within it the lowest flat index, is kept. Scores
    of which each process holds a part (DTensors) give masks sharded alike, the very ones of the whole scores; only
    counts are exchanged, and all processes must call.

    Args:
        scores: For each weight a tensor of its shape; larger = keep. Any floating dtypes and devices may be mixed.
        sparsity: The fraction to remove, in [0, 1). None where `scope` gives the densities itself.
        scope: How the sparsity is shared out: `"global"` (one threshold for all weights, as in the paper),
            `"layer"` (every layer the same), `"erk"` (Erdos-Renyi-Kernel densities, Evci et al. 2020: proportional
            to the sum over the product of the tensor's dimensions), or a mapping from every weight's name to the
            density it keeps.
        within: Only weights kept by these masks can be kept.

    Returns:
        The masks, each on the device of its score.

    Raises:
        InputError: The sparsity is outside [0, 1), the scope is unknown, a score is NaN or infinite (its layer is
            named), or `within` keeps fewer weights than asked for.

    Example:
        >>> scores = {"a": torch.tensor([3.0, 1.0, 2.0]), "b": torch.tensor([0.5, 5.0])}
        >>> {name: mask.tolist() for name, mask in select(scores, 0.6).items()}
        {'a': [True, False, False], 'b': [False, True]}
        >>> dict(select(scores, None, {"a": 1 / 3, "b": 1.0}).counts)
        {'a': (1, 3), 'b': (2, 2)}
    """
    check_scores(scores)
    room = dict(within.counts) if within is not None else {n: (s.numel(), s.numel()) for n, s in scores.items()}
    if within is not None:
        check_masks(within, {name: tuple(score.shape) for name, score in scores.items()})
        if missing := [name for name in scores if name not in within]:
            raise InputError(f"within= has no mask for {', '.join(missing)}")
    total = sum(s.numel() for s in scores.values())
    if isinstance(scope, str) and scope not in SCOPES:
        raise unknown("scope", scope, SCOPES)
    if isinstance(scope, str):
        if sparsity is None:
            raise InputError(f"scope {scope!r} needs a sparsity in [0, 1), got None")
        keep = round((1 - check_sparsity(sparsity)) * total)
        available = sum(kept for kept, _ in room.values())
        if keep > available:
            raise InputError(f"asked to keep {keep:,} of {total:,} weights, but within= allows only {available:,}")
        if scope == "global":
            return Masks(_largest(scores, keep, within))
    counts = (
        _given(scope, sparsity, room)
        if not isinstance(scope, str)
        else shares(scores, scope, keep, {n: kept for n, (kept, _) in room.items()})
    )
    masks: dict[str, Tensor] = {}
    for name, score in scores.items():
        part = None if within is None else Masks({name: within[name]})
        masks |= _largest({name: score}, counts[name], part)
    return Masks(masks)


def apportion(keep: int, densities: Mapping[str, float], room: Mapping[str, int], scores: Scores) -> dict[str, int]:
    """Share out exactly `keep` weights in proportion to relative densities, at most `room` in each layer.

    A layer that would get more than it has room for is filled, and the rest is shared among the others; fractions
    go to the largest remainders.

    Example:
        >>> scores = {"a": torch.zeros(10), "b": torch.zeros(90)}
        >>> apportion(20, {"a": 8.0, "b": 1.0}, {"a": 10, "b": 90}, scores)
        {'a': 9, 'b': 11}
    """
    fixed: dict[str, int] = {}
    while True:
        free = [n for n in scores if n not in fixed]
        mass = sum(densities[n] * scores[n].numel() for n in free)
        left = keep - sum(fixed.values())
        share = {n: left * densities[n] * scores[n].numel() / mass if mass else 0.0 for n in free}
        full = [n for n in free if share[n] > room[n]]
        if not full:
            break
        fixed |= {n: room[n] for n in full}
    counts = fixed | {n: int(share[n]) for n in free}
    by_remainder = sorted(free, key=lambda n: int(share[n]) - share[n])
    while (left := keep - sum(counts.values())) > 0:
        open_layers = [n for n in by_remainder if counts[n] < room[n]] or [n for n in scores if counts[n] < room[n]]
        for name in open_layers[:left]:
            counts[name] += 1
    return {n: counts[n] for n in scores}


def shares(scores: Scores, scope: str, keep: int, room: Mapping[str, int]) -> dict[str, int]:
    """How many of `keep` weights each layer gets under a scope that is not global.

    Example:
        >>> shares({"a": torch.zeros(10), "b": torch.zeros(90)}, "layer", 20, {"a": 10, "b": 90})
        {'a': 2, 'b': 18}
    """
    return apportion(keep, _densities(scope, scores), room, scores)


def _densities(scope: str, scores: Scores) -> dict[str, float]:
    if scope == "layer":
        return dict.fromkeys(scores, 1.0)
    return {name: sum(s.shape) / max(1, s.numel()) for name, s in scores.items()}


def _given(
    densities: Mapping[str, float], sparsity: float | None, room: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    if sparsity is not None:
        raise InputError(f"densities are given for each weight, so sparsity must be None, got {sparsity:g}")
    for name in densities:
        if name not in room:
            raise unknown("weight", name, room)
    counts = {}
    for name, (available, total) in room.items():
        if not isinstance(densities.get(name), numbers.Real) or not 0 <= densities[name] <= 1:
            raise InputError(f"the density of {name} must be given, in [0, 1]; got {densities.get(name)!r}")
        counts[name] = round(densities[name] * total)
        if counts[name] > available:
            raise InputError(f"asked to keep {counts[name]:,} weights of {name}, within= allows only {available:,}")
    return counts


def _largest(scores: Scores, keep: int, within: Masks | None) -> dict[str, Tensor]:
    """Masks of exactly the `keep` largest scores, ties broken by position."""
    if keep == 0:
        return {name: torch.zeros_like(s, dtype=torch.bool) for name, s in scores.items()}
    if any(is_sharded(score) for score in scores.values()):
        return largest(scores, keep, within)
    dtype = common_dtype(list(scores.values()))
    least, ties = threshold(scores, keep, within, dtype)
    masks = {}
    for name, score in scores.items():
        mask = torch.empty(score.numel(), dtype=torch.bool, device=score.device)
        allowed = None if within is None else within[name].to(score.device).reshape(-1)
        for start, chunk in chunks(score, dtype):
            part = mask[start : start + chunk.numel()]
            torch.gt(chunk, least, out=part)
            inside = slice(start, start + chunk.numel())
            if allowed is not None:
                part &= allowed[inside]
            if ties:
                equal = chunk == least
                if allowed is not None:
                    equal &= allowed[inside]
                first = equal.nonzero().reshape(-1)[:ties]
                part[first] = True
                ties -= first.numel()
        masks[name] = mask.reshape(score.shape)
    return masks


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
        if not all(bool(chunk.isfinite().all()) for _, chunk in chunks(local(score), score.dtype)):
            bad.append(name)
    if bad := anywhere(bad, scores):
        raise InputError(
            f"scores of {', '.join(bad)} are NaN or infinite: the loss or its gradient overflowed there; "
            "check the data and the initialisation"
        )
