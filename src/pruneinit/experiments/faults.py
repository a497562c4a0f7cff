"""All that is wrong with many recipes, found before any of them is carried out, and told in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from pruneinit.data import Dataset, load
from pruneinit.errors import InputError
from pruneinit.experiments.prepare import held_out, network, stabilize_
from pruneinit.experiments.recipe import Recipe

_SHOWN = 10


class Faults:
    """Collects faults, each once with the first place where it was met and how many there are.

    Example:
        >>> faults = Faults()
        >>> faults.add("depth=5", ["no such model"])
        >>> faults.add("depth=9", ["no such model"])
        >>> faults.refuse()
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: no such model (in depth=5 and 1 more)
    """

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def add(self, place: str, faults: Sequence[str]) -> None:
        """Note what is wrong at a place; the empty place is everywhere."""
        for fault in faults:
            self.found.setdefault(fault, []).append(place)

    def refuse(self) -> None:
        """Raise InputError with all that was found, or do nothing."""
        if not self.found:
            return
        told = [fault + _where(places) for fault, places in self.found.items()]
        if len(told) == 1:
            raise InputError(told[0])
        listed = [f"({number}) {fault}" for number, fault in enumerate(told[:_SHOWN], start=1)]
        more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise InputError(f"{len(told)} faults: {'; '.join(listed)}{more}")


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe with those of its training under dotted names.

    Example:
        >>> flat({"depth": 5, "training": {"lr": 0.1}})
        {'depth': 5, 'training.lr': 0.1}
    """
    inner = settings.get("training")
    rest = {str(name): value for name, value in settings.items()}
    if isinstance(inner, Mapping):
        rest = {name: value for name, value in rest.items() if name != "training"}
        rest |= {f"training.{name}": value for name, value in inner.items()}
    return rest


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of `flat`."""
    values: dict[str, Any] = {n: v for n, v in settings.items() if not n.startswith("training.")}
    inner = {n.removeprefix("training."): v for n, v in settings.items() if n.startswith("training.")}
    return values | ({"training": inner} if inner else {})


def of_settings(settings: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the flat settings of one recipe, not only what is met first.

    Example:
        >>> of_settings({"sparsity": 98, "training.epochs": 0, "model": "mlp"})
        ['epochs must be a whole number, 1 or more, got 0', 'sparsity must be in [0, 1), got 98; did you mean 0.98?']
    """
    left, faults, removed = dict(settings), [], set[str]()
    while (fault := _fault(left)) is not None:
        # What only says that a removed setting is lacking is no fault of the recipe.
        if not any(re.search(rf"\b{re.escape(name)}\b", fault) for name in removed):
            faults.append(fault)
        after = {name: _fault({n: v for n, v in left.items() if n != name}) for name in left}
        culprit = next(
            (n for n, f in after.items() if f is None), next((n for n, f in after.items() if f != fault), "")
        )
        if not culprit:
            break
        del left[culprit]
        removed.add(culprit.removeprefix("training."))
    return faults


def refuse_impossible(recipes: Mapping[str, Recipe], data_root: str | None) -> None:
    """Load the data and build the networks of recipes once each, without training, to see that all can be carried out.

    Args:
        recipes: By the place that is named where one cannot.
        data_root: Where data sets are.

    Raises:
        InputError: Data are missing, or a network cannot be built; all faults in one line.
    """
    faults, seen = Faults(), set[Recipe]()
    loaded = cache(lambda name: _loaded(name, data_root))
    for place, recipe in recipes.items():
        kind = _network_alone(recipe)
        if kind in seen:
            continue
        seen.add(kind)
        dataset = loaded(recipe.data)
        if isinstance(dataset, str):
            faults.add("", [dataset] if dataset not in faults.found else [])
            continue
        try:
            held_out(recipe, dataset)
            model = network(recipe, dataset)
            if recipe.residuals == "stable":
                stabilize_(model, torch.zeros(1, *dataset.shape), recipe.model)
        except InputError as error:
            faults.add(place, [str(error)])
    faults.refuse()


def _network_alone(recipe: Recipe) -> Recipe:
    """The recipe with what does not decide whether its network can be built as if it was the same in all."""
    names = ("data", "validation", "train_images", "model", "depth", "width", "activation", "init", "sigma_b",
             "mirrored", "residuals")  # fmt: skip
    sigma_w = 1.0 if recipe.init == "gaussian" else None
    # Nothing pruned, by what goes with all of them.
    return Recipe(
        sigma_w=sigma_w, criterion="magnitude", sparsity=0.0, **{name: getattr(recipe, name) for name in names}
    )


def _loaded(name: str, data_root: str | None) -> Dataset | str:
    try:
        return load(name, data_root)
    except InputError as error:
        return str(error)


def _fault(settings: Mapping[str, Any]) -> str | None:
    try:
        Recipe.from_mapping(nested(settings))
    except InputError as error:
        return str(error)
    return None


def _where(places: Sequence[str]) -> str:
    if not places[0]:
        return ""
    return f" (in {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''})"
