"""Which way of pruning trains convolutional networks on CIFAR-10, with normalisation and shortcuts and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pruneinit.paper.drawings import row_maps
from pruneinit.paper.entries import Entry
from pruneinit.paper.order import seed_by_seed
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import best_rows
from pruneinit.paper.study import Study
from pruneinit.paper.texts import texts

TITLE = texts("edge-cifar")["title"]


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """Accuracy of each row and sparsity, a map for each network."""
    return row_maps(found, title=TITLE, places=("sparsity",), by=("model",), columns=2)


_PLAIN: dict[str, Sequence[Any]] = {"model": ("vgg16",), "sparsity": (0.98,)}
_DEEPER: dict[str, Sequence[Any]] = {"model": ("3xvgg16",), "sparsity": (0.98,)}
_RESIDUAL: dict[str, Sequence[Any]] = {
    "model": ("resnet20",),
    "sparsity": (0.99, 0.9),
    "row": (
        "SBP",
        "SBP-SR",
        "SBP, 20 rounds, SR",
        "SBP, 20 rounds",
        "synflow",
        "random ERK",
        "magnitude",
        "sparse orthogonal, ERK, SR",
    ),
}
_NORMALISED: dict[str, Sequence[Any]] = {
    "model": ("vgg16_bn",),
    "sparsity": (0.99, 0.9),
    "row": ("SBP", "SBP, 20 rounds", "random ERK", "magnitude"),
}
_PARTS = (_PLAIN, _DEEPER, _RESIDUAL, _NORMALISED)
# What is nearest to each other needs seeds first.
_NEAREST = {
    "row": (
        "sparse orthogonal, shares of SBP, layer",
        "sparse orthogonal, ends, layer",
        "magnitude ends, layer",
        "sparse orthogonal, ERK, layer",
        "magnitude ERK, layer",
        "SBP, neuron",
        "SBP, 20 rounds by neuron",
        "random ERK, layer",
        "sparse orthogonal, uniform+, layer",
        "magnitude uniform+, layer",
    )
}
_ONE_SEED, _THREE_SEEDS = {"seed": (0,)}, {"seed": (0, 1, 2)}
EDGE_CIFAR = Study(
    **texts("edge-cifar"),
    figure=figure,
    remarks=best_rows,
    beside=4,  # learning rates
    order={
        "small": seed_by_seed(
            *(part | _ONE_SEED for part in _PARTS[:3]),
            _PLAIN,
            _DEEPER | _NEAREST | _THREE_SEEDS,
            _RESIDUAL | _THREE_SEEDS,
            _NORMALISED | _THREE_SEEDS,
            *_PARTS,
        )
    },
)
