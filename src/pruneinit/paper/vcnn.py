"""The table of V-CNNs: convolutions without pooling, deeper and deeper, at 50 % sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from pruneinit.paper.drawings import accuracy_lines
from pruneinit.paper.entries import Entry
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import agreement, differences
from pruneinit.paper.study import Study
from pruneinit.paper.texts import texts

TITLE = texts("vcnn")["title"]
_STANDS_FOR = {"vcnn-2": "vcnn"}
_ROWS = {"": ("ordered", "edge", "edge, rescaled", "edge, calibrated")}


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """Accuracy over depth, ours and the paper's."""
    return accuracy_lines(found, reported, title=TITLE, axis="depth", groups=_ROWS, stands_for=_STANDS_FOR)


VCNN = Study(
    **texts("vcnn"),
    figure=figure,
    remarks=lambda found: differences(found) + agreement(found),
    stands_for=_STANDS_FOR,
)
