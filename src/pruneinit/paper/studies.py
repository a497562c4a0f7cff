"""All studies by name, in the order of the paper, and then our own."""

from __future__ import annotations

from collections.abc import Mapping

from pruneinit.errors import unknown
from pruneinit.paper.cifar import CIFAR
from pruneinit.paper.densities import DENSITIES
from pruneinit.paper.edge import EDGE, EDGE_MNIST, EDGE_VCNN
from pruneinit.paper.edge_cifar import EDGE_CIFAR
from pruneinit.paper.ffnn_grid import FFNN_GRID
from pruneinit.paper.imagenets import IMAGENET, TINY_IMAGENET
from pruneinit.paper.study import Study
from pruneinit.paper.vcnn import VCNN
from pruneinit.paper.vgg import VGG

STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        DENSITIES,
        FFNN_GRID,
        VCNN,
        CIFAR,
        TINY_IMAGENET,
        IMAGENET,
        VGG,
        EDGE,
        EDGE_MNIST,
        EDGE_VCNN,
        EDGE_CIFAR,
    )
}


def study(name: str) -> Study:
    """The study of a name.

    Raises:
        InputError: There is none.

    Example:
        >>> study("cifr")
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: unknown study 'cifr': expected one of ...; did you mean 'cifar'?
    """
    if name not in STUDIES:
        raise unknown("study", name, [*STUDIES, "docs"])
    return STUDIES[name]
