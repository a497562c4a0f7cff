"""VGG16 and 3xVGG16: plain networks with pooling, where rescaling is all that brings them back to the edge."""

from __future__ import annotations

from collections.abc import Sequence

from pruneinit.paper.drawings import accuracy_lines
from pruneinit.paper.entries import Entry
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import best_rows, differences
from pruneinit.paper.study import Study
from pruneinit.paper.texts import texts

TITLE = texts("vgg")["title"]
_ROWS = {"": ("SNIP", "SynFlow", "EOC + rescaling", "EOC + calibrated")}


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """Accuracy over sparsity, a panel for each network."""
    return accuracy_lines(found, reported, title=TITLE, axis="sparsity", groups=_ROWS)


VGG = Study(
    **texts("vgg"),
    figure=figure,
    remarks=lambda found: differences(found) + best_rows(found),
)
