"""Sentences about tables, chosen by their numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations

from pruneinit.paper.entries import Entry

_AXES = ("depth", "sparsity")


def differences(found: Sequence[Entry]) -> list[str]:
    """How far ours are from the paper's, and where most."""
    both = [(entry, entry.difference) for entry in found if entry.difference is not None]
    if not both:
        if any(entry.published is not None for entry in found):
            return [
                "Nothing of ours beside a published number yet: where learning rates are compared, a seed counts once "
                "it has all of them."
            ]
        return ["The paper's numbers of this table are not known to us."]
    middle = statistics.median(value for _, value in both)
    farthest, most = max(both, key=lambda pair: abs(pair[1]))
    return [
        f"Of {len(both)} entries with a published number, ours differ by {middle:+.2f} in the median; "
        f"most at {where(farthest)}: {most:+.2f}."
    ]


def agreement(found: Sequence[Entry]) -> list[str]:
    """How many pairs of rows are in the order that the paper has them in, at the same place."""
    same = together = 0
    for one, other in combinations((entry for entry in found if entry.difference is not None), 2):
        if one.row == other.row or one.published is None or other.published is None or not (one.last and other.last):
            continue
        here = (one.network, one.data, one.axes) == (other.network, other.data, other.axes)
        paper = one.published.accuracy - other.published.accuracy
        if here and paper:
            together += 1
            same += paper * (one.last.mean - other.last.mean) > 0
    if not together:
        return []
    return [f"Of {together} pairs of rows at the same place, {same} are in the order that the paper has them in."]


def best_rows(found: Sequence[Entry]) -> list[str]:
    """The most accurate row at each place, among those with more than one; none where the first ones are equal."""
    said = []
    for network, data in dict.fromkeys((entry.network, entry.data) for entry in found):
        here = [entry for entry in found if (entry.network, entry.data) == (network, data)]
        told = []
        for place in dict.fromkeys(_place(entry) for entry in here):
            rivals = [(one.last.mean, one.row) for one in here if _place(one) == place and one.last is not None]
            if len(rivals) > 1:
                top = max(accuracy for accuracy, _ in rivals)
                ahead = [row for accuracy, row in rivals if accuracy == top]
                # Equal to the last digit are networks that all say one class.
                told.append(f"{ahead[0] if len(ahead) == 1 else 'no single row'} at {place} ({top:.2f} %)")
        if told:
            said.append(f"Best of {network} on {data}: {', '.join(told)}.")
    return said


def where(entry: Entry) -> str:
    """An entry in words."""
    return ", ".join(part for part in (entry.row or "", _place(entry), f"{entry.network} on {entry.data}") if part)


def _place(entry: Entry) -> str:
    return ", ".join(f"{axis} {entry.axes[axis]:g}" for axis in _AXES if axis in entry.axes)
