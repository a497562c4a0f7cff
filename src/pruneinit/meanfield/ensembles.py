"""What a batch of examples does in a wide random network: signals forward, gradients backward, scores between them.

All pairs of different examples are taken to be alike, with one correlation c^l in layer l. A neuron's pre-activation on
example b is then y_b = sqrt(q) (sqrt(c) z + sqrt(1 - c) u_b): z belongs to the neuron and is shared by the batch, u_b
does not. Averaged over a large batch, what a neuron contributes is a function of z alone (its `Pattern`), which makes
some neurons stronger than others by a factor that the score contains.

The gradient of the batch's mean loss is a mean over examples, so its second moment also depends on how examples are
correlated, forward and backward; for one example it is the m^l of Hayou et al. 2021, section 3.1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.activations import Activation
from pruneinit.meanfield.checks import check_examples, check_scale, check_share, check_widths
from pruneinit.meanfield.gaussian import exponential, finite_moments, mesh
from pruneinit.meanfield.laws import Base
from pruneinit.meanfield.outputs import OutputGradient, output_gradient
from pruneinit.meanfield.quadrature import Array, Function, density, rule, smoothed
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

_REACH = 7.0  # A neuron beyond 7 standard deviations is one in 10^12.


class Pattern(NamedTuple):
    """What the neurons of a layer contribute, at the nodes z of a quadrature over neurons.

    Attributes:
        square: E[f(y)^2 | z].
        mean: E[f(y) | z].
        weights: Of the nodes; they sum to 1.
    """

    square: Array
    mean: Array
    weights: Array

    @property
    def same(self) -> float:
        """E[f(y)^2], over neurons and examples."""
        return float(self.weights @ self.square)

    @property
    def cross(self) -> float:
        """E[f(y_a) f(y_b)] of two different examples."""
        return float(self.weights @ self.mean**2)


@dataclass(frozen=True)
class LayerSignal:
    """One layer of a wide random network on a batch.

    Attributes:
        inputs: N_{l-1}, the fan-in.
        outputs: N_l.
        q: Variance of the pre-activations.
        c: Their correlation between two different examples.
        log_gradient: log q̃^l, q̃^l = E[(∂L/∂y^l)^2] of one example's loss, for one neuron. In logarithms, since far
            off the edge the gradients of a deep network span more than float64 does.
        gradient_correlation: The correlation of ∂L/∂y^l between two different examples.
        log_moment: log m^l, m^l = E[(W ∂L/∂W)^2] of the batch's mean loss.
        base: What is normal given the factors: W and ∂L/∂W (`"product"`), or W alone (`"normal"`, in the last layer).
        spread: How m^l differs between pairs of an output and an input neuron: factors of mean 1.
        weights: The probability of each factor.
    """

    inputs: int
    outputs: int
    q: float
    c: float
    log_gradient: float
    gradient_correlation: float
    log_moment: float
    base: Base
    spread: Array
    weights: Array

    @property
    def gradient(self) -> float:
        """q̃^l; 0 or infinite where float64 cannot hold it."""
        return exponential(self.log_gradient)

    @property
    def moment(self) -> float:
        """m^l; 0 or infinite where float64 cannot hold it."""
        return exponential(self.log_moment)

    @property
    def size(self) -> int:
        """How many weights the layer has."""
        return self.inputs * self.outputs


def signals(
    widths: Sequence[int],
    activation: ActivationSpec,
    sigma_w: float,
    sigma_b: float,
    *,
    q_input: float = 1.0,
    correlation: float = 0.0,
    examples: int = 100,
    agreement: float = 0.5,
) -> list[LayerSignal]:
    """Follow a batch through a wide fully connected network and its gradient back, layer by layer.

    The loss is the cross entropy of the outputs with labels that know nothing of the inputs, as at initialisation; with
    a single output, a loss whose gradient is independent from example to example.

    Args:
        widths: N_0, ..., N_L: inputs, then the neurons of each layer; the last are the classes.
        activation: φ, between the layers.
        sigma_w: Weights have variance sigma_w^2 / fan-in.
        sigma_b: Standard deviation of the biases.
        q_input: Mean square of the inputs.
        correlation: Of two different inputs, in [0, 1]; images normalised to mean 0 have about 0 to 0.4.
        examples: How many the loss is averaged over. The patterns are those of a large batch, or of a single example.
        agreement: Networks of one kind differ in how far the gradients of their examples agree, which few classes
            decide: 0.5 is the median network, 0.9 one that agrees more than nine in ten.

    Returns:
        An entry for each layer, from the first to the last.

    Raises:
        InputError: A number is out of range, or the variance diverges.

    Example:
        >>> layers = signals([100, 100, 100, 10], "relu", 2**0.5, 0.0, examples=1)
        >>> [round(layer.q, 6) for layer in layers], round(layers[0].gradient / layers[1].gradient, 6)
        ([2.0, 2.0, 2.0], 1.0)
    """
    widths, examples = check_widths(widths), check_examples(examples)
    phi = resolved(activation)
    sigma_w, sigma_b = check_scale("sigma_w", sigma_w), check_scale("sigma_b", sigma_b)
    q_input, correlation = check_scale("q_input", q_input), check_share("correlation", correlation)
    agreement = check_share("agreement", agreement)
    # With a single example every neuron is known by its own y, as if the batch shared all of it.
    shared = 1.0 if examples == 1 else correlation
    depth = len(widths) - 1
    inputs = [_linear(q_input, shared)]
    slopes: list[Pattern] = []
    qs, cs = [], []
    for layer in range(depth):
        q = sigma_b**2 + sigma_w**2 * inputs[-1].same
        c = min(1.0, (sigma_b**2 + sigma_w**2 * inputs[-1].cross) / q) if q > 0 else 1.0
        c = 1.0 if c > 1 - 1e-12 else max(c, 0.0)
        qs.append(q)
        cs.append(c)
        if layer < depth - 1:
            finite_moments(phi, q)
            value, slope = _patterns(phi, q, c)
            inputs.append(value)
            slopes.append(slope)
    output = output_gradient(widths[-1], qs[-1], cs[-1], examples)
    same, cross = output.same, output.cross(examples, agreement)
    slopes.append(_CONSTANT)
    scale = 0.0  # log of what same and cross have been divided by
    found = []
    for layer in range(depth - 1, -1, -1):
        value, slope = inputs[layer], slopes[layer]
        last = layer == depth - 1
        spread, weights = _output_spread(output, value) if last else _spread(same, cross, slope, value, examples)
        own, between = same * slope.same, cross * slope.cross
        moment = (own * value.same + (examples - 1) * between * value.cross) / examples
        if not (own > 0 and moment > 0 and sigma_w > 0):
            raise InputError("a score moment is 0: weights, inputs and the activation's slope must not vanish")
        found.append(
            LayerSignal(
                widths[layer],
                widths[layer + 1],
                qs[layer],
                cs[layer],
                scale + math.log(own),
                between / own,
                scale + 2 * math.log(sigma_w) - math.log(widths[layer]) + math.log(moment),
                "normal" if last else "product",
                spread / float(weights @ spread),
                weights,
            )
        )
        scale += 2 * math.log(sigma_w) + math.log(widths[layer + 1] / widths[layer]) + math.log(own)
        same, cross = 1.0, between / own
    return found[::-1]


def _spread(same: float, cross: float, slope: Pattern, value: Pattern, examples: int) -> tuple[Array, Array]:
    """How the gradient's second moment depends on the patterns of the output neuron and the input neuron."""
    table = same * np.outer(slope.square, value.square)
    table += (examples - 1) * cross * np.outer(slope.mean**2, value.mean**2)
    return np.maximum(table.reshape(-1), 0.0), np.outer(slope.weights, value.weights).reshape(-1)


