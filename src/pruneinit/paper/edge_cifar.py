"""Which way of pruning trains convolutional networks on CIFAR-10, with normalisation and shortcuts and without."""

from __future__ import annotations

from collections.abc import Sequence

from pruneinit.paper.drawings import accuracy_lines
from pruneinit.paper.entries import Entry
from pruneinit.paper.order import seed_by_seed
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import best_rows
from pruneinit.paper.study import Study
from pruneinit.paper.texts import texts

TITLE = texts("edge-cifar")["title"]
_ROWS = {
    "as published": ("SBP", "SBP-SR", "synflow", "grasp", "force", "random ERK", "magnitude"),
    "rescaled": (
        "sparse orthogonal, ERK, layer",
        "SBP, layer",
        "synflow, layer",
        "grasp, layer",
        "force, layer",
        "random ERK, layer",
        "magnitude, layer",
        "magnitude ERK, layer",
    ),
    "other ways": (
        "sparse orthogonal, layer",
        "SBP, neuron",
        "SBP, 20 rounds by neuron",
        "SBP, 20 rounds, SR",
        "sparse orthogonal, ERK, SR",
    ),
}


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """Accuracy over sparsity, a line of panels for each network."""
    return accuracy_lines(found, reported, title=TITLE, axis="sparsity", groups=_ROWS)


EDGE_CIFAR = Study(**texts("edge-cifar"), figure=figure, remarks=best_rows, order={"small": seed_by_seed()})
