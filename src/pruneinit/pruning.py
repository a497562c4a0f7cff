"""Score and select, once or in rounds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, each
from pruneinit.criteria import Criterion
from pruneinit.errors import InputError, check_sparsity
from pruneinit.functional import cross_entropy
from pruneinit.masks import Masks
from pruneinit.processes import agreed, groups_of, require_same, together
from pruneinit.reach import reacher
from pruneinit.reparametrize import stored
from pruneinit.selection import Scope, select
from pruneinit.sharded import reshard_
from pruneinit.survivors import current_masks
from pruneinit.weights import Patterns, prunable, weight

# What is wrong where processes that share a model would go on with different masks.
_INITIALIZE = "initialize alike in all processes, with one seed, before wrapping the model in DistributedDataParallel"
_SHARE = "the criterion does not average over processes; give all of them the same batches"


def score(
    model: nn.Module,
    criterion: Criterion,
    batches: Batches | None = None,
    *,
    include: Patterns | None = None,
    exclude: Patterns | None = None,
) -> dict[str, Tensor]:
    """Score the prunable weights of a model; the model is left as it was.

    Args:
        model: Any module.
        criterion: `Snip(...)`, `Magnitude()`, `Random(seed)`, or any callable of that form.
        batches: Data for criteria that need it: an iterable of `(inputs, labels)`.
        include: Name patterns of the weights to score (default all prunable ones).
        exclude: Name patterns of weights to leave out.

    Returns:
        For each weight a tensor of its shape; larger = keep.

    Raises:
        InputError: Nothing to prune, or data that does not fit the model.

    Example:
        >>> from pruneinit.criteria import Magnitude
        >>> list(score(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), Magnitude(), exclude="1.*"))
        ['0.weight']
    """
    masks = all_kept(model, include, exclude)
    require_same(model, {name: weight(model, name) for name in masks}, _INITIALIZE)
    scores = criterion(model, batches, masks)
    require_same(model, scores, _SHARE)
    return scores


def prune(
    model: nn.Module,
    criterion: Criterion,
    batches: Batches | None = None,
    *,
    sparsity: float | None,
    scope: Scope = "global",
    rounds: int = 1,
    include: Patterns | None = None,
    exclude: Patterns | None = None,
    effective: bool = False,
) -> Masks:
    """Choose which weights to keep; the model is left as it was.

    In several rounds the density falls by the same factor each time, to (1 - sparsity)^(r/R) after round r of R where
    the model was dense; each round scores the network that the rounds before it have left, and what is gone stays gone.

    With `effective`, only weights on a path from an input to an output count (see `effective_masks`): the masks hold no
    dead weight, and as many live ones as can be had up to the asked count. They are found by bisection over the number
    kept before the dead are dropped, which costs up to log2(n) forward and backward passes of one example. Removing one
    weight may kill others, so the count can fall somewhat short. In several rounds each is counted so, and none brings
    back what was dead in the one before.

    Args:
        model: Any module. Of a sparsified one, only survivors can be kept.
        criterion: What to score by.
        batches: Data for criteria that need it; kept in memory when there are several rounds.
        sparsity: The fraction of the prunable weights to remove, in [0, 1); None where `scope` gives densities.
        scope: How it is shared out among the layers: see `select`.
        rounds: How many times to score and select.
        include: Name patterns of the weights to prune (default all prunable ones).
        exclude: Name patterns of weights to keep whole; they do not count in the sparsity.
        effective: Count only weights that are on a path from an input to an output. This needs batches, of which the
            first example is run by the criterion's `loss`, or by cross entropy where it has none. Given densities are
            met first, and then the dead dropped.

    Returns:
        The masks; exactly `round((1 - sparsity) * n)` of the n weights are kept, with `effective` at most so many.

    Raises:
        InputError: The sparsity, scope or rounds are impossible, there is nothing to prune, or the data does not fit.

    Example:
        >>> from pruneinit.criteria import Magnitude
        >>> prune(nn.Linear(10, 10), Magnitude(), sparsity=0.9)
        Masks(1 weights, 10 of 100 kept, sparsity 0.9)
    """
    if not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"rounds must be a whole number, at least 1, got {rounds}")
    if rounds > 1 and (sparsity is None or not isinstance(scope, str)):
        raise InputError("several rounds need a sparsity and a named scope; with given densities use rounds=1")
    if sparsity is not None:
        check_sparsity(sparsity)
    masks = all_kept(model, include, exclude)
    require_same(model, {name: weight(model, name) for name in masks}, _INITIALIZE)
    given, groups = batches, groups_of(model)
    if given is not None and (rounds > 1 or effective):
        batches = together(lambda: list(each(given)), groups)
    alive = None
    if effective:
        loss = getattr(criterion, "loss", cross_entropy)
        alive = agreed(together(lambda: reacher(model, batches, loss), groups), groups)
    start = masks.density
    for number in range(1, rounds + 1):
        step = sparsity
        if sparsity is not None and number < rounds and start > 0:
            step = 1 - start * ((1 - sparsity) / start) ** (number / rounds)
        if alive is not None and step is not None and number > 1:
            step = max(step, masks.sparsity)  # the round before may have fallen short
            if not masks.kept:
                break
        scores = criterion(model, batches, masks)
        within = None if masks.kept == masks.total else masks
        chosen = select(scores, step, scope, within=within)
        masks = chosen if alive is None else _most_alive(chosen, scores, scope, within, alive, fixed=step is None)
        require_same(model, masks, _SHARE)
    return masks


def _most_alive(
    chosen: Masks,
    scores: dict[str, Tensor],
    scope: Scope,
    within: Masks | None,
    alive: Callable[[Masks], Masks],
    *,
    fixed: bool,
) -> Masks:
    """The live weights of the largest selection that has no more of them than `chosen` has weights."""
    best, target, total = alive(chosen), chosen.kept, chosen.total
    low, high = target, target if fixed else total if within is None else within.kept
    while best.kept < target and low < high:
        middle = (low + high + 1) // 2
        found = alive(select(scores, 1 - middle / total, scope, within=within))
        if found.kept > target:
            high = middle - 1
        else:
            low, best = middle, found
    return best


def all_kept(model: nn.Module, include: Patterns | None = None, exclude: Patterns | None = None) -> Masks:
    """Masks that keep all there is: every value of a dense weight, the survivors of a sparsified one.

    Example:
        >>> all_kept(nn.Linear(2, 3)).kept
        6
    """
    reshard_(model)
    pruned = current_masks(model)
    masks = {}
    for name, found in prunable(model, include, exclude).items():
        everything = torch.ones((), dtype=torch.bool, device=stored(model, name).device)
        masks[name] = pruned.get(name, everything.expand(found.shape))  # one value, in the memory of one
    return Masks(masks)
