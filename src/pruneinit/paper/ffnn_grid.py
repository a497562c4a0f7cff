"""Figure 2: how deep and how sparse a fully connected network still trains."""

from __future__ import annotations

from collections.abc import Sequence

from pruneinit.paper.drawings import accuracy_maps
from pruneinit.paper.entries import Entry
from pruneinit.paper.published import Reported
from pruneinit.paper.study import Study
from pruneinit.paper.tables import markdown, pivot
from pruneinit.paper.texts import texts
from pruneinit.report.words import NOTHING

TITLE = texts("ffnn-grid")["title"]
_LEARNS = 50.0
_ROWS = {
    criterion: tuple(f"{way}, {criterion}{end}" for way, end in
                     (("ordered", ""), ("edge", ""), ("edge", ", rescaled"), ("edge", ", calibrated")))
    for criterion in ("SBP", "MBP")
} | {"ours": ("sparse orthogonal",)}  # fmt: skip


def figure(found: Sequence[Entry], reported: Sequence[Reported]) -> str:
    """A map of depth and sparsity for each row and activation."""
    return accuracy_maps(found, title=TITLE, x="sparsity", y="depth", lines=_ROWS, by="activation")


def table(found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
    """Every mean: a table for each activation."""
    parts = []
    for activation in dict.fromkeys(entry.axes["activation"] for entry in found):
        here = [entry for entry in found if entry.axes["activation"] == activation]
        parts.append(f"{activation}, ours, last epoch:\n\n" + pivot(here, across="sparsity", down="depth"))
    return "\n\n".join([summary(found), *parts])


def summary(found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
    """For each row and activation how many of the measured places learn, and how accurate they are."""
    lines = []
    for row, activation in dict.fromkeys((entry.row, entry.axes["activation"]) for entry in found):
        here = [e for e in found if (e.row, e.axes["activation"]) == (row, activation)]
        means = [entry.last.mean for entry in here if entry.last is not None]
        learning = [e for e in here if e.last is not None and e.last.mean > _LEARNS]
        deepest = max(learning, key=lambda e: (e.axes["depth"], e.axes["sparsity"]), default=None)
        lines.append(
            [
                row or NOTHING,
                str(activation),
                f"{len(learning)} of {len(means)}",
                f"{sum(means) / len(means):.1f}" if means else NOTHING,
                f"depth {deepest.axes['depth']}, sparsity {deepest.axes['sparsity']:g}" if deepest else NOTHING,
            ]
        )
    header = ["row", "activation", "places above 50 %", "mean accuracy", "deepest of these, at its highest sparsity"]
    return markdown(header, lines, left=2)


def remarks(found: Sequence[Entry]) -> list[str]:
    """Where the rows of a criterion learn, of the places that all of them have."""
    said = []
    for criterion, rows in _ROWS.items():
        for activation in dict.fromkeys(entry.axes["activation"] for entry in found):
            places = [
                {(e.axes["depth"], e.axes["sparsity"]): e.last.mean for e in found
                 if e.row == row and e.axes["activation"] == activation and e.last is not None}
                for row in rows
            ]  # fmt: skip
            common = set.intersection(*(set(place) for place in places))
            if common:
                counts = [sum(place[at] > _LEARNS for at in common) for place in places]
                told = ", ".join(f"{count} {row!r}" for count, row in zip(counts, rows, strict=True))
                said.append(
                    f"{activation}, {criterion}: of {len(common)} places that all rows have, these learn: {told}."
                )
    return said


FFNN_GRID = Study(
    **texts("ffnn-grid"),
    figure=figure,
    table=table,
    summary=summary,
    remarks=remarks,
    beside=9,  # three networks at three learning rates each, so that no bundle ends amid an entry
)
