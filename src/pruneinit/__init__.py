"""Prune before you train, train only what is left, ship only what is left.

The way of a model, each step by itself:

    print(forecast(model, batches))            what every sparsity would do to it
    edge_of_chaos_(model)                      weights with which signals and gradients get through; before training
    stabilize_residuals_(model, example)       residual networks only
    masks = prune(model, Snip(), batches, sparsity=0.9)
    print(diagnose(model, batches, masks))     will it train, and what would help
    rescale_(model, batches, masks=masks)
    sparsify_(model, masks)                    from here on any training loop
    save(model, path), load(path, into=fresh)

`batches` is an iterable of (inputs, labels), as of a DataLoader; a few hundred examples will do. A trailing underscore
changes the model in place and returns it. `pruneinit.meanfield` has the theory.
"""

from __future__ import annotations

# What this file itself imports is imported before a Ctrl-C can be met, so it is next to nothing.
TYPE_CHECKING = False  # true to type checkers
if TYPE_CHECKING:
    from typing import Any

    from pruneinit import meanfield, models
    from pruneinit.criteria import (
        Fisher,
        Force,
        Grasp,
        IterativeSnip,
        Lamp,
        Magnitude,
        NtkSap,
        Obd,
        Phew,
        ProsPr,
        Random,
        SmartRatio,
        Snip,
        SynFlow,
    )
    from pruneinit.diagnosis import Diagnosis, diagnose
    from pruneinit.errors import InputError
    from pruneinit.exact_orthogonal import sparse_orthogonal_
    from pruneinit.forecasting import Forecast, forecast
    from pruneinit.initialize import delta_orthogonal_, edge_of_chaos_, mean_field_, orthogonal_
    from pruneinit.isometry import Isometry, approximate_isometry_, find_isometry, singular_values
    from pruneinit.layouts import register_linear
    from pruneinit.masks import Masks
    from pruneinit.moments import neuron_moments, second_moments
    from pruneinit.pruning import prune, score
    from pruneinit.reach import effective_masks
    from pruneinit.rescale import rescale_
    from pruneinit.residual import Residuals, find_residuals, stabilize_residuals_
    from pruneinit.selection import select
    from pruneinit.storage import load, save
    from pruneinit.survivors import current_masks, densify_, sparsify_
    from pruneinit.weights import Weight, prunable

__version__ = "0.1.0"

# Where each public name lives. They are imported when first asked for, since importing torch takes longer than all that
# `pruneinit --help` has to do. No module may have the name of a public function: importing it would hide the function.
_HOMES = {
    "criteria": (
        "Fisher",
        "Force",
        "Grasp",
        "IterativeSnip",
        "Lamp",
        "Magnitude",
        "NtkSap",
        "Obd",
        "Phew",
        "ProsPr",
        "Random",
        "SmartRatio",
        "Snip",
        "SynFlow",
    ),
    "diagnosis": ("Diagnosis", "diagnose"),
    "errors": ("InputError",),
    "exact_orthogonal": ("sparse_orthogonal_",),
    "forecasting": ("Forecast", "forecast"),
    "initialize": ("delta_orthogonal_", "edge_of_chaos_", "mean_field_", "orthogonal_"),
    "isometry": ("Isometry", "approximate_isometry_", "find_isometry", "singular_values"),
    "layouts": ("register_linear",),
    "masks": ("Masks",),
    "moments": ("neuron_moments", "second_moments"),
    "pruning": ("prune", "score"),
    "reach": ("effective_masks",),
    "rescale": ("rescale_",),
    "residual": ("Residuals", "find_residuals", "stabilize_residuals_"),
    "selection": ("select",),
    "storage": ("load", "save"),
    "survivors": ("current_masks", "densify_", "sparsify_"),
    "weights": ("Weight", "prunable"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Diagnosis",
    "Fisher",
    "Force",
    "Forecast",
    "Grasp",
    "InputError",
    "Isometry",
    "IterativeSnip",
    "Lamp",
    "Magnitude",
    "Masks",
    "NtkSap",
    "Obd",
    "Phew",
    "ProsPr",
    "Random",
    "Residuals",
    "SmartRatio",
    "Snip",
    "SynFlow",
    "Weight",
    "approximate_isometry_",
    "current_masks",
    "delta_orthogonal_",
    "densify_",
    "diagnose",
    "edge_of_chaos_",
    "effective_masks",
    "find_isometry",
    "find_residuals",
    "forecast",
    "load",
    "mean_field_",
    "meanfield",
    "models",
    "neuron_moments",
    "orthogonal_",
    "prunable",
    "prune",
    "register_linear",
    "rescale_",
    "save",
    "score",
    "second_moments",
    "select",
    "singular_values",
    "sparse_orthogonal_",
    "sparsify_",
    "stabilize_residuals_",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name in ("meanfield", "models"):
        return importlib.import_module(f"pruneinit.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'pruneinit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pruneinit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
