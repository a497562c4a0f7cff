"""The table of CIFAR-10 and CIFAR-100: residual networks pruned at initialization, and what was known before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pruneinit.paper.drawings import accuracy_lines
from pruneinit.paper.entries import Entry
from pruneinit.paper.order import seed_by_seed
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import agreement, best_rows, differences
from pruneinit.paper.study import Study
from pruneinit.paper.texts import texts

TITLE = texts("cifar")["title"]
_STANDS_FOR = {"resnet20": "resnet32"}
_ROWS = {
    "criteria": ("SBP-SR", "SNIP", "GraSP", "SynFlow", "magnitude", "ERK", "random", "dense"),
    "sanity checks": (
        *("SBP-SR", "SNIP", "SBP-SR, shuffled", "SNIP, shuffled"),
        *("SBP-SR, reinitialized", "SNIP, reinitialized", "SBP-SR, inverted", "SNIP, inverted"),
    ),
}
_FIRST = ("dense", "SNIP", "SBP-SR", "GraSP", "SynFlow")
_BEGIN: dict[str, Sequence[Any]] = {"sparsity": (0.0, 0.95), "seed": (0,)}


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """Accuracy over sparsity for each network and data set; the sanity checks beside it."""
    return accuracy_lines(found, reported, title=TITLE, axis="sparsity", groups=_ROWS, stands_for=_STANDS_FOR)


def sanity(found: Sequence[Entry]) -> list[str]:
    """What spoiling the masks costs, beside the masks as they are."""
    said = []
    by_place = {(e.network, e.data, e.row, e.axes["sparsity"]): e.last.mean for e in found if e.last is not None}
    for row in ("SNIP", "SBP-SR"):
        for way in ("shuffled", "reinitialized", "inverted"):
            pairs = [
                (value, by_place[key])
                for (network, data, name, sparsity), value in by_place.items()
                if name == f"{row}, {way}" and (key := (network, data, row, sparsity)) in by_place
            ]
            if pairs:
                mean = sum(spoilt - whole for spoilt, whole in pairs) / len(pairs)
                said.append(f"{row} {way} is {mean:+.2f} from {row} itself, the mean over {len(pairs)} places.")
    return said


CIFAR = Study(
    **texts("cifar"),
    figure=figure,
    remarks=lambda found: [*differences(found), *agreement(found), *best_rows(found), *sanity(found)],
    order={
        "small": seed_by_seed({"row": _FIRST, **_BEGIN}, _BEGIN),
        "paper": seed_by_seed({"model": ["resnet32"], "data": ["cifar10"], "row": _FIRST}),
    },
    stands_for=_STANDS_FOR,
)
