"""The tables of docs/edge.md from the committed results of the studies, of the rows and places that are computed.

    python benchmarks/edge_tables.py

Numbers are those of `results/NAME/NAME.csv`: test accuracies in percent after the last epoch, mean and standard
deviation over seeds, at the learning rate of the best mean accuracy on held-out images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence

import choices
import numpy as np
from documents import PROJECT, parse, put_table

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.paper import study
from pruneinit.paper.edge import TRAINS
from pruneinit.paper.predict import balanced_accuracy, networks
from pruneinit.verdicts import LEARNS, LOST, expected

RULE = (
    f"A network is told to train where at least {100 * LEARNS:.0f} % of the labels can be learnt and the gradient's "
    f"square grows by no more than {LOST:.0f} on its way back. It trains if its test accuracy is above {TRAINS:.0f} %."
)

STUDIES = ("edge", "edge-mnist")
# The name of each table in the document: its study, and what the entries in it have.
TABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "equal widths": ("edge-mnist", {"network": "mlp-100"}),
    "unequal widths": ("edge-mnist", {"network": "mlp-200-50"}),
}
Entry = Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, commit = parse(parser)
    for name, (source, having) in TABLES.items():
        file = PROJECT / "results" / source / f"{source}.csv"
        with file.open(newline="") as lines:
            entries = [one for one in csv.DictReader(lines) if all(one[key] == value for key, value in having.items())]
        measured = [one for one in entries if one["last_mean"]]
        if measured:
            header, rows = table(measured)
            put_table("edge.md", header, rows, note(measured), commit, name)
    grids = {name: study(name).grid("small") for name in STUDIES}
    results = {name: results_of(name) for name in STUDIES}
    every = {cell: one for own in results.values() for cell, one in own.items()}
    put_table("edge.md", choices.HEADER, choices.worth([*grids.values()], every), choices.NOTE, commit, "choices")
    rows = [row for name in STUDIES for row in judged(grids[name], results[name])]
    put_table("edge.md", ("networks", "measured", "train", "told right, balanced"), rows, RULE, commit, "expectation")


def results_of(name: str) -> dict[str, Result]:
    """The committed results of a study, by the hash of the cell."""
    with (PROJECT / "results" / name / "cells.jsonl").open() as file:
        return {one.cell: one for line in file if (one := Result.from_json(line)) is not None}


def judged(grid: Grid, results: Mapping[str, Result]) -> list[list[str]]:
    """How well the rule of `diagnose` tells which networks of a grid train, a line for each kind."""
    lines = []
    cells = grid.cells()
    for model in sorted({cell.recipe.model for cell in cells}):
        own = [cell for cell in cells if cell.recipe.model == model]
        found = [one for one in networks(own, grid.choose, results) if one.measured.get("learnable") is not None]
        truth = np.array([one.accuracy > TRAINS for one in found])
        said = np.array([expected(one.measured["learnable"] or 0.0, one.measured["gradient"]) for one in found])
        right = balanced_accuracy(truth, said)
        told = "-" if right is None else f"{100 * right:.1f} %"
        lines.append([f"{model}, {cells[0].recipe.data}", f"{len(found):,}", f"{int(truth.sum()):,}", told])
    return lines


def table(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """A line for each way, a column for each place; ways that are above 80 % at most places come first."""
    places = sorted({place(one) for one in entries}, key=lambda at: (at[0], int(at[1]), float(at[2])))
    by_row: dict[str, dict[tuple[str, str, str], Entry]] = {}
    for one in entries:
        by_row.setdefault(one["row"], {})[place(one)] = one
    order = sorted(by_row, key=lambda row: -sum(float(one["last_mean"]) > TRAINS for one in by_row[row].values()))
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
