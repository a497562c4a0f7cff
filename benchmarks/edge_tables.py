"""The tables of docs/edge.md from the committed results of the studies, of the rows and places that are computed.

    python benchmarks/edge_tables.py

Numbers are those of `results/NAME/NAME.csv`: test accuracies in percent after the last epoch, mean and standard
deviation over seeds, at the learning rate of the best mean accuracy on held-out images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import choices
import numpy as np
from documents import PROJECT, parse, put_table

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.sweep import read
from pruneinit.paper import study
from pruneinit.paper.edge import TRAINS
from pruneinit.paper.predict import balanced_accuracy, networks
from pruneinit.verdicts import LEARNS, LOST, expected

RULE = (
    f"A network is told to train where at least {100 * LEARNS:.0f} % of the labels can be learnt and the gradient's "
    f"square grows by no more than {LOST:.0f} on its way back. It trains if its test accuracy is above {TRAINS:.0f} %. "
    "*Told right* is the mean of two shares: of those that train, and of those that do not. *Rescaled ones* leaves out "
    "what is easily told: networks without rescaling, and sparse orthogonal ones."
)

HEADER = ("networks", "measured", "train", "told right", "rescaled ones", "train", "told right")
STUDIES = ("edge", "edge-mnist")


@dataclass(frozen=True)
class Table:
    """One table of accuracies of the document.

    Attributes:
        study: Where its numbers are.
        having: What its entries have.
        axes: What tells its columns apart.
        most: How many rows it has, the best; None for all above chance.
    """

    study: str
    having: Mapping[str, str]
    axes: Sequence[str]
    most: int | None = None


def _digits(activation: str) -> Table:
    return Table("edge", {"activation": activation, "sparsity": "0.98 0.99"}, ("depth", "sparsity"), most=8)


def _connected(network: str, activation: str) -> Table:
    return Table("edge-mnist", {"network": network, "activation": activation}, ("depth", "sparsity"))


TABLES = {
    "equal widths, relu": _connected("mlp-100", "relu"),
    "equal widths, tanh": _connected("mlp-100", "tanh"),
    "unequal widths, relu": _connected("mlp-200-50", "relu"),
    "unequal widths, tanh": _connected("mlp-200-50", "tanh"),
    "digits, relu": _digits("relu"),
    "digits, tanh": _digits("tanh"),
    "vcnn, relu": Table("edge-vcnn", {"activation": "relu"}, ("depth", "sparsity")),
    "vcnn, tanh": Table("edge-vcnn", {"activation": "tanh"}, ("depth", "sparsity")),
    "plain on cifar": Table("edge-cifar", {"network": "vgg16 3xvgg16"}, ("network", "sparsity")),
    "normalised on cifar": Table("edge-cifar", {"network": "resnet20 vgg16_bn"}, ("network", "sparsity")),
}


@dataclass(frozen=True)
class Place:
    """A column of the table of how weights are shared out among sparse orthogonal layers.

    Attributes:
        title: Of the column.
        study: Where its numbers are.
        having: What its entries have.
        rows: The row of the study for each rule; where two rules give the same, both name one.
    """

    title: str
    study: str
    having: Mapping[str, str]
    rows: Mapping[str, str]


_OURS = "sparse orthogonal"
_BY_DATA = "SBP in 20 rounds"
_ON_DIGITS = {
    "layer": _OURS,
    "uniform+": f"{_OURS}, uniform+",
    "ERK": f"{_OURS}, ERK+",
    "ERK+": f"{_OURS}, ERK+",
    "ends": f"{_OURS}, ends",
    _BY_DATA: f"{_OURS}, shares of snip",
}
_ON_MNIST = {
    "layer": _OURS,
    "ERK": f"{_OURS}, ERK",
    "ERK+": f"{_OURS}, ERK+",
    "ends": f"{_OURS}, ends",
    _BY_DATA: f"{_OURS}, shares of SBP",
}
_ON_VCNN = {
    "layer": _OURS,
    "ERK": f"{_OURS}, ERK+",
    "ERK+": f"{_OURS}, ERK+",
    "IGQ": f"{_OURS}, IGQ",
    "ends": f"{_OURS}, ends",
    _BY_DATA: f"{_OURS}, shares of SBP",
}
_ON_VGG = {
    "layer": f"{_OURS}, layer",
    "uniform+": f"{_OURS}, uniform+, layer",
    "ERK": f"{_OURS}, ERK, layer",
    "ERK+": f"{_OURS}, ERK, layer",
    "ends": f"{_OURS}, ends, layer",
    _BY_DATA: f"{_OURS}, shares of SBP, layer",
}


def _both(title: str, study: str, rows: Mapping[str, str], **having: str) -> list[Place]:
    """A place for each activation."""
    names = {"tanh": "tanh", "relu": "ReLU"}
    return [Place(title.format(names[one]), study, {"activation": one, **having}, rows) for one in names]


PLACES = (
    *_both("digits, {}, depth 30, 99 %", "edge", _ON_DIGITS, depth="30", sparsity="0.99"),
    *_both("digits, {}, depth 100, 99 %", "edge", _ON_DIGITS, depth="100", sparsity="0.99"),
    *_both(
        "200 and 50, {}, depth 50, 95 %", "edge-mnist", _ON_MNIST, network="mlp-200-50", depth="50", sparsity="0.95"
    ),
    *_both("V-CNN, {}, depth 10, 95 %", "edge-vcnn", _ON_VCNN, depth="10", sparsity="0.95"),
    *_both("V-CNN, {}, depth 100, 95 %", "edge-vcnn", _ON_VCNN, depth="100", sparsity="0.95"),
    Place("VGG16, 98 %", "edge-cifar", {"network": "vgg16", "sparsity": "0.98"}, _ON_VGG),
)
SHARED = (
    "Test accuracy in percent, mean ± standard deviation over the seeds of each study; (1) is of one seed, - not "
    "computed, ↓ and ↑ at the lowest and the highest of the learning rates. ERK and ERK+ are the same on digits and on "
    "convolutions: there ERK gives the first layer more than the others."
)
CHANCE = 12.0
"""An accuracy below it, in percent, is no better than saying one class."""
Entry = Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, commit = parse(parser)
    for name, one in TABLES.items():
        file = PROJECT / "results" / one.study / f"{one.study}.csv"
        if measured := entries(file, one.having):
            header, rows = table(measured, one.axes, rates_of(one.study))
            put_table("edge.md", header, rows[: one.most], note(measured, one.axes, len(rows), one.most), commit, name)
    put_table("edge.md", *shared(PLACES), SHARED, commit, "shares")
    grids = {name: study(name).grid("small") for name in STUDIES}
    results = {name: read(PROJECT / "results" / name)[0] for name in STUDIES}
    every = {cell: one for own in results.values() for cell, one in own.items()}
    put_table("edge.md", choices.HEADER, choices.worth([*grids.values()], every), choices.NOTE, commit, "choices")
    rows = [row for name in STUDIES for row in judged(grids[name], results[name])]
    put_table("edge.md", HEADER, rows, RULE, commit, "expectation")


def entries(file: Path, having: Mapping[str, str]) -> list[Entry]:
    """The measured entries of a study that have one of some values each, which are parted by spaces."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return [
            one | {"row": _row(one)}
            for one in csv.DictReader(lines)
            if one["last_mean"] and all(one[key] in values.split() for key, values in having.items())
        ]


