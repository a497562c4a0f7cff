"""What the recipes of several runs say: where they differ, and what was done to a network, in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pruneinit.report.words import NOTHING

_SHARED = "sparse_orthogonal by another criterion"
_INIT = {
    "default": (
        "The weights are drawn as PyTorch draws them when a layer is made (Kaiming-uniform with a = √5), whatever the "
        "activation and however deep the network"
    ),
    "edge": (
        "The weights are drawn from a normal distribution with the one spread, for this activation, at which neither "
        "signals nor gradients fade or blow up from layer to layer"
    ),
    "gaussian": "The weights are drawn from a normal distribution whose spread was chosen by hand",
    "orthogonal": "The weights are random rotations, scaled to the Edge of Chaos",
    "delta_orthogonal": "The kernels are random rotations in their middle and zero around it, on the Edge of Chaos",
    "sparse_orthogonal": (
        "The weights are rotations most of whose entries are zero, which is what pruning removes, at the scale that "
        "keeps every signal as it is"
    ),
    _SHARED: (
        "The weights are rotations most of whose entries are zero, as many in each layer as pruning removes there from "
        "rotations without zeros, at the scale that keeps every signal as it is"
    ),
}
_RESIDUALS = {
    "stable": (
        "each residual branch is divided by the square root of the number of branches, so that the signal does not "
        "grow from block to block (Stable ResNet)"
    ),
}
_RESCALE = {
    "layer": (
        "after pruning, what is left of each layer is multiplied by one number, which brings its signal back to the "
        "strength it had before"
    ),
    "neuron": (
        "after pruning, what is left of each neuron is multiplied by one number, which brings its signal back to the "
        "strength that its layer had before"
    ),
    "formula": "after pruning, what is left of each layer is multiplied by one number, by the paper's formula",
    "tap": "after pruning, what is left at each place of a kernel is multiplied by one number, by the paper's formula",
}


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str, str]]:
    """Nested settings as rows of (enclosing names with a dot behind each, last name, value).

    Example:
        >>> flatten({"model": {"depth": 3, "act": "tanh"}, "seed": 0, "include": None})
        [('model.', 'depth', '3'), ('model.', 'act', 'tanh'), ('', 'seed', '0'), ('', 'include', 'none')]
    """
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((prefix, str(key), _setting(value)))
    return rows


def differences(recipes: Sequence[Mapping[str, Any]], apart_from: Sequence[str] = ()) -> list[list[tuple[str, str]]]:
    """For each recipe the names and values of the settings in which not all of them agree.

    Args:
        recipes: Nested settings.
        apart_from: Names that are left out.

    Example:
        >>> differences([{"seed": 0, "training": {"lr": 0.1}}, {"seed": 0, "training": {"lr": 0.2}}])
        [[('training.lr', '0.1')], [('training.lr', '0.2')]]
    """
    flat = [{prefix + key: value for prefix, key, value in flatten(recipe)} for recipe in recipes]
    names = dict.fromkeys(name for one in flat for name in one if name not in apart_from)
    varying = [name for name in names if len({one.get(name) for one in flat}) > 1]
    return [[(name, one.get(name, NOTHING)) for name in varying] for one in flat]


def ways(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each recipe a sentence about how its network was initialised and treated; empty if it does not say.

    Example:
        >>> ways([{"init": "edge"}, {"init": "edge", "rescale": "formula"}])[1]
        "The same, and after pruning, what is left of each layer is multiplied by one number, by the paper's formula."
    """
    sentences = []
    before: list[str] = []
    for recipe in recipes:
        treated = dict(recipe) if str(recipe.get("init")) in _INIT else {}
        if treated.get("init") == "sparse_orthogonal" and treated.get("criterion", "magnitude") != "magnitude":
            treated["init"] = _SHARED
        parts = [
            words[str(treated.get(key))]
            for key, words in (("init", _INIT), ("residuals", _RESIDUALS), ("rescale", _RESCALE))
            if str(treated.get(key)) in words
        ]
        more = parts[len(before) :] if before and parts[: len(before)] == before else []
        told = ["The same", *more] if more else parts
        sentences.append(", and ".join(told) + "." if parts else "")
        before = parts
    return sentences


def _setting(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False, default=str)
