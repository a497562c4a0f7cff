"""Second moments of the pruning scores in wide fully connected networks, layer by layer.

For y^l = W^l φ(y^{l-1}) + B^l with widths N_0 (inputs) to N_L (outputs), in the units of the last layer:
m^l = E[(W^l ∂L/∂W^l)^2] = (sigma_w^2 / N_{l-1}) E[φ(y^{l-1})^2] q̃^l, where q̃^l = E[(∂L/∂y^l)^2] obeys
q̃^l = (N_{l+1} / N_l) sigma_w^2 E[φ'(y^l)^2] q̃^{l+1} (Hayou et al. 2021, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pruneinit.errors import InputError
from pruneinit.meanfield.checks import check_widths
from pruneinit.meanfield.gaussian import check_number, finite_moments
from pruneinit.meanfield.spec import ActivationSpec
from pruneinit.meanfield.spec import activation as resolved


def forward_variances(
    widths: Sequence[int], activation: ActivationSpec, sigma_w: float, sigma_b: float, q_input: float = 1.0
) -> list[float]:
    """The variances q^1, ..., q^L of the pre-activations.

    Args:
        widths: N_0, ..., N_L: inputs, then the neurons of each layer.
        activation: φ, between the layers.
        sigma_w: Weights have variance sigma_w^2 / fan-in.
        sigma_b: Standard deviation of the biases.
        q_input: Mean square of the inputs.

    Raises:
        InputError: Fewer than two widths, one below 1, or numbers for which the variance diverges.

    Example:
        >>> [round(q, 9) for q in forward_variances([10, 100, 100], "relu", 2**0.5, 0.0)]
        [2.0, 2.0]
    """
    check_widths(widths)
    phi = resolved(activation)
    weights, biases = check_number("sigma_w", sigma_w) ** 2, check_number("sigma_b", sigma_b) ** 2
    variances = [biases + weights * check_number("q_input", q_input)]
    while len(variances) < len(widths) - 1:
        variances.append(biases + weights * finite_moments(phi, variances[-1]).square)
    return variances


def snip_moments(
    widths: Sequence[int], activation: ActivationSpec, sigma_w: float, sigma_b: float, q_input: float = 1.0
) -> list[float]:
    """The second moments m^1, ..., m^L of the sensitivity score, in units of m^L.

    With equal widths m^l behaves as χ^(L-l): it is bounded away from 0 and infinity only on the Edge of Chaos. These
    are the moments for a single example; a batch averages gradients first, and its moments also depend on how the
    examples are correlated.

    Args:
        widths: As for `forward_variances`, and so are the rest.
        activation: φ.
        sigma_w: Weight scale.
        sigma_b: Bias scale.
        q_input: Mean square of the inputs.

    Raises:
        InputError: As `forward_variances`, or a moment is 0, as without weights.

    Example:
        >>> [round(m, 3) for m in snip_moments([100, 100, 100, 100], "relu", 2**0.5, 0.0)]
        [1.0, 1.0, 1.0]
    """
    variances = forward_variances(widths, activation, sigma_w, sigma_b, q_input)
    phi = resolved(activation)
    inputs = [q_input] + [finite_moments(phi, q).square for q in variances[:-1]]  # E[φ(y^{l-1})^2]
    # In logarithms, since far off the edge the moments of a deep network span more than float64 does.
    logs = [0.0] * len(variances)
    gradient = 0.0
    for layer in range(len(variances) - 1, -1, -1):
        if layer < len(variances) - 1:
            slope = sigma_w**2 * finite_moments(phi, variances[layer]).slope
            gradient += _log(widths[layer + 2] / widths[layer + 1] * slope)
        logs[layer] = _log(sigma_w**2 / widths[layer] * inputs[layer]) + gradient
    return [math.exp(min(log - logs[-1], 700.0)) for log in logs]


def magnitude_moments(widths: Sequence[int], sigma_w: float) -> list[float]:
    """The second moments of the weights themselves, sigma_w^2 / N_{l-1}.

    Example:
        >>> magnitude_moments([10, 100, 100], 1.0)
        [0.1, 0.01]
    """
    check_widths(widths)
    return [check_number("sigma_w", sigma_w) ** 2 / width for width in widths[:-1]]


def conditioning(moments: Sequence[float]) -> float:
    """The largest second moment over the smallest: how ill-conditioned one global threshold is.

    Example:
        >>> conditioning([1.0, 4.0, 2.0])
        4.0
    """
    return max(moments) / min(moments) if min(moments) > 0 else math.inf


def _log(value: float) -> float:
    if value <= 0:
        raise InputError("a score moment is 0: weights, inputs and the activation's slope must not vanish")
    return math.log(value)
