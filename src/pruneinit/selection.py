"""From scores and a sparsity to masks: exact counts, in linear time, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pruneinit.densities import RULES, Scope, shares, total
from pruneinit.errors import InputError, unknown
from pruneinit.masks import Masks, check_masks
from pruneinit.radix import chunks, common_dtype, threshold
from pruneinit.sharded import anywhere, is_sharded, largest, local

Scores = Mapping[str, Tensor]

# So many scores are parted in less time than their bits are counted, where processors compare several at once.
_FEW = 1 << 21

SCOPES = ("global", *RULES)


def select(scores: Scores, sparsity: float | None, scope: Scope = "global", *, within: Masks | None = None) -> Masks:
    """Keep the weights with the largest scores: exactly `round((1 - sparsity) * n)` of the n there are.

    Equal scores are broken by position: the weight listed first, and within it the lowest flat index, is kept. Scores
    of which each process holds a part (DTensors) give masks sharded alike, the very ones of the whole scores; only
    counts are exchanged, and all processes must call.

    Args:
        scores: For each weight a tensor of its shape; larger = keep. Any floating dtypes and devices may be mixed.
        sparsity: The fraction to remove, in [0, 1). None where `scope` gives the densities itself.
        scope: How the sparsity is shared out: `"global"` (one threshold for all weights, as in the paper),
            a rule for the densities of the layers, or a mapping from every weight's name to the density it keeps. The
            rules are `"layer"` (every layer the same; also `"uniform"`), `"uniform+"` (the first convolution whole, at
            least 20 % of the last fully connected layer), `"erk"` (Erdos-Renyi-Kernel, by the dimensions of the
            tensor), `"erk+"` (the same, the first layer never sparser than the whole), `"ends"` (the same, the first
            layer keeps much and the last not too much) and `"igq"` (Ideal Gas Quotas, by its size); see
            `pruneinit.densities.counts`.
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
    check_scope(scope)
    shapes = {name: tuple(score.shape) for name, score in scores.items()}
    sizes = {name: score.numel() for name, score in scores.items()}
    if within is not None:
        within = check_masks(within, shapes)
        if missing := [name for name in scores if name not in within]:
            raise InputError(f"within= has no mask for {', '.join(missing)}")
    room = sizes if within is None else {name: within.counts[name][0] for name in scores}
    if isinstance(scope, str) and scope not in SCOPES:
        raise unknown("scope", scope, SCOPES)
    if scope == "global":
        return Masks(_largest(scores, total(scope, sparsity, sizes, room), within))
    kept = shares(scope, sparsity, shapes, room)
    masks: dict[str, Tensor] = {}
    for name, score in scores.items():
        part = None if within is None else Masks({name: within[name]})
        masks |= _largest({name: score}, kept[name], part)
    return Masks(masks)


def check_scope(scope: object) -> None:
    """See that a scope has the form of one, a name or densities.

    Raises:
        InputError: It has not.
    """
    if isinstance(scope, Masks):
        raise InputError(
            "scope must be the name of one, or densities by the names of weights: of masks, masks.densities"
        )
    if not isinstance(scope, (str, Mapping)):
        raise InputError(f"scope must be the name of one, or densities by the names of weights, got {scope!r}")


def _largest(scores: Scores, keep: int, within: Masks | None) -> dict[str, Tensor]:
    """Masks of exactly the `keep` largest scores, ties broken by position."""
    if keep == 0:
        return {name: torch.zeros_like(s, dtype=torch.bool) for name, s in scores.items()}
    if any(is_sharded(score) for score in scores.values()):
        return largest(scores, keep, within)
    dtype = common_dtype(list(scores.values()))
    if sum(s.numel() for s in scores.values()) <= _FEW and all(s.device.type == "cpu" for s in scores.values()):
        return _largest_of_few(scores, keep, within, dtype)
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


def _largest_of_few(scores: Scores, keep: int, within: Masks | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same by parting a copy of all scores, in NumPy, which is faster at it."""
    values = {name: score.detach().to(dtype).reshape(-1).numpy() for name, score in scores.items()}
    room = {} if within is None else {name: within[name].cpu().reshape(-1).numpy() for name in scores}
    # compress, and not an index, which takes several times as long.
    parted = np.concatenate([value.compress(room[name]) if room else value for name, value in values.items()])
    parted.partition(len(parted) - keep)
    least = parted[-keep]
    masks = {name: value >= least for name, value in values.items()}
    for name, allowed in room.items():
        masks[name] &= allowed
    surplus = sum(map(np.count_nonzero, masks.values())) - keep
    for name in reversed(masks):
        if surplus:
            last = np.flatnonzero(masks[name] & (values[name] == least))[-surplus:]
            masks[name][last] = False
            surplus -= len(last)
    return {name: torch.from_numpy(mask).reshape(scores[name].shape) for name, mask in masks.items()}


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
        if math.isfinite(float(local(score).detach().sum())):
            continue  # so all terms are finite too
        if not all(bool(chunk.isfinite().all()) for _, chunk in chunks(local(score), score.dtype)):
            bad.append(name)
    if bad := anywhere(bad, scores):
        raise InputError(
            f"scores of {', '.join(bad)} are NaN or infinite: the loss or its gradient overflowed there; "
            "check the data and the initialisation"
        )
