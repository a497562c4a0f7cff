"""What one global threshold will leave of each layer, from widths and scales alone: no data and no forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pruneinit.errors import InputError, check_sparsity, unknown
from pruneinit.meanfield.bounds import magnitude_bound, snip_bound
from pruneinit.meanfield.checks import check_examples, check_scale, check_widths
from pruneinit.meanfield.curves import Critical, Curve
from pruneinit.meanfield.ensembles import LayerSignal, signals
from pruneinit.meanfield.gaussian import exponential
from pruneinit.meanfield.kernels import StackLayer, stack_signals
from pruneinit.meanfield.laws import Law
from pruneinit.meanfield.shapes import Shape
from pruneinit.meanfield.spec import ActivationSpec

CriterionName = Literal["snip", "magnitude"]
LawName = Literal["neurons", "plain"]

FULLY_CONNECTED = Shape()
_LARGEST_LOG = 1e5  # A network of 10^4 layers far off the edge has less.
_AGREEMENTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # Networks that stand for all: `signals` says in what they differ.


@dataclass(frozen=True)
class PredictedLayer:
    """One layer of a prediction.

    Attributes:
        name: `"layer 1"` to `"layer L"`.
        inputs: Its fan-in.
        outputs: Its neurons.
        log_moment: The logarithm of m^l / m^L, the second moment of its scores over the last layer's.
        density: The fraction of its weights kept.
    """

    name: str
    inputs: int
    outputs: int
    log_moment: float
    density: float

    @property
    def moment(self) -> float:
        """m^l / m^L; 0 or infinite where float64 cannot hold it."""
        return exponential(self.log_moment)


@dataclass(frozen=True)
class Prediction:
    """What pruning will do to a network that does not exist yet; `print` it for a table.

    Attributes:
        layers: From the first to the last.
        sparsity: The fraction of all weights removed.
        critical: The critical sparsity and the layer that is lost there.
        bound: The paper's upper bound on it, at most 1 (where it says nothing).
        curve: The densities at every other sparsity.
    """

    layers: tuple[PredictedLayer, ...]
    sparsity: float
    critical: Critical
    bound: float
    curve: Curve

    @property
    def densities(self) -> list[float]:
        """The densities of the layers."""
        return [layer.density for layer in self.layers]

    @property
    def conditioning(self) -> float:
        """The largest score moment over the smallest; infinite where float64 cannot hold it."""
        logs = [layer.log_moment for layer in self.layers]
        spread = max(logs) - min(logs)
        return exponential(spread)

    def __str__(self) -> str:
        lines = [f"{'layer':>5} {'inputs':>8} {'outputs':>8} {'m / m^L':>10} {'density':>9}"]
        for number, layer in enumerate(self.layers, 1):
            lines.append(
                f"{number:>5} {layer.inputs:>8,} {layer.outputs:>8,} {layer.moment:>10.3g} {100 * layer.density:>8.3g}%"
            )
        lost = "is lost already" if self.sparsity > self.critical.sparsity else "is lost first"
        return "\n".join(
            [
                *lines,
                f"sparsity {self.sparsity:.4g}; critical sparsity {self.critical.sparsity:.4f}, where "
                f"{self.critical.layer} {lost}; the paper's bound {self.bound:.4f}",
            ]
        )


def predict(
    widths: Sequence[int],
    activation: ActivationSpec,
    sigma_w: float,
    sigma_b: float = 0.0,
    *,
    sparsity: float,
    criterion: CriterionName = "snip",
    law: LawName = "neurons",
    q_input: float = 1.0,
    correlation: float = 0.0,
    examples: int = 100,
    shape: Shape = FULLY_CONNECTED,
    log_moments: Sequence[float] | None = None,
) -> Prediction:
    """The density of every layer of a network under one global threshold, and the critical sparsity.

    Args:
        widths: N_0, ..., N_L: inputs, then the neurons (or channels) of each layer, at last the classes.
        activation: φ, between the layers.
        sigma_w: Weights are N(0, sigma_w^2 / fan-in).
        sigma_b: Standard deviation of the biases.
        sparsity: The fraction of the weights removed, in [0, 1).
        criterion: `"snip"` (SBP) or `"magnitude"` (MBP).
        law: For SBP: `"plain"` takes the scores of a layer as one product of two normals; `"neurons"` lets their scale
            differ between neurons, as the activations make it do on finite networks (`docs/theory.md` measures both).
        q_input: Mean square of the inputs.
        correlation: Of two different inputs.
        examples: How many examples the loss is averaged over when scoring.
        shape: Convolutions and residual branches; for these `"neurons"` is not worked out and the plain law is taken.

        log_moments: log m^l of each layer as measured on a network (`forecast` has them), in place of the theory's: on
            finite networks they differ, and then only how neurons differ is taken from the theory.

    Returns:
        The prediction.

    Raises:
        InputError: A number is out of range, a name is unknown, or the variance diverges.

    Example:
        >>> found = predict([64] + [100] * 49 + [10], "tanh", 1.5, 0.05, sparsity=0.9)  # chaotic phase
        >>> found.densities[2] > 10 * found.densities[-2], round(found.critical.sparsity, 2), found.critical.layer
        (True, 0.85, 'layer 49')
    """
    widths, examples = check_widths(widths), check_examples(examples)
    check_sparsity(sparsity)
    for kind, given, known in (("criterion", criterion, CriterionName), ("law", law, LawName)):
        if given not in get_args(known):
            raise unknown(kind, str(given), get_args(known))
    if not isinstance(shape, Shape):
        raise InputError(f"shape must be a Shape, got {shape!r}")
    sigma_w = check_scale("sigma_w", sigma_w)
    if sigma_w == 0:
        raise InputError("sigma_w must be above 0, got 0")
    measured = None if log_moments is None else _checked(log_moments, len(widths) - 1)
    names = [f"layer {number}" for number in range(1, len(widths))]
    fans = [shape.kernel * width for width in widths[:-2]] + [widths[-2] * shape.positions]
    sizes = {name: fan * out for name, fan, out in zip(names, fans, widths[1:], strict=True)}
    networks: list[list[tuple[float, Law]]]  # log m^l and the law of each layer
    if criterion == "magnitude":
        logs = [math.log(sigma_w**2 / fan) for fan in fans]
        networks = [[(log, Law.single("normal", log)) for log in logs]]
        bound = magnitude_bound(widths) if shape == FULLY_CONNECTED else 1.0
    else:
        networks = []
        data = {"q_input": q_input, "correlation": correlation}
        for agreement in _AGREEMENTS if examples > 1 else (0.5,):
            found: Sequence[LayerSignal] | Sequence[StackLayer]
            if shape == FULLY_CONNECTED:
                found = signals(widths, activation, sigma_w, sigma_b, examples=examples, agreement=agreement, **data)
            else:
                found = stack_signals(
                    widths, activation, sigma_w, sigma_b, shape, examples=examples, agreement=agreement, **data
                )
            logs = [layer.log_moment for layer in found] if measured is None else list(measured)
            networks.append([(log, _law(found[i], law, log)) for i, log in enumerate(logs)])
        bound = _snip_bound(widths, activation, sigma_w, sigma_b) if shape.residual == "none" else 1.0
    curves = [Curve.of(dict(zip(names, (law for _, law in n), strict=True)), sizes) for n in networks]
    curve, criticals = Curve.mean(curves), [curve.critical() for curve in curves]
    middle = len(networks) // 2
    critical = Critical(
        sum(c.sparsity for c in criticals) / len(criticals),
        criticals[middle].layer,
        sum(c.mean for c in criticals) / len(criticals),
    )
    logs = [log for log, _ in networks[middle]]
    densities = curve.densities(sparsity)
    rows = zip(names, fans, widths[1:], logs, strict=True)
    layers = [PredictedLayer(name, fan, out, log - logs[-1], densities[name]) for name, fan, out, log in rows]
    return Prediction(tuple(layers), sparsity, critical, bound, curve)


def _checked(log_moments: Sequence[float], layers: int) -> list[float]:
    try:
        found = [float(number) for number in log_moments]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"log_moments must be {layers} numbers, got {log_moments!r}") from error
    if len(found) != layers:
        raise InputError(f"log_moments must have a number for each of {layers} layers, got {len(found)}")
    if not all(abs(number) <= _LARGEST_LOG for number in found):
        raise InputError(
            f"log_moments must be logarithms between -{_LARGEST_LOG:g} and {_LARGEST_LOG:g}, got {found[:4]}"
        )
    return found


def _law(layer: LayerSignal | StackLayer, name: LawName, log_moment: float) -> Law:
    if name == "neurons" and isinstance(layer, LayerSignal):
        return Law.mixture(layer.base, log_moment, layer.spread, layer.weights)
    return Law.single("product", log_moment)


def _snip_bound(widths: Sequence[int], activation: ActivationSpec, sigma_w: float, sigma_b: float) -> float:
    """Theorem 1 with the largest width; it says nothing where the variance has no fixed point."""
    try:
        return snip_bound(len(widths) - 1, max(widths), activation, sigma_w, sigma_b)
    except InputError:
        return 1.0
