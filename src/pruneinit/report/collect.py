"""From single results to what a page shows of them: networks, lines, and points that sum up the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pruneinit.report.outcomes import Outcome
from pruneinit.report.rates import RATE, chosen_rate
from pruneinit.report.settings import differences
from pruneinit.report.spread import Spread, spread

_NETWORK = ("data", "model", "depth", "width")
_IGNORED_BY_DENSE = ("scope", "rounds", "norm", "score_images")
_SHORT = ("criterion", "init", "rescale")  # of these the value alone says enough


@dataclass(frozen=True)
class Point:
    """The results of one method on one network at one sparsity, one a seed.

    Attributes:
        sparsity: The fraction removed; 0 of a dense network.
        outcomes: Those that count, in the order of their seeds; of the chosen learning rate where there are several.
        rate: Their learning rate.
        rates: All learning rates that there are results of.
        accuracy: Test accuracy after the last epoch, over seeds; None where nothing was computed.
        best: The same of each seed's best epoch, picked on test data.
    """

    sparsity: float
    outcomes: tuple[Outcome, ...]
    rate: float
    rates: tuple[float, ...]
    accuracy: Spread | None
    best: Spread | None

    @property
    def failed(self) -> int:
        """How many raised an error."""
        return sum(one.failed for one in self.outcomes)

    @property
    def diverged(self) -> int:
        """How many ended with a loss that was not finite; they count in the accuracy."""
        return sum(one.diverged for one in self.outcomes)

    @property
    def emptied(self) -> list[int]:
        """How many layers each computed one has lost."""
        return [len(one.empty) for one in self.outcomes if not one.failed]

    @property
    def densities(self) -> dict[str, float]:
        """The mean density of each layer over the seeds."""
        found: dict[str, list[float]] = {}
        for one in self.outcomes:
            for name, density in one.densities.items():
                found.setdefault(name, []).append(density)
        return {name: math.fsum(values) / len(values) for name, values in found.items()}


@dataclass(frozen=True)
class Line:
    """A method on one network, at every sparsity.

    Attributes:
        label: Its name on this network: that of its row, or its criterion and what was done around it.
        row: The name of its row in a grid; None where there is none.
        settings: The recipe of one of its results.
        points: By rising sparsity.
        undecided: Sparsities left out, as no seed has results of every learning rate yet.
    """

    label: str
    row: str | None
    settings: Mapping[str, Any]
    points: tuple[Point, ...]
    undecided: tuple[float, ...] = ()

    @property
    def criterion(self) -> str:
        """What was pruned by; `"dense"` where nothing was."""
        return "dense" if self.dense else str(self.settings.get("criterion"))

    @property
    def dense(self) -> bool:
        """Whether nothing was pruned."""
        return self.settings.get("criterion") == "none"


@dataclass(frozen=True)
class Network:
    """One data set and network, and the lines of all methods on it."""

    data: str
    model: str
    depth: int | None
    width: int | None
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        """The network in words.

        Example:
            >>> Network("mnist", "mlp", 10, 100, ()).name
            'mlp, depth 10, width 100'
        """
        sides = (("depth", self.depth), ("width", self.width))
        return ", ".join([self.model, *(f"{name} {value}" for name, value in sides if value is not None)])


def collect(outcomes: Iterable[Outcome]) -> tuple[Network, ...]:
    """Sort results by network, method and sparsity, and sum up their seeds.

    Results that differ in the seed alone are one point. Of those that differ in the learning rate too, the rate that
    `chosen_rate` takes stands for all; where there is no validation accuracy to choose by, each is a line of its own.
    A seed that is there twice, in two sweeps or in two dense networks that differ in what a dense one does not use,
    counts once.

    Example:
        >>> recipe = {"data": "digits", "model": "mlp", "criterion": "snip", "sparsity": 0.9, "training": {"lr": 0.1}}
        >>> seeds = [Outcome(str(i), None, {**recipe, "seed": i}, "1", test_accuracy=0.9 + i / 100) for i in range(3)]
        >>> (network,) = collect(seeds)
        >>> line = network.lines[0]
        >>> line.label, line.points[0].sparsity, round(line.points[0].accuracy.mean, 2)
        ('snip', 0.9, 0.91)
    """
    networks: dict[tuple[Any, ...], dict[tuple[Any, ...], list[Outcome]]] = {}
    for one in outcomes:
        network = tuple(one.settings.get(name) for name in _NETWORK)
        networks.setdefault(network, {}).setdefault(_method(one), []).append(one)
    found = []
    for (data, model, depth, width), methods in networks.items():
        lines = _labelled([line for members in methods.values() for line in _lines(members)])
        lines.sort(key=lambda line: (line.label.casefold(), line.label))
        found.append(Network(data, model, depth, width, tuple(lines)))
    return tuple(sorted(found, key=lambda one: (one.data, one.model, one.depth or 0, one.width or 0)))


def sparsity_of(outcome: Outcome) -> float:
    """The fraction removed; a dense network's recipe may name one that it does not use."""
    return 0.0 if outcome.settings.get("criterion") == "none" else float(outcome.settings["sparsity"])


