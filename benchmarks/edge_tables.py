"""The tables of docs/edge.md from the committed results of the studies, of the rows and places that are computed.

    python benchmarks/edge_tables.py

Numbers are those of `results/NAME/NAME.csv`: test accuracies in percent after the last epoch, mean and standard
deviation over seeds, at the learning rate of the best mean accuracy on held-out images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence

from documents import PROJECT, parse, put_table

# The name of each table in the document: its study, and what the entries in it have.
TABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "equal widths": ("edge-mnist", {"network": "mlp-100"}),
    "unequal widths": ("edge-mnist", {"network": "mlp-200-50"}),
    "convolutions": ("edge-vcnn", {}),
}
Entry = Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, commit = parse(parser)
    for name, (study, having) in TABLES.items():
        file = PROJECT / "results" / study / f"{study}.csv"
        if not file.is_file():
            continue
        with file.open(newline="") as lines:
            entries = [one for one in csv.DictReader(lines) if all(one[key] == value for key, value in having.items())]
        measured = [one for one in entries if one["last_mean"]]
        if measured:
            header, rows = table(measured)
            put_table("edge.md", header, rows, note(measured), commit, name)


def table(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """A line for each way, a column for each place; ways that are above 80 % at most places come first."""
    places = sorted({place(one) for one in entries}, key=lambda at: (at[0], int(at[1]), float(at[2])))
    by_row: dict[str, dict[tuple[str, str, str], Entry]] = {}
    for one in entries:
        by_row.setdefault(one["row"], {})[place(one)] = one
    order = sorted(by_row, key=lambda row: -sum(float(one["last_mean"]) > 80 for one in by_row[row].values()))
    rows = [[row, *(cell(by_row[row].get(at)) for at in places)] for row in order]
    return [
        "way",
        *(f"{activation}, {depth}, {100 * float(sparsity):g} %" for activation, depth, sparsity in places),
    ], rows


def place(entry: Entry) -> tuple[str, str, str]:
    """Where an entry belongs."""
    return entry["activation"], entry["depth"], entry["sparsity"]


def cell(entry: Entry | None) -> str:
    """An accuracy, with its standard deviation where there are several seeds."""
    if entry is None:
        return "-"
    mean = f"{float(entry['last_mean']):.1f}"
    return f"{mean} ± {float(entry['last_sd']):.1f}" if int(entry["seeds"]) > 1 else f"{mean} (1)"


def note(entries: Sequence[Entry]) -> str:
    """How many seeds there are."""
    seeds = sorted({int(one["seeds"]) for one in entries})
    told = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"Activation, depth, sparsity. Mean ± standard deviation over {told} seeds; (1) is of one seed, - not computed."
    )


if __name__ == "__main__":
    main()