@functools.cache
def _nodes(kinks: tuple[float, ...] = ()) -> tuple[Array, Array]:
    breaks = np.unique(np.concatenate([[-_REACH, -3.5, -1.5, 0.0, 1.5, 3.5, _REACH], [k for k in kinks if abs(k) < 7]]))
    points, weights = rule(breaks[:-1], breaks[1:])
    mass = (weights * density(points)).reshape(-1)
    return points.reshape(-1), mass / mass.sum()


@functools.lru_cache(maxsize=1 << 14)  # A few kB each: a deep network is followed several times.
def _patterns(phi: Activation, q: float, c: float) -> tuple[Pattern, Pattern]:
    """The patterns of φ(y) and φ'(y) at variance q and correlation c."""
    root = math.sqrt(q)
    z, weights = _nodes(tuple(k / root for k in phi.kinks) if root > 0 else ())
    breaks = mesh(phi, max(q, 1e-24)).breaks

    def pattern(function: Function) -> Pattern:
        square = smoothed(lambda t: np.asarray(function(root * t) ** 2), breaks, math.sqrt(c))(z)
        return Pattern(square, smoothed(lambda t: function(root * t), breaks, math.sqrt(c))(z), weights)

    return pattern(phi.function), pattern(phi.derivative)


def _linear(q: float, c: float) -> Pattern:
    z, weights = _nodes()
    return Pattern(q * ((1 - c) + c * z**2), math.sqrt(q * c) * z, weights)


_CONSTANT = Pattern(np.ones(1), np.ones(1), np.ones(1))


def _output_spread(output: OutputGradient, value: Pattern) -> tuple[Array, Array]:
    """How the squared gradient of the last layer's weights is spread: its few classes are no sample of a normal law.

    Given the input neuron, Σ_b δ_b φ_b has the mean Σδ E[φ|z] and the variance Σδ^2 Var[φ|z].
    """
    # The trapezoidal rule: a Gaussian one of as many nodes as are affordable puts a heavy one where the gradient is 0.
    node = np.arange(-5.0, 5.01, 0.25)
    chance = density(node)
    mean = np.outer(output.sums, value.mean)
    deviation = np.sqrt(np.outer(output.squares, np.maximum(value.square - value.mean**2, 0.0)))
    squares = (mean[..., None] + deviation[..., None] * node) ** 2
    weights = np.broadcast_to(value.weights[:, None] * (chance / chance.sum()) / len(output.sums), squares.shape)
    return squares.reshape(-1), weights.reshape(-1)
