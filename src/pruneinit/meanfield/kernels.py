"""Score moments of convolutional and residual stacks: covariances between positions, forward and backward.

The recursion of `ensembles`, for arrays: K[p, p'] is the covariance of pre-activations of one channel at two positions
of an image (or of two images), E[φφ] and E[φ'φ'] are taken entry by entry, and a convolution is a mean over its taps of
shifted arrays (Xiao et al. 2018; Hayou et al. 2021, section 3). A fully connected network is the case of one position.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.activations import Activation
from pruneinit.meanfield.checks import check_examples, check_scale, check_share, check_widths
from pruneinit.meanfield.gaussian import exponential, finite_moments, mesh
from pruneinit.meanfield.outputs import OutputGradient, output_gradient
from pruneinit.meanfield.quadrature import Array, density
from pruneinit.meanfield.shapes import Shape
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved

_MOST_BYTES = 1 << 33  # 8 GB
_TERMS = 200  # Of the Hermite series; what is left of it is known in sum, and put at 1.5 times the last degree.


@dataclass(frozen=True)
class StackLayer:
    """One layer of a stack.

    Attributes:
        fan_in: What an output sums over.
        size: How many weights it has.
        q: Variance of its output, the mean over positions.
        log_gradient: log of the second moment of the loss's gradient with respect to its output, mean over positions.
        log_moment: log m^l of its SBP scores.
    """

    fan_in: int
    size: int
    q: float
    log_gradient: float
    log_moment: float

    @property
    def moment(self) -> float:
        """m^l; 0 or infinite where float64 cannot hold it."""
        return exponential(self.log_moment)


def stack_signals(
    widths: Sequence[int],
    activation: ActivationSpec,
    sigma_w: float,
    sigma_b: float,
    shape: Shape,
    *,
    q_input: float = 1.0,
    correlation: float = 0.0,
    examples: int = 1,
    agreement: float = 0.5,
) -> list[StackLayer]:
    """Follow a batch through a wide convolutional or residual stack and its gradient back.

    The network is widths[1] channels to widths[-2] channels of convolutions (or fully connected layers), then one
    linear layer on the flattened result. Input pixels are independent of each other.

    Args:
        widths: Channels: of the input, of each layer, and at last the classes.
        activation: φ, between the layers.
        sigma_w: Weights have variance sigma_w^2 / fan-in.
        sigma_b: Standard deviation of the biases.
        shape: Convolutions, padding, residual branches.
        q_input: Mean square of the inputs.
        correlation: Of two different inputs at the same position, in [0, 1].
        examples: How many the loss is averaged over.
        agreement: As for `signals`.

    Returns:
        An entry for each layer. Memory and time grow with the square of the number of positions.

    Raises:
        InputError: A number is out of range, the variance diverges, or residual layers differ in width.

    Example:
        >>> plain, stable = (
        ...     stack_signals([8] + [64] * 16 + [10], "relu", 2**0.5, 0.0, Shape(residual=kind))
        ...     for kind in ("plain", "stable")
        ... )
        >>> plain[-2].q / plain[0].q > 1e4, stable[-2].q / stable[0].q < 3
        (True, True)
    """
    widths, examples = check_widths(widths), check_examples(examples)
    phi = resolved(activation)
    sigma_w, sigma_b = check_scale("sigma_w", sigma_w), check_scale("sigma_b", sigma_b)
    q_input, correlation = check_scale("q_input", q_input), check_share("correlation", correlation)
    agreement = check_share("agreement", agreement)
    if not isinstance(shape, Shape):
        raise InputError(f"shape must be a Shape, got {shape!r}")
    need = 4 * 8 * shape.positions**2 * len(widths)  # two covariances of the inputs and two of the outputs, each layer
    if need > _MOST_BYTES:
        raise InputError(
            f"{shape.positions:,} positions and {len(widths) - 1} layers need {need / 1e9:,.0f} GB: take a smaller size"
        )
    follow = _followed(tuple(widths), phi, sigma_w, sigma_b, shape, q_input, correlation, examples)
    cross = follow.output.cross(examples, agreement)
    found = []
    for way in follow.layers:
        moment = way.same + (examples - 1) * cross * way.cross
        if not moment > 0:
            raise InputError("a score moment is 0 or infinite: change sigma_w, or take fewer layers")
        found.append(StackLayer(way.fan_in, way.size, way.q, way.log_gradient, way.log_scale + math.log(moment)))
    return found


class _Way(NamedTuple):
    """A layer of a stack, before it is known how far the gradients of two examples agree, in which m^l is linear."""

    fan_in: int
    size: int
    q: float
    log_gradient: float
    log_scale: float  # of both parts of the moment:
    same: float  # from one example,
    cross: float  # and from two, where their gradients at the output have the covariance 1.


class _Follow(NamedTuple):
    output: OutputGradient
    layers: tuple[_Way, ...]


@functools.lru_cache(maxsize=4)  # Networks that differ in `agreement` alone are followed once.
def _followed(
    widths: tuple[int, ...],
    phi: Activation,
    sigma_w: float,
    sigma_b: float,
    shape: Shape,
    q_input: float,
    correlation: float,
    examples: int,
) -> _Follow:
    """One pass forward and one back."""
    branches = len(widths) - 3  # layers 2 to L - 1
    if shape.residual != "none" and len(set(widths[1:-1])) > 1:
        raise InputError(f"residual layers must have equal widths, got {list(widths[1:-1])}")
    if sigma_w == 0 or q_input == 0:
        raise InputError("a score moment is 0: weights, inputs and the activation's slope must not vanish")
    part = 1 / branches if shape.residual == "stable" and branches > 0 else 1.0  # the branch's factor, squared
    points = shape.positions
    pairs = [np.eye(points) * q_input, np.eye(points) * q_input * correlation]  # one example, two examples
    ys: list[list[Array]] = []
    inputs: list[list[Array]] = []
    for layer in range(len(widths) - 2):
        inputs.append(pairs)
        fresh = [sigma_b**2 + sigma_w**2 * _mean_over_taps(pair, shape) for pair in pairs]
        shortcut = layer > 0 and shape.residual != "none"
        ys.append([y + part * z for y, z in zip(ys[-1], fresh, strict=True)] if shortcut else fresh)
        pairs = list(_duals(phi, ys[-1], derivative=False))
    inputs.append(pairs)
    if not np.trace(pairs[0]) > 0:
        raise InputError("the variance is 0 at the output: without biases, nothing reaches it")
    logits = [sigma_b**2 + sigma_w**2 * float(np.trace(pair)) / points for pair in pairs]
    output = output_gradient(widths[-1], logits[0], min(1.0, logits[1] / logits[0]), examples)
    same = output.same
    fan_in = widths[-2] * points
    log_weight = 2 * math.log(sigma_w) - math.log(examples)
    own, between = (float(np.trace(pair)) / points for pair in pairs)
    found = [
        _Way(
            fan_in,
            fan_in * widths[-1],
            logits[0],
            math.log(same),
            log_weight - math.log(fan_in),
            same * own,
            between,
        )
    ]
    back = sigma_w**2 * widths[-1] / fan_in
    signal = [np.eye(points) * back * same, np.eye(points) * back]
    through = [np.zeros((points, points))] * 2  # what the shortcuts bring
    scale = 0.0
    for layer in range(len(widths) - 3, -1, -1):
        gradient = [t + h * d for t, h, d in zip(through, signal, _duals(phi, ys[layer], derivative=True), strict=True)]
        size = float(np.trace(gradient[0])) / points
        if not (size > 0 and math.isfinite(size)):
            raise InputError("a score moment is 0 or infinite: change sigma_w, or take fewer layers")
        scale, gradient = scale + math.log(size), [g / size for g in gradient]
        shortcut = layer > 0 and shape.residual != "none"
        weight = part if shortcut else 1.0
        fan_in = widths[layer] * shape.kernel
        own, between = (
            float((g * _mean_over_taps(x, shape)).sum()) for g, x in zip(gradient, inputs[layer], strict=True)
        )
        found.append(
            _Way(
                fan_in,
                fan_in * widths[layer + 1],
                float(np.trace(ys[layer][0])) / points,
                scale,
                scale + log_weight + math.log(weight / fan_in),
                own,
                between,
            )
        )
        factor = weight * sigma_w**2 * widths[layer + 1] / widths[layer]
        signal = [factor * _mean_over_taps(g, shape) for g in gradient]
        through = gradient if shortcut else [np.zeros_like(g) for g in gradient]
    return _Follow(output, tuple(found[::-1]))


def _mean_over_taps(pair: Array, shape: Shape) -> Array:
    """The mean over the taps β of K[p + β, p' + β], its own adjoint; beyond a border of zeros there is nothing."""
    if shape.kernel == 1:
        return pair
    size = shape.size
    array = pair.reshape(*size, *size)
    total = np.zeros_like(array)
    for shift in itertools.product(range(-(shape.taps // 2), shape.taps // 2 + 1), repeat=len(size)):
        if shape.padding == "zeros" and any(abs(s) >= n for s, n in zip(shift, size, strict=True)):
            continue  # A tap that is beyond the border at every position.
        if shape.padding == "circular":
            total += np.roll(array, (*shift, *shift), axis=tuple(range(2 * len(size))))
        else:
            to = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip((*shift, *shift), (*size, *size), strict=True))
            at = tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip((*shift, *shift), (*size, *size), strict=True))
            total[to] += array[at]
    return np.asarray(total.reshape(pair.shape) / shape.kernel)


def _duals(phi: Activation, pairs: Sequence[Array], *, derivative: bool) -> Iterator[Array]:
    """E[f(y_p) f(y_p')] for f = φ or φ', for one example and for two, from their covariances.

    A Hermite series in the correlation: Σ a_k(q) a_k(q') c^k. On the diagonal of the first c is 1, and the sum known.
    """
    variances, place = np.unique(np.diag(pairs[0]), return_inverse=True)
    if variances[0] <= 0:
        raise InputError("the variance is 0 at some position: without biases, nothing reaches it")
    rows = [_coefficients(phi, float(q), derivative) for q in variances]
    series, rest = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    root = np.sqrt(np.diag(pairs[0]))
    for number, pair in enumerate(pairs):
        c = np.clip(pair / np.outer(root, root), -1, 1)
        total = np.outer(rest, rest)[place][:, place] * c ** (3 * _TERMS // 2)
        power = np.ones_like(c)
        for k in range(_TERMS):
            a = series[place, k]
            total += np.outer(a, a) * power
            power = power * c
        if number == 0:
            np.fill_diagonal(total, (series**2).sum(1)[place] + rest[place] ** 2)
        yield total


@functools.lru_cache(maxsize=4096)
def _coefficients(phi: Activation, q: float, derivative: bool) -> tuple[Array, float]:
    """The first coefficients of f(sqrt(q) Z) in normalised Hermite polynomials, and the norm of what is left."""
    square, slope, _ = finite_moments(phi, q)
    rule = mesh(phi, q)
    z = rule.points.reshape(-1)
    weights = (rule.weights * density(rule.points) * rule.values[int(derivative)]).reshape(-1)
    found = np.empty(_TERMS)
    before, now = np.zeros_like(z), np.ones_like(z)
    for k in range(_TERMS):
        found[k] = weights @ now
        before, now = now, (z * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    left = (slope if derivative else square) - float(found @ found)
    return found, math.sqrt(max(left, 0.0))
