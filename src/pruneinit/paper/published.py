"""The numbers that the paper reports, as far as they are known to us: `published.csv` beside this file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pruneinit.report import Published


@dataclass(frozen=True)
class Reported:
    """One number of the paper.

    Attributes:
        row: The row of its table.
        data: Data set.
        network: By the name that recipes use.
        axis: What the columns of the table are: `sparsity` or `depth`.
        value: On that axis.
        accuracy: Test accuracy in percent.
        sd: Over runs, in percent, where it is known.
        source: Where it stands, and how sure it is.
    """

    row: str
    data: str
    network: str
    axis: str
    value: float
    accuracy: float
    sd: float | None
    source: str

    def fits(self, row: str | None, data: str, network: str, settings: Mapping[str, Any]) -> bool:
        """Whether this number belongs beside what was measured with these settings."""
        here = settings.get(self.axis)
        same = (self.row, self.data, self.network) == (row, data, network)
        return same and here is not None and float(here) == self.value


@cache
def published(study: str) -> tuple[Reported, ...]:
    """What the paper reports of a study, in its order.

    Example:
        >>> [one.accuracy for one in published("vcnn") if one.row == "edge"]
        [98.2, 98.8, 10.0]
    """
    return tuple(reported for name, reported in _all() if name == study)


def at_sparsities() -> list[Published]:
    """What the paper reports of networks at several sparsities, for `pruneinit.report.write_results`.

    Example:
        >>> snip = [one for one in at_sparsities() if (one.row, one.data) == ("SNIP", "cifar10")]
        >>> [one.accuracy for one in snip if one.network == "resnet32"]
        [0.9259, 0.9101, 0.8751]
    """
    return [
        Published(study, one.row, one.data, one.network, one.value, round(one.accuracy / 100, 6), one.source)
        for study, one in _all()
        if one.axis == "sparsity"
    ]


@cache
def _all() -> tuple[tuple[str, Reported], ...]:
    """Each number with its study."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return tuple((line["study"], _reported(line)) for line in csv.DictReader(file))


def _reported(line: Mapping[str, str]) -> Reported:
    return Reported(
        line["row"],
        line["data"],
        line["network"],
        line["axis"],
        float(line["value"]),
        float(line["accuracy"]),
        float(line["sd"]) if line["sd"] else None,
        line["source"],
    )
