"""Score and select, once or in rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, each
from pruneinit.between import Between, check_between
from pruneinit.calibration import Unit
from pruneinit.choice import Choice
from pruneinit.collapse import check_layers, losable
from pruneinit.criteria import Criterion
from pruneinit.densities import Scope
from pruneinit.errors import InputError, check_flag, check_sparsity, check_whole
from pruneinit.functional import Norm, cross_entropy
from pruneinit.masks import Masks
from pruneinit.processes import agreed, groups_of, require_same, together
from pruneinit.reach import reacher
from pruneinit.reparametrize import require_ours, set_stored_, stored
from pruneinit.sanity import Sanity, check_sanity, inverted, reinitialized, shuffled
from pruneinit.selection import check_scope
from pruneinit.sharded import require_whole, reshard_
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
    _check_criterion(criterion)
    masks = all_kept(model, include, exclude)
    require_same(model, {name: weight(model, name) for name in masks}, _INITIALIZE)
    scores = _checked(criterion(model, batches, masks), masks)
    require_same(model, scores, _SHARE)
    return scores


def prune(
    model: nn.Module,
    criterion: Criterion,
    batches: Batches | None = None,
    *,
    sparsity: float | None,
    scope: Scope = "global",
    rounds: int | None = None,
    include: Patterns | None = None,
    exclude: Patterns | None = None,
    effective: bool = False,
    allow_empty: bool = False,
    sanity: Sanity | None = None,
    seed: int = 0,
    rescale: Unit | None = None,
    norm: Norm | None = None,
) -> Masks:
    """Choose which weights to keep; the model is left as it was, unless `sanity="reinitialize"` is asked for.

    In several rounds the density falls by the same factor each time, to (1 - sparsity)^(r/R) after round r of R where
    the model was dense; each round scores the network that the rounds before it have left, and what is gone stays gone,
    unless the criterion `revives`.

    With `effective`, only weights on a path from an input to an output count (see `effective_masks`): the masks hold no
    dead weight, and as many live ones as can be had up to the asked count. They are found by bisection over the number
    kept before the dead are dropped, which costs up to log2(n) forward and backward passes of one example. Removing one
    weight may kill others, so the count can fall somewhat short. In several rounds each is counted so, and none brings
    back what was dead in the one before.

    With `rescale`, the network that a round scores is not only masked: the factors that `rescale_` would calibrate for
    its masks are on it too, anew after each selection, so that no round sees a signal that the ones before have lost.
    A criterion then scores factor times weight, `Magnitude` too: under a global threshold it takes less from layers (or
    neurons) in which little is left, since what is left there counts for more. The masks alone are returned; call
    `rescale_` with the same method for the factors that go with them. It costs a copy of the model, one forward pass
    over the batches for the dense network, and one for each round but the last; round 1 scores the model as it is.

    A criterion is checked by spoiling what it has found (Su et al., "Sanity-Checking Pruning Methods: Random Tickets
    can Win the Jackpot", 2020; Frankle et al., "Pruning Neural Networks at Initialization: Why Are We Missing the
    Mark?", 2021): if the network trains as well all the same, the layers' densities are all that was found.

    - `"shuffle"` moves what is kept to random places of the same weight; with `effective`, dead ones among them.
    - `"invert"` keeps the lowest scores, in each round.
    - `"reinitialize"` gives every weight of the masks, once these are chosen, new initial values: its own in a random
      order, which are draws from the same distribution wherever its values are independent and alike, as in all usual
      initialisations but orthogonal ones; of a sparsified weight, its survivors'. It is the one case in which the
      model changes: what is spoilt is that masks and values belong together, and the masks alone cannot show that.

    Args:
        model: Any module. Of a sparsified one, only survivors can be kept.
        criterion: What to score by.
        batches: Data for criteria that need it, and for `rescale`; kept in memory when there are several rounds.
        sparsity: The fraction of the prunable weights to remove, in [0, 1); None where `scope` gives densities.
        scope: How it is shared out among the layers: see `select`.
        rounds: How many times to score and select; None for the criterion's `rounds`, 1 where it has none.
        include: Name patterns of the weights to prune (default all prunable ones).
        exclude: Name patterns of weights to keep whole; they do not count in the sparsity.
        effective: Count only weights that are on a path from an input to an output. This needs batches, of which the
            first example is run by the criterion's `loss`, or by cross entropy where it has none. Given densities are
            met first, and then the dead dropped.
        allow_empty: Go on where nothing is left of a layer, after any round. A given density of 0 is no accident and
            always allowed, and so is a layer of which nothing was left or, with `effective`, alive before.
        sanity: A check of the criterion: `"shuffle"`, `"reinitialize"` or `"invert"`; None to prune as it says.
        seed: Of the random numbers of `sanity`.
        rescale: Rescale between rounds, by `"layer"` or by `"neuron"` (see `rescale_`), on all batches joined, run by
            the criterion's `loss`, or by cross entropy where it has none. None to mask only.
        norm: Which statistics batch normalisation uses in rescaling; None for the criterion's `norm`.

    Returns:
        The masks; exactly `round((1 - sparsity) * n)` of the n weights are kept, with `effective` at most so many.

    Raises:
        InputError: The sparsity, scope, rounds, rescaling or sanity check are impossible, there is nothing to prune,
            the data does not fit, or a layer would lose its last weight; the highest sparsity at which none does is
            then named. For several rounds it is that of the round, by its scores: at another sparsity, earlier rounds
            leave others.

    Example:
        >>> from pruneinit.criteria import Magnitude
        >>> prune(nn.Linear(10, 10), Magnitude(), sparsity=0.9)
        Masks(1 weights, 10 of 100 kept, sparsity 0.9)
    """
    _check_criterion(criterion)
    check_scope(scope)
    rounds = check_whole("rounds", getattr(criterion, "rounds", 1) if rounds is None else rounds)
    if rounds > 1 and (sparsity is None or not isinstance(scope, str)):
        raise InputError("several rounds need a sparsity and a named scope; with given densities use rounds=1")
    if sparsity is not None:
        check_sparsity(sparsity)
    check_sanity(sanity, seed)
    check_between(rescale, rounds)
    effective, allow_empty = check_flag("effective", effective), check_flag("allow_empty", allow_empty)
    start = masks = all_kept(model, include, exclude)
    require_same(model, {name: weight(model, name) for name in masks}, _INITIALIZE)
    if sanity in ("shuffle", "reinitialize"):
        require_whole(model)
    if sanity == "reinitialize":
        require_ours(model, masks)
    given, groups = batches, groups_of(model)
    if given is not None and (rounds > 1 or effective):
        batches = together(lambda: list(each(given)), groups)
    alive = between = None
    loss = getattr(criterion, "loss", cross_entropy)
    if rescale is not None:
        norm = norm or getattr(criterion, "norm", None)
        between = Between(model, start, batches, rescale, loss=loss, norm=norm)
    if effective:
        alive = agreed(together(lambda: reacher(model, batches, loss), groups), groups)
    revives = getattr(criterion, "revives", False)
    names = [] if allow_empty else losable(start if alive is None else alive(start), scope)
    scored = _scorer(criterion, model, batches, rounds if rescale is None else 1)
    for number in range(1, rounds + 1):
        step = sparsity
        if sparsity is not None and number < rounds and start.kept:
            step = 1 - start.density * ((1 - sparsity) / start.density) ** (number / rounds)
        if alive is not None and step is not None and number > 1 and not revives:
            step = max(step, masks.sparsity)  # the round before may have fallen short
            if not masks.kept:
                break
        scores = _checked(scored(masks), masks)
        if sanity == "invert":
            scores = inverted(scores)
        choice = Choice(scores, scope, start if revives else masks, alive)
        masks = choice.masks(step)
        require_same(model, masks, _SHARE)
        check_layers(choice, step, masks, names, where=f"round {number} of {rounds}, " if rounds > 1 else "")
        if between is not None and number < rounds:
            scored = _scorer(criterion, between.network(masks), batches, 1)
    if sanity == "shuffle":
        masks = shuffled(masks, start, seed)
    if sanity == "reinitialize":
        for name, values in reinitialized(model, masks, seed).items():
            set_stored_(model, name, values)
    return masks


def _check_criterion(criterion: object) -> None:
    """See that a criterion is one that can be called."""
    if isinstance(criterion, type):
        raise InputError(f"the criterion is a class: make one of it, {criterion.__name__}()")
    if not callable(criterion):
        raise InputError(f"the criterion must be Snip(), Magnitude() or another callable, got {criterion!r}")


def _scorer(criterion: Criterion, model: nn.Module, batches: Batches | None, rounds: int) -> Callable[[Masks], object]:
    """A criterion as a function of masks, prepared for several rounds where it can be."""
    if rounds > 1 and (prepare := getattr(criterion, "prepare", None)) is not None:
        return cast(Callable[[Masks], object], prepare(model, batches))
    return lambda masks: criterion(model, batches, masks)


def _checked(scores: object, masks: Masks) -> dict[str, Tensor]:
    """The scores of the weights of `masks`, if they are tensors of the shapes of those."""
    if not isinstance(scores, Mapping) or not all(isinstance(score, Tensor) for score in scores.values()):
        raise InputError(f"the criterion must return a tensor of scores for each weight, got {type(scores).__name__}")
    if odd := sorted(scores.keys() ^ masks.keys()):
        other = ", ".join(odd)
        raise InputError(f"the criterion must score each weight to prune and no other; it differs in {other}")
    for name, score in scores.items():
        if score.shape != masks[name].shape:
            raise InputError(
                f"the criterion scores {name} by a tensor of {tuple(score.shape)}, the weight has "
                f"{tuple(masks[name].shape)}: expected a score for each value"
            )
    return dict(scores)


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