def shared(places: Sequence[Place]) -> tuple[list[str], list[list[str]]]:
    """A line for each rule by which weights are shared out among sparse orthogonal layers, a column for each place."""
    rules = ("layer", "uniform+", "ERK", "ERK+", "IGQ", _BY_DATA, "ends")
    lines = [[rule] for rule in rules]
    for one in places:
        file = PROJECT / "results" / one.study / f"{one.study}.csv"
        known = {entry["row"]: entry for entry in entries(file, one.having)}
        for rule, line in zip(rules, lines, strict=True):
            line.append(cell(known.get(one.rows.get(rule, "")), rates_of(one.study)))
    return ["shared out by", *(one.title for one in places)], lines


def _row(entry: Entry) -> str:
    """The row of an entry, with its initialisation where that is an axis of its study."""
    row = entry["row"]
    begins = entry.get("init") == "orthogonal" and not row.startswith("mirrored")
    return f"orthogonal, {row}" if begins else row


def judged(grid: Grid, results: Mapping[str, Result]) -> list[list[str]]:
    """How well the rule of `diagnose` tells which networks of a grid train, a line for each kind."""
    lines = []
    cells = grid.cells()
    for model in sorted({cell.recipe.model for cell in cells}):
        every = [cell for cell in cells if cell.recipe.model == model]
        hard = [cell for cell in every if cell.recipe.init != "sparse_orthogonal" and cell.recipe.rescale != "none"]
        told = []
        for own in (every, hard):
            found = [one for one in networks(own, grid.choose, results) if one.measured.get("learnable") is not None]
            truth = np.array([one.accuracy > TRAINS for one in found])
            said = np.array([expected(one.measured["learnable"] or 0.0, one.measured["gradient"]) for one in found])
            right = balanced_accuracy(truth, said)
            told += [f"{len(found):,}", f"{int(truth.sum()):,}", "-" if right is None else f"{100 * right:.1f} %"]
        lines.append([f"{model}, {cells[0].recipe.data}", *told])
    return lines


