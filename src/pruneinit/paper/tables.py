"""The entries of a study as Markdown tables and as rows of a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pruneinit.experiments.sweep import Standing
from pruneinit.paper.entries import Entry, Spread
from pruneinit.paper.published import Reported
from pruneinit.report.words import NOTHING, several

COLUMNS = (
    *("study", "scale", "row", "data", "network", "activation", "depth", "sparsity", "chosen_lr"),
    *("seeds", "planned_seeds", "last_mean", "last_sd", "best_mean", "best_sd"),
    *("published", "published_sd", "difference"),
)
_HEADER = ("published", "ours, last epoch", "ours, best epoch", "difference", "seeds")


def spread(value: Spread | None) -> str:
    """A mean with its standard deviation.

    Example:
        >>> spread(Spread(91.234, 0.456)), spread(Spread(91.2, None)), spread(None)
        ('91.23 ± 0.46', '91.20', '–')
    """
    if value is None:
        return NOTHING
    return f"{value.mean:.2f}" + ("" if value.sd is None else f" ± {value.sd:.2f}")


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table; all columns but the first `left` are set to the right.

    Example:
        >>> print(markdown(["row", "accuracy"], [["SNIP", "92.6"]]))
        | row | accuracy |
        | --- | ---: |
        | SNIP | 92.6 |
    """
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def unmeasured(reported: Iterable[Reported], found: Iterable[Entry]) -> list[Reported]:
    """What the paper reports and the grid has no entry for."""
    beside = {entry.published for entry in found}
    return [one for one in reported if one not in beside]


def entry_table(found: Sequence[Entry], rest: Sequence[Reported] = ()) -> str:
    """A line for each entry, ours beside the paper's; a table for each data set and network, the axes as they are.

    Entries of which there is no number yet, neither ours nor the paper's, are counted below their table.
    """
    parts = []
    for (data, network), members in _by_network(found).items():
        axes = [axis for axis in members[0].axes if axis not in ("data", "model")]
        lines = [
            [entry.row or NOTHING, *(f"{entry.axes[axis]:g}" if isinstance(entry.axes[axis], (int, float)) else
             str(entry.axes[axis]) for axis in axes), *_numbers(entry)]
            for entry in members
            if entry.last is not None or entry.published is not None
        ]  # fmt: skip
        table = markdown(["row", *axes, *_HEADER], lines) if lines else ""
        parts += [f"{network} on {data}:", *_told(table, len(members) - len(lines))]
    if rest:
        lines = [[one.row, one.network, one.data, f"{one.axis} {one.value:g}", f"{one.accuracy:.2f}"] for one in rest]
        header = ["row", "network", "data", "at", "published"]
        parts.append("Reported by the paper, and not in this grid:\n\n" + markdown(header, lines, left=4))
    return "\n\n".join(parts)


def pivot(found: Sequence[Entry], across: str, down: str) -> str:
    """One table with a column for each value of an axis, and a line for each row and value of another.

    The means after the last epoch, with their standard deviations. Lines without any are counted below the table.
    """
    values = list(dict.fromkeys(entry.axes[across] for entry in found))
    places: dict[tuple[str, Any], dict[Any, str]] = {}
    for entry in found:
        places.setdefault((entry.row or NOTHING, entry.axes[down]), {})[entry.axes[across]] = spread(entry.last)
    lines = [
        [row, f"{at:g}", *(line.get(v, NOTHING) for v in values)]
        for (row, at), line in places.items()
        if set(line.values()) != {NOTHING}
    ]
    table = markdown(["row", down, *(f"{across} {value:g}" for value in values)], lines) if lines else ""
    return "\n\n".join(_told(table, len(places) - len(lines)))


def _told(table: str, missing: int) -> list[str]:
    """A table, unless it is empty, and how many lines it does not have."""
    return [*([table] if table else []), *([f"Not computed yet: {several(missing, 'line')}."] if missing else [])]


def csv_rows(study: str, scale: str, found: Iterable[Entry], rest: Iterable[Reported]) -> list[dict[str, Any]]:
    """A row for each entry, and for each number of the paper that has none; axes of the grid alone come last."""
    rows = []
    for entry in found:
        values = dict.fromkeys(COLUMNS, None) | {"study": study, "scale": scale, "row": entry.row}
        values |= {axis: value for axis, value in entry.axes.items() if axis != "model"}
        values |= {"data": entry.data, "network": entry.network, "chosen_lr": entry.chosen}
        values |= {"seeds": entry.seeds, "planned_seeds": entry.planned, "difference": _rounded(entry.difference)}
        for name, one in (("last", entry.last), ("best", entry.best)):
            if one is not None:
                values |= {f"{name}_mean": _rounded(one.mean), f"{name}_sd": _rounded(one.sd)}
        if entry.published is not None:
            values |= {"published": entry.published.accuracy, "published_sd": entry.published.sd}
        rows.append(values)
    for number in rest:
        values = dict.fromkeys(COLUMNS, None) | {"study": study, "scale": scale, "row": number.row}
        values |= {"data": number.data, "network": number.network, number.axis: number.value, "seeds": 0}
        rows.append(values | {"published": number.accuracy, "published_sd": number.sd})
    return rows


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the text of a CSV file; what is None is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def progress_of(now: Standing) -> list[str]:
    """How far a grid is, and what computed it, a sentence each."""
    said = [f"{len(now.done):,} of {several(len(now.cells), 'cell')} are done, {len(now.failed):,} failed."]
    if now.left_out:
        said.append(f"{several(now.left_out, 'result')} of other versions, or altered ones, are left out.")
    said += [f"{several(count, 'cell')} computed by {version}." for version, count in now.versions.items()]
    if len(now.versions) > 1:
        said.append("Results of several versions of the code are together here: compare them with care.")
    return said


def _by_network(found: Iterable[Entry]) -> dict[tuple[str, str], list[Entry]]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in found:
        groups.setdefault((entry.data, entry.network), []).append(entry)
    return groups


def _numbers(entry: Entry) -> list[str]:
    reported = NOTHING
    if entry.published is not None:
        reported = spread(Spread(entry.published.accuracy, entry.published.sd))
    difference = NOTHING if entry.difference is None else f"{entry.difference:+.2f}"
    return [reported, spread(entry.last), spread(entry.best), difference, f"{entry.seeds} of {entry.planned}"]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