def rate_of(outcome: Outcome) -> float:
    """The learning rate."""
    return float(outcome.settings["training"]["lr"])


def _method(one: Outcome) -> tuple[Any, ...]:
    """All that tells methods apart: the row and every setting but the network, the sparsity, the seed and the rate."""
    apart = (*_NETWORK, "sparsity", "seed", *(_IGNORED_BY_DENSE if one.settings.get("criterion") == "none" else ()))
    settings = {name: value for name, value in one.settings.items() if name not in apart}
    training = {name: value for name, value in settings.pop("training", {}).items() if name != "lr"}
    return one.row, _frozen(settings), _frozen(training)


def _frozen(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(settings.items()))


def _lines(members: Sequence[Outcome]) -> list[Line]:
    """One line; one for each learning rate where there is nothing to choose among several by."""
    grouped: dict[float, dict[float, dict[int, Outcome]]] = {}
    for one in sorted(members, key=lambda one: (one.failed, one.name)):  # computed ones first: they are kept
        rates = grouped.setdefault(sparsity_of(one), {}).setdefault(rate_of(one), {})
        rates.setdefault(int(one.settings.get("seed", 0)), one)
    computed = [one for one in members if not one.failed]
    blind = bool(computed) and all(one.validation_accuracy is None for one in computed)
    if blind and any(len(rates) > 1 for rates in grouped.values()):
        every = sorted({rate for rates in grouped.values() for rate in rates})
        return [_line({s: {r: seeds for r, seeds in rates.items() if r == rate} for s, rates in grouped.items()})
                for rate in every]  # fmt: skip
    return [_line(grouped)]


def _line(grouped: Mapping[float, Mapping[float, Mapping[int, Outcome]]]) -> Line:
    points, undecided = [], []
    for sparsity, rates in sorted(grouped.items()):
        if not rates:
            continue
        rate = chosen_rate(rates)
        if rate is None:
            undecided.append(sparsity)
            continue
        outcomes = tuple(one for _, one in sorted(rates[rate].items()))
        accuracy, best = (
            spread([value for value in values if value is not None])
            for values in zip(*((one.test_accuracy, one.best_test_accuracy) for one in outcomes), strict=True)
        )
        points.append(Point(sparsity, outcomes, rate, tuple(sorted(rates)), accuracy, best))
    some = next(one for rates in grouped.values() for seeds in rates.values() for one in seeds.values())
    return Line("", some.row, some.settings, tuple(points), tuple(undecided))


def _labelled(lines: Sequence[Line]) -> list[Line]:
    """The lines with labels of their own: lines of one name get the settings in which they differ behind it."""
    families: dict[str, list[Line]] = {}
    for line in lines:
        families.setdefault(line.row if line.row is not None else _described(line.settings), []).append(line)
    named = []
    for name, family in families.items():
        apart = (*_NETWORK, "sparsity", "seed")
        for line, varying in zip(family, differences([one.settings for one in family], apart), strict=True):
            several_rates = any(len(point.rates) > 1 for point in line.points)
            told = [value if key in _SHORT else f"{key} {value}" for key, value in varying
                    if not (key == RATE and several_rates)]  # fmt: skip
            named.append(replace(line, label=", ".join([name, *told]) if len(family) > 1 else name))
    return named


def _described(settings: Mapping[str, Any]) -> str:
    criterion, init, rescale = (str(settings.get(name, "")) for name in _SHORT)
    words = ["dense" if criterion == "none" else criterion, init and f"{init} init"]
    return ", ".join(filter(None, [*words, f"rescaled ({rescale})" if rescale not in ("", "none") else ""]))
