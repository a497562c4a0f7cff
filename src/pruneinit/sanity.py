"""Sanity checks of a criterion: pruning that spoils one thing which a good criterion should need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pruneinit.errors import check_seed, unknown
from pruneinit.masks import Masks
from pruneinit.reparametrize import require_ours, stored
from pruneinit.seeds import derived
from pruneinit.selection import Scores

Sanity = Literal["shuffle", "reinitialize", "invert"]


def check_sanity(sanity: str | None, seed: int) -> None:
    """See that there is such a check, and that the seed is a whole number.

    Raises:
        InputError: It is not so.

    Example:
        >>> check_sanity("shufle", 0)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: unknown sanity check 'shufle': expected one of ...; did you mean 'shuffle'?
    """
    if sanity is not None and sanity not in get_args(Sanity):
        raise unknown("sanity check", str(sanity), get_args(Sanity))
    check_seed(seed)


def shuffled(masks: Masks, within: Masks, seed: int) -> Masks:
    """Masks of the same counts, in random places of each weight.

    Args:
        masks: Masks of some weights.
        within: What can be kept of each of them.
        seed: The same one gives the same places.

    Example:
        >>> whole = Masks({"w": torch.ones(2, 50).bool()})
        >>> masks = Masks({"w": torch.arange(100).view(2, 50) < 30})
        >>> found = shuffled(masks, whole, seed=0)
        >>> found.kept, found == masks, found == shuffled(masks, whole, seed=0)
        (30, False, True)
    """
    found = {}
    for name, mask in masks.items():
        places = within[name].reshape(-1).nonzero().reshape(-1).cpu()
        chosen = places[_permutation("shuffled mask", name, len(places), seed)[: masks.counts[name][0]]]
        flat = torch.zeros(mask.numel(), dtype=torch.bool)
        flat[chosen] = True
        found[name] = flat.view(mask.shape).to(mask.device)
    return Masks(found)


def inverted(scores: Scores) -> dict[str, Tensor]:
    """Scores by which the lowest are kept in place of the largest.

    Example:
        >>> inverted({"w": torch.tensor([1.0, -2.0])})
        {'w': tensor([-1.,  2.])}
    """
    return {name: -score for name, score in scores.items()}


def reinitialized(model: nn.Module, names: Iterable[str], seed: int) -> dict[str, Tensor]:
    """New values for the stored parameters of some weights: their own, each weight's in a random order.

    A stored parameter is the dense tensor, or the survivors of a sparsified weight; fixed factors (of rescaling, of a
    residual branch) stay outside, where they are.

    Args:
        model: Any module; not changed.
        names: Names of weights.
        seed: The same one gives the same order.

    Raises:
        InputError: A weight carries a parametrisation of another library, so that its values are not its parameter's.

    Example:
        >>> model = nn.Linear(3, 4)
        >>> values = reinitialized(model, ["weight"], seed=0)["weight"]
        >>> torch.equal(values, model.weight), torch.equal(values.sort().values, model.weight.sort().values)
        (False, False)
        >>> torch.equal(values.flatten().sort().values, model.weight.flatten().sort().values)
        True
    """
    names = list(names)
    require_ours(model, names)
    found = {}
    for name in names:
        values = stored(model, name).detach()
        order = _permutation("reinitialized weight", name, values.numel(), seed)
        found[name] = values.reshape(-1)[order.to(values.device)].view(values.shape)
    return found


def _permutation(use: str, name: str, size: int, seed: int) -> Tensor:
    # Drawn on the CPU and for each weight by itself, so that it depends on no device and no other weight.
    return torch.randperm(size, generator=torch.Generator().manual_seed(derived(use, name, seed)))
