"""Know before you prune: from one scoring, the densities at every sparsity, and where the first layer is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, each
from pruneinit.criteria import Criterion, Snip
from pruneinit.errors import InputError, check_sparsity
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.meanfield.curves import Critical, Curve
from pruneinit.meanfield.laws import Blend, Law, Survival
from pruneinit.meanfield.quadrature import Array
from pruneinit.pruning import all_kept
from pruneinit.reach import reacher
from pruneinit.selection import check_scores, ordered_keys, select
from pruneinit.weights import Patterns, prunable

SPARSITIES = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

_NEURONS, _SAMPLE = 48, 512  # How many neurons stand for all of a layer in its law, and how many are looked at.
_KEYS = 1 << 16  # The upper half of a float's bits: bins of 0.5 to 0.8 % in the score.


@dataclass(frozen=True)
class ForecastLayer:
    """One weight of a forecast.

    Attributes:
        name: The weight's name.
        kind: The kind of its layer.
        total: How many values it has.
        moment: The mean square of its scores, m^l.
        largest: Its largest score.
        lost: The sparsity from which on nothing of it is kept.
    """

    name: str
    kind: str
    total: int
    moment: float
    largest: float
    lost: float


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a global threshold leaves of a network at every sparsity; `print` it for a table.

    Attributes:
        layers: In the order of the model.
        curve: The densities at every sparsity, counted from the scores.
        law: The same by the theory, from each layer's score moment m^l and how it differs between neurons: what other
            networks of the same kind may be expected to do.
    """

    layers: tuple[ForecastLayer, ...]
    curve: Curve
    law: Curve
    _effective: Callable[[float], float] | None = field(default=None, repr=False)

    @property
    def critical(self) -> Critical:
        """The sparsity at which the first layer is lost in this very network, and that layer.

        `mean` is what the law expects over networks of the same moments.
        """
        first = min(self.layers, key=lambda layer: layer.lost)
        return Critical(first.lost, first.name, self.law.critical().mean)

    @property
    def conditioning(self) -> float:
        """The largest score moment over the smallest; infinite where all scores of a layer are 0."""
        moments = [layer.moment for layer in self.layers]
        return max(moments) / min(moments) if min(moments) > 0 else math.inf

    def densities(self, sparsity: float) -> dict[str, float]:
        """What each layer keeps at a sparsity in [0, 1), to within a bin of the histogram (1 %).

        Raises:
            InputError: The sparsity is out of range.
        """
        return self.curve.densities(sparsity)

    def empty(self, sparsity: float) -> tuple[str, ...]:
        """The weights of which nothing is left at a sparsity.

        Raises:
            InputError: The sparsity is out of range.
        """
        check_sparsity(sparsity)
        return tuple(layer.name for layer in self.layers if layer.lost <= sparsity)

    def effective(self, sparsity: float) -> float:
        """The effective sparsity where `sparsity` is removed; a selection and a pass of a single example.

        Raises:
            InputError: The sparsity is out of range, or the forecast was made without batches.
        """
        if self._effective is None:
            raise InputError("the effective sparsity is found by following an example: give forecast batches")
        return self._effective(check_sparsity(sparsity))

    def __str__(self) -> str:
        shown = SPARSITIES
        width = max(6, *(len(layer.name) for layer in self.layers))
        lines = [f"{'weight':{width}} {'m / max m':>10} {'lost at':>9} " + " ".join(f"{s:>7.4g}" for s in shown)]
        columns = [self.densities(s) for s in shown]
        greatest = max(layer.moment for layer in self.layers)
        for layer in self.layers:
            share = layer.moment / greatest if greatest else 0.0
            cells = " ".join(f"{100 * column[layer.name]:6.3g}%" for column in columns)
            lines.append(f"{layer.name:{width}} {share:>10.3g} {layer.lost:>9.5f} {cells}")
        critical = self.critical
        lines.append(f"critical sparsity {critical.sparsity:.5f}: {critical.layer} is the first to be lost")
        return "\n".join(lines)