def rates_of(name: str) -> Sequence[float]:
    """The learning rates of a study."""
    return list(study(name).grid("small").over["training.lr"])


def table(entries: Sequence[Entry], axes: Sequence[str], rates: Sequence[float]) -> tuple[list[str], list[list[str]]]:
    """A line for each way that is anywhere above chance, a column for each place; the least behind the best first."""
    places = sorted({place(one, axes) for one in entries}, key=lambda at: [_number(value) for value in at])
    by_row: dict[str, dict[tuple[str, ...], Entry]] = {}
    for one in entries:
        by_row.setdefault(one["row"], {})[place(one, axes)] = one
    best = {at: max(float(row[at]["last_mean"]) for row in by_row.values() if at in row) for at in places}
    behind = {row: fmean(best[at] - float(one["last_mean"]) for at, one in own.items()) for row, own in by_row.items()}
    order = sorted(by_row, key=behind.__getitem__)
    rows = [
        [row, *(cell(by_row[row].get(at), rates) for at in places)] for row in order if row not in at_chance(entries)
    ]
    return ["way", *(", ".join(map(_titled, axes, at)) for at in places)], rows


def at_chance(entries: Sequence[Entry]) -> list[str]:
    """The ways that are nowhere above chance."""
    best: dict[str, float] = {}
    for one in entries:
        best[one["row"]] = max(best.get(one["row"], 0.0), float(one["last_mean"]))
    return [row for row, accuracy in best.items() if accuracy < CHANCE]


def place(entry: Entry, axes: Sequence[str]) -> tuple[str, ...]:
    """Where an entry belongs."""
    return tuple(entry[axis] for axis in axes)


def _number(value: str) -> tuple[float, str]:
    """Numbers in their order, and names in theirs before them."""
    try:
        return float(value), ""
    except ValueError:
        return -1.0, value


def _titled(axis: str, value: str) -> str:
    return f"{100 * float(value):g} %" if axis == "sparsity" else value


def cell(entry: Entry | None, rates: Sequence[float]) -> str:
    """An accuracy, with its standard deviation where there are several seeds; marked at an end of the rates."""
    if entry is None:
        return "-"
    mean = f"{float(entry['last_mean']):.1f}"
    spread = f" ± {float(entry['last_sd']):.1f}" if int(entry["seeds"]) > 1 else " (1)"
    ends = {min(rates): " ↓", max(rates): " ↑"} if float(entry["last_mean"]) >= CHANCE else {}
    return f"{mean}{spread}{ends.get(float(entry['chosen_lr']), '')}"


def note(entries: Sequence[Entry], axes: Sequence[str], rows: int, most: int | None) -> str:
    """What the columns are, how many seeds there are, and which rows are not shown."""
    seeds = sorted({int(one["seeds"]) for one in entries})
    told = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    lost = at_chance(entries)
    rest = f" At chance everywhere: {'; '.join(lost)}." if lost else ""
    if most is not None and most < rows:
        rest = f" The best {most} of {rows + len(lost)} rows."
    return (
        f"{', '.join(axes).capitalize()}. Mean ± standard deviation over {told} seeds; (1) is of one seed, - not "
        f"computed, ↓ and ↑ at the lowest and the highest of the learning rates.{rest}"
    )


if __name__ == "__main__":
    main()
