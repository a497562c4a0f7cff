"""What measurements before training say of whether a network trains: thresholds, and a logistic regression over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Cell, apart, grouped
from pruneinit.paper.entries import at_chosen
from pruneinit.trainability import MEASURES
from pruneinit.verdicts import LOST

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

ALL = "all together"
"""The name of the logistic regression."""
BOTH = "learnable, gradient up to 1000"
"""The measure `learnable`, where a gradient that grows by more than `LOST` on its way back counts as nothing learnt."""
AIMS_AT_ONE = ("moment", "gradient", "chi")
"""What the theory wants to be 1: what is held against a threshold is how far its logarithm is from 0."""
_SMALLEST = 1e-30  # a zero has no logarithm
_PENALTY = 1e-2  # of the squared coefficients, for each network


@dataclass(frozen=True)
class Network:
    """A network that was measured and trained, at the learning rate that `best_first` names.

    Attributes:
        row: Of the grid.
        seed: Of everything random.
        depth: Weight layers.
        accuracy: Test accuracy in percent after the last epoch.
        measured: By the names of `MEASURES`.
    """

    row: str | None
    seed: int
    depth: int
    accuracy: float
    measured: Mapping[str, float | None]


@dataclass(frozen=True)
class Split:
    """Which networks a prediction is found on, and which it is judged on.

    Attributes:
        seeds: The seeds of those that it is found on.
        depth: Their depth.
    """

    seeds: tuple[int, ...] = (0, 1)
    depth: int = 30

    def parts(self, networks: Sequence[Network]) -> dict[str, Truths]:
        """Which networks are in each part: found on, and judged on: other seeds, other depths, both other, all."""
        seed = np.array([one.seed in self.seeds for one in networks], dtype=bool)
        depth = np.array([one.depth == self.depth for one in networks], dtype=bool)
        return {
            "found on": seed & depth,
            "other seeds": ~seed & depth,
            "other depths": seed & ~depth,
            "both other": ~seed & ~depth,
            "all others": ~(seed & depth),
        }


@dataclass(frozen=True)
class Prediction:
    """How well one measure, or all together, says which networks train.

    Attributes:
        name: Of the measure, or `ALL`.
        threshold: A network is said to train beyond it; None for `ALL`.
        above: Whether beyond is above.
        accuracies: Balanced accuracy on each part of the split; None where a part does not have both kinds.
    """

    name: str
    threshold: float | None
    above: bool
    accuracies: Mapping[str, float | None]

    @property
    def judged(self) -> float:
        """Where it counts: on other seeds and depths, or the hardest part that there is; -1 for none."""
        known = (self.accuracies[part] for part in ("all others", "both other", "other depths", "other seeds"))
        return next((value for value in known if value is not None), -1.0)


def networks(cells: Sequence[Cell], axis: str | None, results: Mapping[str, Result]) -> list[Network]:
    """The networks that were measured and trained, each at one value of an axis, as in `best_first`.

    Args:
        cells: Of a grid.
        axis: What is chosen for each network by itself, the learning rate.
        results: By the hash of the cell.
    """
    found = []
    for cell, own in best_first(cells, axis, results):
        told = next((one.measured for one in own if one.measured is not None), None)
        if told is not None:
            accuracy = 100 * (own[0].test_accuracy or 0.0)
            found.append(Network(cell.row, cell.recipe.seed, cell.recipe.depth or 0, accuracy, told))
    return found


def best_first(
    cells: Sequence[Cell], axis: str | None, results: Mapping[str, Result]
) -> list[tuple[Cell, list[Result]]]:
    """The results of cells that differ on one axis alone, the best on held-out images first, behind the first cell.

    Of cells not all of which have a result, the one counts that has the value chosen on other seeds, as `at_chosen`
    tells it. What has no accuracy is left out.
    """
    found, chosen = [], at_chosen(cells, axis, results)
    for members in grouped(cells, lambda cell: apart(cell, (axis,))):
        whole = all(cell.hash in results for cell in members)
        counted = [cell for cell in members if cell.hash in results and (whole or chosen.get(cell.hash, False))]
        mine = [results[cell.hash] for cell in counted]
        done = [one for one in mine if one.validation_accuracy is not None and one.test_accuracy is not None]
        if done:
            found.append((members[0], sorted(done, key=lambda one: -(one.validation_accuracy or 0.0))))
    return found


def predict(found: Sequence[Network], trains: float, split: Split | None = None) -> list[Prediction]:
    """Each measure's best threshold, and a logistic regression over the logarithms of all, the best judged first.

    Args:
        found: Measured networks.
        trains: Those above this test accuracy, in percent, train.
        split: What thresholds and coefficients are found on, and judged on.

    Returns:
        A prediction for each measure and one for all; none where not both kinds of networks are among those to find on.
    """
    truth = np.array([one.accuracy > trains for one in found], dtype=bool)
    parts = (split or Split()).parts(found)
    on = parts["found on"]
    if not on.any() or truth[on].all() or not truth[on].any():
        return []
    predictions = []
    for name in MEASURES:
        values = measure(found, name)
        threshold, above = best_threshold(values[on], truth[on])
        said = _beyond(values, threshold, above)
        predictions.append(Prediction(name, threshold, above, _accuracies(truth, said, parts)))
    exploding = np.array([one.measured.get("gradient") or 0.0 for one in found]) > LOST
    values = np.where(exploding, np.nan, measure(found, "learnable"))
    threshold, above = best_threshold(values[on], truth[on])
    predictions.append(Prediction(BOTH, threshold, above, _accuracies(truth, _beyond(values, threshold, above), parts)))
    features = _features(found, on)
    said = features @ logistic(features[on], truth[on]) > 0
    predictions.append(Prediction(ALL, None, True, _accuracies(truth, said, parts)))
    return sorted(predictions, key=lambda one: (-one.judged, -(one.accuracies["found on"] or 0)))


def measure(found: Sequence[Network], name: str) -> Floats:
    """A measure of each network as it is held against a threshold, NaN where there is none: [networks].

    Example:
        >>> measure([Network(None, 0, 30, 90.0, {"alive": 7.0, "chi": 0.5})], "chi").round(3).tolist()
        [0.693]
    """
    values = np.array([one.measured.get(name) for one in found], dtype=np.float64)
    return np.abs(_logs(values)) if name in AIMS_AT_ONE else values


def best_threshold(values: Floats, truth: Truths) -> tuple[float, bool]:
    """The threshold of the best balanced accuracy, halfway between two values, and whether what trains is above it.

    A network without a value is said not to train.

    Example:
        >>> best_threshold(np.array([1.0, 2.0, 3.0, np.nan]), np.array([True, True, False, False]))
        (2.5, False)
    """
    known = np.unique(values[np.isfinite(values)])
    if not len(known):
        return 0.0, True
    between = np.concatenate([[-np.inf], (known[:-1] + known[1:]) / 2, [np.inf]])
    best, chosen = -1.0, (0.0, True)
    for above in (True, False):
        for threshold in between:
            accuracy = balanced_accuracy(truth, _beyond(values, float(threshold), above)) or 0.0
            if accuracy > best:
                best, chosen = accuracy, (float(threshold), above)
    return chosen


def balanced_accuracy(truth: Truths, said: Truths) -> float | None:
    """The mean of the shares of both kinds that are told right; None where there are not both.

    Example:
        >>> balanced_accuracy(np.array([True, False, False]), np.array([True, True, False]))
        0.75
    """
    if not len(truth) or truth.all() or not truth.any():
        return None
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def logistic(features: Floats, truth: Truths, steps: int = 50) -> Floats:
    """The coefficients of a logistic regression by Newton's method, with both kinds weighing alike and a small penalty.

    Args:
        features: [networks, features]; the last is 1, and not penalised.
        truth: [networks].
        steps: At most.

    Returns:
        [features]; what they give times the features is above 0 where a network is said to train.
    """
    weights = np.where(truth, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    penalty = _PENALTY * len(truth) * np.eye(features.shape[1])
    penalty[-1, -1] = 1e-9
    found = np.zeros(features.shape[1])
    for _ in range(steps):
        said = 1 / (1 + np.exp(-np.clip(features @ found, -30, 30)))
        slope = features.T @ (weights * (said - truth)) + penalty @ found
        curvature = (features * (weights * said * (1 - said))[:, None]).T @ features + penalty
        step = np.linalg.solve(curvature, slope)
        found = found - step
        if np.abs(step).max() < 1e-8:
            break
    return found


def _features(found: Sequence[Network], on: Truths) -> Floats:
    """The logarithms of all measures, and how far those that should be 1 are from it, standardised by some networks.

    Of a measure that a network does not have the mean is taken, and that it is missing is a feature of its own.
    """
    columns = []
    for name in MEASURES:
        logs = _logs(np.array([one.measured.get(name) for one in found], dtype=np.float64))
        columns += [np.isnan(logs).astype(np.float64), logs, *([np.abs(logs)] if name in AIMS_AT_ONE else [])]
    standard = [_standard(column, on) for column in columns]
    return np.column_stack([*standard, np.ones(len(found))])


def _standard(column: Floats, on: Truths) -> Floats:
    known = column[on & ~np.isnan(column)]
    if not len(known) or not known.std():
        return np.zeros_like(column)
    standard: Floats = np.clip(np.nan_to_num((column - known.mean()) / known.std(), nan=0.0), -5, 5)
    return standard


def _logs(values: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(values, _SMALLEST))
    return logs


def _beyond(values: Floats, threshold: float, above: bool) -> Truths:
    beyond: Truths = (values > threshold) if above else (values < threshold)  # NaN is neither
    return beyond


def _accuracies(truth: Truths, said: Truths, parts: Mapping[str, Truths]) -> dict[str, float | None]:
    return {part: balanced_accuracy(truth[mine], said[mine]) for part, mine in parts.items()}