def forecast(
    model: nn.Module,
    batches: Batches | None = None,
    criterion: Criterion | None = None,
    *,
    include: Patterns | None = None,
    exclude: Patterns | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> Forecast:
    """Score once, and know what pruning by a global threshold does at every sparsity; the model is left as it was.

    Cost: one scoring and a few passes over the scores, which the forecast keeps in memory for `effective`.

    Args:
        model: Any module, dense or sparsified.
        batches: Data for the criterion and the effective sparsity; None for a criterion that needs none.
        criterion: What to score by; None for SBP, `Snip(norm, loss)`.
        include: Name patterns of the weights to prune (default all prunable ones).
        exclude: Name patterns of weights to keep whole.
        loss: Runs the model on a batch, for models that take more than `model(x)`.
        norm: Which statistics batch normalisation uses in scoring, for the default criterion.

    Returns:
        The forecast.

    Raises:
        InputError: There is nothing to prune, data that does not fit or is missing, or scores that are not finite.

    Example:
        >>> from pruneinit.criteria import Magnitude
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(16, 256, bias=False), nn.ReLU(), nn.Linear(256, 4, bias=False))
        >>> found = forecast(model, criterion=Magnitude())
        >>> found.critical.layer, found.empty(0.9)  # PyTorch draws weights within 1 / sqrt(fan-in)
        ('2.weight', ('2.weight',))
    """
    batches = None if batches is None else list(each(batches))
    criterion = Snip(norm=norm, loss=loss) if criterion is None else criterion
    scores = criterion(model, batches, all_kept(model, include, exclude))
    check_scores(scores)
    sizes = {name: score.numel() for name, score in scores.items()}
    largest = {name: float(score.max()) for name, score in scores.items()}
    above = _above(scores, list(largest.values()))
    spreads = {name: _spread(score) for name, score in scores.items()}
    kinds, total = prunable(model), sum(sizes.values())
    layers = tuple(
        ForecastLayer(
            name, kinds[name].kind, sizes[name], spreads[name].moment, largest[name], 1 - above[largest[name]] / total
        )
        for name in scores
    )
    law = Curve.of({name: spread.law() for name, spread in spreads.items()}, sizes)
    if batches is None:
        return Forecast(layers, _counted(scores, sizes), law)
    alive = reacher(model, batches, loss)
    return Forecast(layers, _counted(scores, sizes), law, lambda sparsity: alive(select(scores, sparsity)).sparsity)


class _Spread(NamedTuple):
    """What the theory needs to know of a layer's scores: how large they are, and how that differs between neurons."""

    moment: float
    size: float  # E[s] at E[s²] = 1, once the neurons' factors are divided out
    outputs: Array  # the factor of each output neuron, of mean 1
    inputs: Array

    def law(self) -> Survival:
        """The law of the scores.

        Given the factors of both neurons a score is |W ∂L/∂W|. Where the examples agree, the factors say all about the
        gradient and W alone is random; where they do not, it is a product of two normals; in between a part of each.
        """
        if self.moment == 0:
            return Law.single("product", -math.inf)
        log = math.log(self.moment)
        if self.size > (_SIZES["uniform"] + _SIZES["normal"]) / 2:
            return Law.single("uniform", log)
        factors = np.outer(_quantiles(self.outputs), _quantiles(self.inputs)).reshape(-1)
        weights = np.full(factors.shape, 1 / factors.size)
        share = min(1.0, max(0.0, (_SIZES["normal"] - self.size) / (_SIZES["normal"] - _SIZES["product"])))
        return Blend(
            (Law.mixture("product", log, factors, weights), Law.mixture("normal", log, factors, weights)),
            (share, 1 - share),
        )


# E|X| of a uniform and of a normal X of variance 1, and of the product of two normals.
_SIZES = {"uniform": math.sqrt(3) / 2, "normal": math.sqrt(2 / math.pi), "product": 2 / math.pi}


def _spread(score: Tensor) -> _Spread:
    flat = score.reshape(score.shape[0], score.shape[1] if score.dim() > 1 else 1, -1)
    squares = flat.float().square().sum(2) if flat.shape[2] > 1 else flat[..., 0].float().square()
    moment = float(squares.mean(dtype=torch.float64)) / flat.shape[2]
    if not moment > 0:
        return _Spread(0.0, 0.0, np.ones(1), np.ones(1))
    outputs, inputs = _factors(squares), _factors(squares.T)
    # A part of the layer is enough to see the shape of what is left.
    rows, columns = outputs[:_SAMPLE], inputs[:_SAMPLE]
    scale = torch.from_numpy(np.sqrt(np.outer(rows, columns))).to(score.device)[..., None]
    part = flat[: len(rows), : len(columns)].double().abs()
    rest = (part / scale)[(scale > 0).expand_as(part)]
    size = float(rest.mean() / rest.square().mean().sqrt()) if rest.numel() and bool((rest > 0).any()) else 0.0
    return _Spread(moment, size, outputs, inputs)


def _factors(squares: Tensor) -> Array:
    """How the rows of a matrix differ in their mean, relative to the whole, less what chance makes them differ.

    A row's mean over a few heavy-tailed values varies by chance. What its two halves agree on is no chance.
    """
    halves = [part.mean(1, dtype=torch.float64) for part in (squares[:, ::2], squares[:, 1::2]) if part.numel()]
    rows = np.asarray(torch.stack(halves).mean(0).cpu().numpy(), dtype=np.float64)
    positive = rows > 0
    if len(halves) < 2 or positive.sum() < 3:
        return np.ones(len(rows))
    with np.errstate(divide="ignore"):
        one, other = (np.log(half.cpu().numpy()) for half in halves)
    both = np.isfinite(one) & np.isfinite(other)
    logs = np.log(rows[positive])
    if both.sum() < 3 or logs.var() == 0:
        return np.ones(len(rows))
    agreed = max(0.0, float(np.cov(one[both], other[both])[0, 1])) / logs.var(ddof=1)
    factors = np.zeros_like(rows)
    factors[positive] = np.exp(math.sqrt(min(1.0, agreed)) * (logs - logs.mean()))
    return np.asarray(factors / factors.mean(), dtype=np.float64)


def _quantiles(factors: Array) -> Array:
    """As many factors or fewer, of the same distribution and mean."""
    if factors.size <= _NEURONS:
        return factors
    groups = np.array_split(np.sort(factors), _NEURONS)
    return np.array([float(group.mean()) for group in groups])


def _counted(scores: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Curve:
    """The curve over thresholds that are the upper halves of a float's bits, in the order of the numbers."""
    counts = {}
    for name, score in scores.items():
        bins = torch.zeros(_KEYS, dtype=torch.int64)
        for keys in ordered_keys(score):
            bins += torch.bincount((keys >> 16).long() + _KEYS // 2, minlength=_KEYS).cpu()
        counts[name] = bins.numpy()
    used = np.flatnonzero(sum(counts.values()))
    low, high = int(used[0]), int(used[-1]) + 1
    # above[t] counts the scores in the bins from t on: at the first threshold all, at the last none.
    above = {name: np.append(bins[low:high][::-1].cumsum()[::-1], 0) / sizes[name] for name, bins in counts.items()}
    return Curve(dict(sizes), np.arange(low, high + 1, dtype=np.float64), above)


def _above(scores: Mapping[str, Tensor], values: Sequence[float]) -> dict[float, int]:
    """How many of all scores are larger than each of `values`."""
    ordered = sorted(set(values))
    edges = torch.tensor(ordered, dtype=torch.float64)
    counts = torch.zeros(len(ordered) + 1, dtype=torch.int64)
    for score in scores.values():
        flat = score.reshape(-1)
        # Most scores are below all of the values, and only the others need a place among them.
        for chunk in torch.split(flat, 1 << 20):
            high = chunk[chunk > ordered[0]]
            if high.numel():
                place = torch.bucketize(high.double(), edges.to(high.device))
                counts += torch.bincount(place, minlength=len(ordered) + 1).cpu()
    return {value: int(counts[place + 1 :].sum()) for place, value in enumerate(ordered)}
