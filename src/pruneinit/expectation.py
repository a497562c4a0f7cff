"""What mean-field theory expects of a real network, from the scales of its own weights and biases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from torch import Tensor, nn

from pruneinit.detect import find_activation
from pruneinit.errors import InputError
from pruneinit.meanfield import ActivationSpec, correlation_map, moments
from pruneinit.meanfield import activation as resolved
from pruneinit.propagation import Signal
from pruneinit.weights import listed, owner, weight

# What a plain stack is made of, besides weights and activations: nothing that changes a signal.
_PASSIVE = (nn.Flatten, nn.Dropout, nn.Identity, nn.Unflatten)


def expected_signals(
    model: nn.Module, measured: Mapping[str, Signal], activation: ActivationSpec | None = None
) -> dict[str, Signal]:
    """What a wide random network with the same scales does to the output of this one's first layer.

    Args:
        model: Any module.
        measured: Its `signals`: the theory starts from the first layer.
        activation: Of the model; None to read it off the activation modules.

    Returns:
        For each layer the second moment without bias, and the correlation. Empty where the model is no plain stack of
        linear layers or convolutions and one activation, where the activation cannot be told, or a number overflows.

    Raises:
        InputError: `activation` is given and wrong.

    Example:
        >>> import torch
        >>> from pruneinit.propagation import signals
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> x, y = torch.randn(16, 4), torch.zeros(16, dtype=torch.long)
        >>> list(expected_signals(model, signals(model, [(x, y)])))
        ['0.weight', '2.weight']
    """
    given = None if activation is None else resolved(activation)  # a name that is not known is told, not passed over
    first = next(iter(measured.values()), None)
    if first is None or not _is_plain(model) or not 0 < first.second_moment < math.inf:
        return {}
    try:
        phi = find_activation(model) if given is None else given
        known = listed(model)
        scales = [
            (float(weight(model, name).detach().double().square().mean()) * known[name].fan_in, _bias(model, name))
            for name in measured
        ]
        q, c = first.second_moment, first.correlation
        found = [Signal(q, c, None)]
        for (_, bias), (variance, _) in itertools.pairwise(scales):
            whole = q + bias
            # The bias is the same for all examples; what is measured is without it.
            between = None if c is None else min(1.0, max(-1.0, (c * q + bias) / whole))
            q = variance * moments(phi, whole).square
            if not 0 < q < math.inf:
                return {}
            c = None if between is None else correlation_map(phi, 1.0, 0.0, between, whole)
            found.append(Signal(q, c, None))
    except InputError:
        return {}
    return dict(zip(measured, found, strict=True))


def _bias(model: nn.Module, name: str) -> float:
    """The mean square of the bias of a weight's layer."""
    bias = getattr(owner(model, name)[0], "bias", None)
    return float(bias.detach().double().square().mean()) if isinstance(bias, Tensor) else 0.0


def _is_plain(model: nn.Module) -> bool:
    if not isinstance(model, nn.Sequential):
        return False
    inner = [module for module in model.modules() if not isinstance(module, nn.Sequential)]
    weighted = {id(owner(model, name)[0]) for name in listed(model)}
    activations = nn.modules.activation.__name__
    return all(
        id(module) in weighted or isinstance(module, _PASSIVE) or type(module).__module__ == activations
        for module in inner
    ) and not any(isinstance(module, nn.MultiheadAttention) for module in inner)
