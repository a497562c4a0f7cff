"""Tiny-ImageNet and ImageNet: the same comparison on larger images."""

from __future__ import annotations

from collections.abc import Sequence

from pruneinit.paper.drawings import accuracy_lines
from pruneinit.paper.entries import Entry
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import best_rows, differences
from pruneinit.paper.study import Study
from pruneinit.paper.texts import texts

_ROWS = {"": ("SBP-SR", "SNIP", "GraSP", "SynFlow", "dense")}


def _study(name: str) -> Study:
    told = texts(name)

    def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
        return accuracy_lines(found, reported, title=told["title"], axis="sparsity", groups=_ROWS)

    return Study(**told, figure=figure, remarks=lambda found: differences(found) + best_rows(found))


TINY_IMAGENET = _study("tiny-imagenet")
IMAGENET = _study("imagenet")
