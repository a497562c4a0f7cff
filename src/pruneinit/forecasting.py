"""Know before you prune: from one scoring, the densities at every sparsity, and where the first layer is lost."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, each
from pruneinit.criteria import Criterion, Snip
from pruneinit.errors import InputError, check_sparsity
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.meanfield.curves import Critical, Curve
from pruneinit.meanfield.laws import Base, Law
from pruneinit.pruning import all_kept
from pruneinit.radix import ordered_keys
from pruneinit.reach import reacher
from pruneinit.remedies import UNEVEN, drifts, remedy
from pruneinit.residual import shortcuts
from pruneinit.selection import check_scores, select
from pruneinit.sharded import require_whole
from pruneinit.weights import Patterns, listed

SPARSITIES = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

_KEYS = 1 << 16  # The upper half of a float's bits: bins of 0.5 to 0.8 % in the score.


@dataclass(frozen=True)
class ForecastLayer:
    """One weight of a forecast.

    Attributes:
        name: The weight's name.
        kind: The kind of its layer.
        total: How many values it has.
        moment: The mean square of its scores, m^l.
        mean: The mean of their magnitudes.
        largest: Its largest score.
        lost: The sparsity from which on nothing of it is kept.
    """

    name: str
    kind: str
    total: int
    moment: float
    mean: float
    largest: float
    lost: float


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a global threshold leaves of a network at every sparsity; `print` it for a table.

    Attributes:
        layers: In the order of the model.
        curve: The densities at every sparsity, counted from the scores.
        law: The same by the theory's plain law, from each layer's score moment m^l alone.
        branches: How many residual branches the model has, where they could be seen from a batch.
        stable: Whether they are divided already (Stable ResNet).
    """

    layers: tuple[ForecastLayer, ...]
    curve: Curve
    law: Curve
    branches: int = 0
    stable: bool = False
    _effective: Callable[[float], float] | None = field(default=None, repr=False)

    @property
    def critical(self) -> Critical:
        """The sparsity at which the first layer is lost in this very network, and that layer.

        `mean` is what the plain law expects of networks with the same score moments.
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
        lost = self.empty(sparsity)
        return {name: 0.0 if name in lost else share for name, share in self.curve.densities(sparsity).items()}

    @property
    def advice(self) -> tuple[str, ...]:
        """The remedy where one threshold serves some layers far worse than others; empty where it does not.

        Whether rescaling is needed does not show in the scores: `diagnose` measures it.
        """
        if self.conditioning < UNEVEN:
            return ()
        off = not self.branches and drifts([layer.moment for layer in self.layers])
        return (remedy(self.conditioning, branches=self.branches, stable=self.stable, off_edge=off),)

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
        return "\n".join([*lines, *(textwrap.fill(text, 100, subsequent_indent="  ") for text in self.advice)])


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
    require_whole(model)
    batches = None if batches is None else list(each(batches))
    criterion = Snip(norm=norm, loss=loss) if criterion is None else criterion
    whole = all_kept(model, include, exclude)
    if not callable(criterion) or isinstance(criterion, type):
        raise InputError(f"criterion must be one such as Snip() or Magnitude(), got {criterion!r}")
    scores = criterion(model, batches, whole)
    check_scores(scores)
    if scores.keys() != whole.keys():
        odd = sorted(scores.keys() ^ whole.keys())
        raise InputError(f"the criterion must score each weight to prune and no other; it differs in {', '.join(odd)}")
    sizes = {name: score.numel() for name, score in scores.items()}
    kept = _kept_before(scores)
    kinds, total = listed(model), sum(sizes.values())
    layers = tuple(
        ForecastLayer(
            name,
            kinds[name].kind,
            sizes[name],
            float(torch.linalg.vector_norm(score, dtype=_wide(score))) ** 2 / sizes[name],
            float(score.abs().mean(dtype=_wide(score))),
            float(score.max()),
            1 - kept[name] / total,
        )
        for name, score in scores.items()
    )
    law = Curve.of({layer.name: _law(layer) for layer in layers}, sizes)
    if batches is None:
        return Forecast(layers, _counted(scores, sizes), law)
    alive = reacher(model, batches, loss)

    def effective(sparsity: float) -> float:
        return alive(select(scores, sparsity)).sparsity

    return Forecast(layers, _counted(scores, sizes), law, *shortcuts(model, batches[0]), effective)


def _law(layer: ForecastLayer) -> Law:
    """One law for all scores of a layer: |X| of a uniform or a normal X, or the product of two normals."""
    if layer.moment == 0:
        return Law.single("product", -math.inf)
    nearest = min(_SIZES, key=lambda base: abs(_SIZES[base] - layer.mean / math.sqrt(layer.moment)))
    return Law.single(nearest, math.log(layer.moment))


# E|X| at E[X^2] = 1.
_SIZES: dict[Base, float] = {
    "uniform": math.sqrt(3) / 2,
    "normal": math.sqrt(2 / math.pi),
    "product": 2 / math.pi,
}


def _wide(score: Tensor) -> torch.dtype:
    """Sums in float64 do not lose the small ones; on large tensors float32 with torch's pairwise sums is enough."""
    return torch.float64 if score.numel() < 1 << 20 or score.dtype == torch.float64 else torch.float32


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


def _kept_before(scores: Mapping[str, Tensor]) -> dict[str, int]:
    """How many weights a selection keeps before the first one of each layer.

    These are the larger scores, and those as large in the layers listed earlier: position decides between equal scores.
    """
    largest = {name: float(score.max()) for name, score in scores.items()}
    ordered = sorted(set(largest.values()))
    edges = torch.tensor(ordered, dtype=torch.float64)
    counts, equal = (torch.zeros(len(ordered), dtype=torch.int64) for _ in range(2))
    earlier = {}
    for name, score in scores.items():
        earlier[name] = int(equal[ordered.index(largest[name])])
        # Most scores are below all of the values, and only the others need a place among them.
        for chunk in torch.split(score.reshape(-1), 1 << 20):
            high = chunk[chunk >= ordered[0]].double()
            limits = edges.to(high.device)
            place = torch.bucketize(high, limits)
            counts += torch.bincount(place, minlength=len(ordered)).cpu()
            equal += torch.bincount(place[limits[place] == high], minlength=len(ordered)).cpu()
    return {name: int(counts[ordered.index(value) + 1 :].sum()) + earlier[name] for name, value in largest.items()}
