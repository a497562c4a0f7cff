"""How scores are distributed within a layer: the share of them above a threshold.

In a wide network the SBP score of a weight is |W| |∂L/∂W|: up to scale the product |X Y| of two independent standard
normals (the plain law). The neurons at both ends make the scale itself random, which is a mixture of such laws. The MBP
score is |W| alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pruneinit.errors import InputError
from pruneinit.meanfield.quadrature import Array

Base = Literal["product", "normal", "uniform"]

_STEP = 0.005  # Of the grid of log thresholds on which laws are tabulated.
_LOW, _HIGH = -35.0, 6.6  # P(|XY| > e^6.6) < 1e-300.
_BIN = 0.005  # The log scales of a mixture are gathered in bins this wide, each at its mean.
_FEW = 16  # More scales than these are mixed by a Fourier transform,
_NOISE = 1e-15  # which knows probabilities to this.


class Survival(Protocol):
    """The distribution of the scores of one layer."""

    def above(self, log_threshold: Array) -> Array:
        """P(score > t) at each log t."""
        ...

    def range(self) -> tuple[float, float]:
        """Log thresholds below which next to all scores lie above, and above which next to none does."""
        ...


@dataclass(frozen=True, eq=False)
class Law:
    """A mixture of one law at several scales.

    Attributes:
        base: `"product"`: |X Y| of independent standard normals, `"normal"`: |X|, `"uniform"`: |X| for X uniform
            with variance 1.
        log_scales: The logarithms of the scales.
        weights: Their probabilities.

    Example:
        >>> law = Law.single("normal", np.log(4.0))  # |X| with E[X^2] = 4
        >>> [round(float(p), 4) for p in law.above(np.log([0.001, 2.0, 4.0]))]
        [0.9996, 0.3173, 0.0455]
    """

    base: Base
    log_scales: Array
    weights: Array

    @staticmethod
    def single(base: Base, log_moment: float) -> Law:
        """The law with one scale, whose second moment has this logarithm (-inf: all scores are 0)."""
        return Law(base, np.array([0.5 * log_moment]), np.ones(1))

    @staticmethod
    def mixture(base: Base, log_moment: float, spread: Array, weights: Array) -> Law:
        """The law whose second moment is spread by the factors `spread`, which have the given probabilities."""
        positive = spread > 0
        logs = 0.5 * (np.log(spread[positive] / float(weights @ spread)) + log_moment)
        low = logs.min()
        bins = np.floor((logs - low) / _BIN).astype(np.int64)
        share = np.bincount(bins, weights=weights[positive])
        centre = np.bincount(bins, weights=weights[positive] * logs)
        filled = share > 0
        # What has scale 0 is never above any threshold: the weights may sum to less than 1.
        scales = np.asarray(centre[filled] / share[filled], dtype=np.float64)
        return Law(base, scales, np.asarray(share[filled], dtype=np.float64))

    def above(self, log_threshold: Array) -> Array:
        """P(score > t) at each log t."""
        table = _log_survival(self.base)
        grid = _grid()
        finite = self.log_scales > -np.inf
        scales, weights = self.log_scales[finite], self.weights[finite]
        if len(scales) <= _FEW:
            found = np.zeros(np.shape(log_threshold))
            for scale, weight in zip(scales, weights, strict=True):
                found += weight * np.exp(np.interp(log_threshold - scale, grid, table, right=-np.inf))
            return found
        # Many scales: in log t a mixture is a convolution, on a grid between whose points each scale is shared out.
        low = scales.min()
        place = (scales - low) / _STEP
        below = place.astype(np.int64)
        share = np.zeros(int(below.max()) + 2)
        np.add.at(share, below, weights * (1 - (place - below)))
        np.add.at(share, below + 1, weights * (place - below))
        size = len(share) + len(grid) - 1
        length = 1 << size.bit_length()  # of a power of two, which is several times faster
        mixed = np.fft.irfft(np.fft.rfft(share, length) * _transformed(self.base, length), length)[:size]
        # The first and last points lack what lies beyond the table: there all scores are above, or none.
        mixed[: len(share)] += weights.sum() - share.cumsum()
        logs = low + grid[0] + _STEP * np.arange(size)
        values = np.interp(log_threshold, logs, np.maximum(mixed, 0.0), left=float(weights.sum()), right=0.0)
        return np.asarray(np.where(values < _NOISE, 0.0, values))

    def range(self) -> tuple[float, float]:
        """Where the law goes from 1 to 0."""
        finite = self.log_scales[self.log_scales > -np.inf]
        if not finite.size:
            return 0.0, 0.0
        return float(finite.min()) - 30.0, float(finite.max()) + _HIGH


@functools.cache
def _grid() -> Array:
    return np.arange(_LOW, _HIGH + _STEP, _STEP)


@functools.cache
def _log_survival(base: Base) -> Array:
    """Log P(score > t) on the grid of log t, at scale 1."""
    t = np.exp(_grid())
    with np.errstate(divide="ignore", under="ignore"):
        if base == "uniform":
            return np.asarray(np.log(np.maximum(1 - t / np.sqrt(3), 0.0)))
        if base == "normal":
            return np.asarray(np.log(_two_sided(t)))
        # P(|XY| > t) = E[P(|Y| > t / |X|)]: in log x the trapezoidal rule is exact to rounding.
        u = np.arange(-40.0, 3.7, 0.05)
        x = np.exp(u)
        weight = np.sqrt(2 / np.pi) * x * np.exp(-0.5 * x * x) * 0.05
        parts = [_two_sided(part[:, None] / x) @ weight for part in np.array_split(t, 20)]
        return np.asarray(np.minimum(np.log(np.concatenate(parts)), 0.0))


@functools.lru_cache(maxsize=16)
def _transformed(base: Base, length: int) -> NDArray[np.complex128]:
    return np.asarray(np.fft.rfft(np.exp(_log_survival(base)), length))


def _two_sided(x: Array) -> Array:
    """P(|Z| > x) of a standard normal."""
    scaled = torch.from_numpy(np.ascontiguousarray(x / np.sqrt(2)))
    return np.asarray(torch.special.erfc(scaled).numpy(), dtype=np.float64)


def check_sizes(laws: Mapping[str, Survival], sizes: Mapping[str, int]) -> None:
    """See that there is a size for each law.

    Raises:
        InputError: There is not.
    """
    if laws.keys() != sizes.keys() or not laws:
        raise InputError(f"laws and sizes must be of the same layers, got {list(laws)} and {list(sizes)}")
