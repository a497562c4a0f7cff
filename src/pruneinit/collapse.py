"""Layer collapse: which layers a selection leaves nothing of, and how far it can go without that."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pruneinit.choice import Choice
from pruneinit.densities import Scope, counts
from pruneinit.errors import InputError
from pruneinit.masks import Masks
from pruneinit.selection import Scores
from pruneinit.sharded import is_sharded


def losable(before: Masks, scope: Scope) -> list[str]:
    """The weights that have something to lose; not those that given densities give up, by a density of 0.

    Example:
        >>> before = Masks({"a": torch.tensor([True]), "b": torch.tensor([False]), "c": torch.tensor([True])})
        >>> losable(before, "global"), losable(before, {"a": 0.5, "b": 0.5, "c": 0})
        (['a', 'c'], ['a'])
    """
    given_up = [] if isinstance(scope, str) else [name for name, density in scope.items() if density == 0]
    return [name for name, (kept, _) in before.counts.items() if kept and name not in given_up]


def safest(choice: Choice, sparsity: float, names: Sequence[str]) -> str | None:
    """The highest sparsity, below one that is too high, at which something is left of each of some weights.

    Args:
        choice: What is chosen from; its scope is a named one, and all there is has something of each of them.
        sparsity: One that leaves nothing of one of them.
        names: Weights.

    Returns:
        In as many digits as it takes to keep exactly that many weights; None where none was found: for sharded
        scores, and where only live weights count and layers do not grow one after the other with the number kept.

    Example:
        >>> scores = {"a": torch.tensor([3.0, 1.0, 2.0]), "b": torch.tensor([0.5, 1.5])}
        >>> whole = Masks({name: torch.ones_like(score).bool() for name, score in scores.items()})
        >>> safest(Choice(scores, "global", whole), 0.8, ["a", "b"])
        '0.4'
    """
    if any(is_sharded(score) for score in choice.scores.values()):
        return None  # counting them would take a message for each process and layer
    if choice.alive is None:
        return sparsity_text(_least_kept(choice, choice.asked(sparsity), names), choice.room.total)
    text = sparsity_text(_least_alive(choice, choice.asked(sparsity), names), choice.room.total)
    return text if _each(choice.masks(float(text)), names) else None


def _each(masks: Masks, names: Sequence[str]) -> bool:
    return all(masks.counts[name][0] for name in names)


def _least_kept(choice: Choice, above: int, names: Sequence[str]) -> int:
    """The smallest count above `above` that leaves something of each."""
    if not isinstance(choice.scope, str) or choice.scope == "global":
        return _rank_of_the_last_best(choice.scores, choice.room, names)
    available = {name: kept for name, (kept, _) in choice.room.counts.items()}
    # One by one: a layer that is given a weight for its remainder can lose it again where the count grows.
    shapes = {name: tuple(score.shape) for name, score in choice.scores.items()}
    for keep in range(above + 1, choice.room.kept):
        found = counts(choice.scope, shapes, keep, available)
        if all(found[name] for name in names):
            return keep
    return choice.room.kept


def _least_alive(choice: Choice, above: int, names: Sequence[str]) -> int:
    """How many live weights there are in the smallest selection that has one of each."""
    low, high = above, choice.room.kept
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _each(choice.live(middle), names) else (middle, high)
    return choice.live(high).kept


def _rank_of_the_last_best(scores: Scores, room: Masks, names: Sequence[str]) -> int:
    """At which place, in the order of selection, the last of some layers has its first weight."""
    double = any(score.dtype == torch.float64 for score in scores.values())
    values = {
        name: score.detach()[room[name].to(score.device)].to(torch.float64 if double else torch.float32)
        for name, score in scores.items()
    }
    order = list(scores)
    best = {name: float(values[name].max()) for name in names}
    last = min(names, key=lambda name: (best[name], -order.index(name)))
    higher = sum(int((value > best[last]).count_nonzero()) for value in values.values())
    ties = sum(int((values[name] == best[last]).count_nonzero()) for name in order[: order.index(last)])
    return higher + ties + 1


def sparsity_text(kept: int, total: int) -> str:
    """The shortest sparsity at which `select` keeps exactly `kept` of `total`.

    Example:
        >>> sparsity_text(1, 3), sparsity_text(3, 4), sparsity_text(123_456, 10_000_000)
        ('0.7', '0.2', '0.9876544')
    """
    exact = 1 - kept / total
    texts = (f"{exact:.{digits}f}" for digits in range(1, 18))
    return next((text for text in texts if _counts(float(text), kept, total)), repr(exact))


def _counts(sparsity: float, kept: int, total: int) -> bool:
    return sparsity < 1 and round((1 - sparsity) * total) == kept


def check_layers(choice: Choice, sparsity: float | None, masks: Masks, names: Sequence[str], where: str = "") -> None:
    """See that something is left of each of some layers.

    Args:
        choice: What was chosen from.
        sparsity: At which sparsity; None where densities are given.
        masks: What was chosen.
        names: The layers.
        where: Which of several rounds it was.

    Raises:
        InputError: Nothing is left of one; the highest safe sparsity is named, or for given densities a density.

    Example:
        >>> scores = {"a": torch.tensor([3.0, 1.0, 2.0]), "b": torch.tensor([0.5, 1.5])}
        >>> choice = Choice(scores, "global", Masks({name: score > 0 for name, score in scores.items()}))
        >>> check_layers(choice, 0.8, choice.masks(0.8), ["a", "b"])
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: sparsity 0.8 leaves nothing of b: the highest safe sparsity is 0.4; take that, ...
    """
    gone = [name for name in names if not masks.counts[name][0]]
    if not gone:
        return
    more = {1: "", 2: " and 1 more layer"}.get(len(gone), f" and {len(gone) - 1} more layers")
    what = "the density given" if sparsity is None else f"sparsity {sparsity:.12g}"
    cure = _cure_of_densities(choice, gone[0]) if sparsity is None else _cure(choice, sparsity, names, where)
    raise InputError(
        f"{where}{what} leaves nothing of {gone[0]}{more}: {cure}, or pass allow_empty=True to go on all the same"
    )


def _cure(choice: Choice, sparsity: float, names: Sequence[str], where: str) -> str:
    safe = safest(choice, sparsity, names)
    if safe is None:
        return "take a lower one"
    if where:  # at another sparsity the rounds before would have left another network, and so other scores
        return f"by the scores of this round {safe} is the highest safe one; take a lower sparsity"
    return f"the highest safe sparsity is {safe}; take that"


def _cure_of_densities(choice: Choice, gone: str) -> str:
    density = 0.0 if isinstance(choice.scope, str) else choice.scope[gone]
    total = choice.room.counts[gone][1]
    if round(density * total):
        return "what its density keeps is on no path from input to output; raise the densities around it"
    return f"{density:g} of {total:,} weights rounds to none; give {1 / total:.2g} to keep one, 0 to keep none"
