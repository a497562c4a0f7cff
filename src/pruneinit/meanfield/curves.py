"""One global threshold over all layers: from the law of each layer's scores to densities at every sparsity."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pruneinit.errors import InputError, check_sparsity
from pruneinit.meanfield.laws import Survival, check_sizes
from pruneinit.meanfield.quadrature import Array

_POINTS = 4000


class Critical(NamedTuple):
    """Where the first layer is lost.

    Attributes:
        sparsity: s_cr, the sparsity at which some layer is expected to keep less than one weight.
        layer: That layer.
        mean: The expected sparsity at which the first layer runs empty, with the chance of each layer to be empty
            earlier or later (independent scores).
    """

    sparsity: float
    layer: str
    mean: float


@dataclass(frozen=True, eq=False)
class Curve:
    """The densities of all layers at every sparsity, under one global threshold.

    Attributes:
        sizes: How many weights each layer has, by name.
        log_thresholds: A grid, ascending, shape (T,).
        above: The share of each layer's scores above each threshold, by name, shapes (T,).
    """

    sizes: Mapping[str, int]
    log_thresholds: Array
    above: Mapping[str, Array]

    @staticmethod
    def of(laws: Mapping[str, Survival], sizes: Mapping[str, int]) -> Curve:
        """The curve of layers whose scores follow these laws.

        Raises:
            InputError: Laws and sizes are not of the same layers.

        Example:
            >>> from pruneinit.meanfield.laws import Law
            >>> laws = {"wide": Law.single("normal", np.log(0.01)), "narrow": Law.single("normal", np.log(0.1))}
            >>> curve = Curve.of(laws, {"wide": 9000, "narrow": 1000})
            >>> {name: round(density, 3) for name, density in curve.densities(0.9).items()}
            {'wide': 0.051, 'narrow': 0.538}
            >>> curve.critical().layer
            'wide'
        """
        check_sizes(laws, sizes)
        ranges = [law.range() for law in laws.values()]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        grid = np.linspace(low, max(high, low + 1e-6), _POINTS)
        return Curve(dict(sizes), grid, {name: law.above(grid) for name, law in laws.items()})

    @staticmethod
    def mean(curves: Sequence[Curve]) -> Curve:
        """The mean density of each layer at each sparsity, over networks of the same layers.

        Its thresholds are those of the first curve, where it has the same density.
        """
        first = curves[0]
        density = first.density
        above = {name: np.zeros_like(density) for name in first.sizes}
        for curve in curves:
            place = np.interp(-density, -curve.density, np.arange(len(curve.log_thresholds)))
            for name, share in curve.above.items():
                above[name] += np.interp(place, np.arange(len(share)), share) / len(curves)
        return Curve(first.sizes, first.log_thresholds, above)

    @property
    def total(self) -> int:
        """How many weights there are."""
        return sum(self.sizes.values())

    @functools.cached_property  # every layer asks for it
    def density(self) -> Array:
        """The share of all weights above each threshold, shape (T,), falling."""
        kept = sum(self.sizes[name] * share for name, share in self.above.items())
        return np.asarray(kept / self.total)

    def densities(self, sparsity: float) -> dict[str, float]:
        """What each layer keeps when `sparsity` of all weights is removed.

        Raises:
            InputError: The sparsity is outside [0, 1).
        """
        density = self.density
        wanted = 1 - check_sparsity(sparsity)
        most = float(density[0])
        if wanted > most:  # Scores of 0 are above no threshold: which of them go first is left to chance.
            part = (wanted - most) / (1 - most)
            return {name: float(a[0] + part * (1 - a[0])) for name, a in self.above.items()}
        place = float(np.interp(-wanted, -density, np.arange(len(density))))
        below = min(int(place), len(density) - 2)
        part = place - below
        # Where a law is mixed by a Fourier transform, a share of 1 is 1 but for rounding.
        return {name: min(1.0, float((1 - part) * a[below] + part * a[below + 1])) for name, a in self.above.items()}

    def at(self, log_threshold: float) -> float:
        """The sparsity that a threshold gives."""
        return 1 - float(np.interp(log_threshold, self.log_thresholds, self.density))

    def lost(self, name: str) -> float:
        """The sparsity at which layer `name` is expected to keep less than one weight."""
        few = self.sizes[name] * self.above[name] < 1
        if not few.any():
            return 1.0
        first = int(np.argmax(few))
        if first == 0:
            return 0.0
        # Between the two thresholds the logarithm of the count is nearly a line.
        before, after = (self.sizes[name] * self.above[name][i] for i in (first - 1, first))
        part = math.log(before) / math.log(before / after) if after > 0 else 0.5
        low, high = self.log_thresholds[first - 1], self.log_thresholds[first]
        return self.at(float(low + part * (high - low)))

    def critical(self) -> Critical:
        """The critical sparsity, and the layer that is lost first.

        Raises:
            InputError: The curve has no layers.
        """
        if not self.sizes:
            raise InputError("there are no layers")
        lost = {name: self.lost(name) for name in self.sizes}
        layer = min(lost, key=lambda name: lost[name])
        return Critical(lost[layer], layer, self._mean())

    def _mean(self) -> float:
        """E[s_cr] where the scores are independent: the integral over s of the chance that no layer is empty yet."""
        alive = np.ones(len(self.log_thresholds))
        for name, share in self.above.items():
            alive *= -np.expm1(-self.sizes[name] * share)
        sparsity = 1 - self.density
        before = float(sparsity[0])  # Scores of 0 go first, whatever the threshold.
        return before + float(np.sum(np.diff(sparsity) * 0.5 * (alive[1:] + alive[:-1])))
