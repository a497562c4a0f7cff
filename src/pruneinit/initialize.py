"""Random weights with the scale that mean-field theory asks for: on the Edge of Chaos, or in either phase.

Everything here works in place on the weights that can be pruned and their biases, sets normalisation layers to the
identity, and touches nothing else: no embeddings, no recurrent layers, no other parameters, and with a generator no
global random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from pruneinit.detect import find_activation
from pruneinit.draw import delta_orthogonal, normal, orthogonal
from pruneinit.errors import InputError
from pruneinit.layouts import leaves
from pruneinit.meanfield import ActivationSpec, default_sigma_b, edge_of_chaos
from pruneinit.meanfield import activation as resolved
from pruneinit.meanfield.gaussian import check_number
from pruneinit.weights import Weight, owner, prunable, uncompiled

_RUNNING_NORMS = nn.modules.batchnorm._NormBase  # Every batch and instance normalisation, lazy ones too.
NORMS = (_RUNNING_NORMS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers that normalise."""

Draw = Callable[[Weight, Generator, torch.dtype], Tensor]
"""From a weight, a generator and a data type to its values, of the weight's shape."""


def edge_of_chaos_(
    model: nn.Module,
    activation: ActivationSpec | None = None,
    *,
    sigma_b: float | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """Draw Gaussian weights and biases on the Edge of Chaos, in place ("Robust Pruning at Initialization", 2021).

    Weights are N(0, sigma_w^2 / fan-in), biases of the same layers N(0, sigma_b^2); sigma_w follows from the
    activation and sigma_b (see `pruneinit.meanfield.edge_of_chaos`). Normalisation layers become the identity.
    Initialise before pruning, and before `stabilize_residuals_`.

    Args:
        model: Any module.
        activation: A name, a `torch.nn` module or any elementwise function; None to read it off the activation
            modules of `model` (functions called in `forward` cannot be seen).
        sigma_b: Standard deviation of the biases. None: 0 for scale-free activations (ReLU, leaky ReLU, identity),
            0.2 for tanh and its like, and more (0.5 or 1) for those whose variance is unstable at 0.2, such as GELU and
            SiLU: see `pruneinit.meanfield.default_sigma_b`.
        generator: Where the numbers come from: the same seed gives the same weights. None draws from PyTorch's
            global one, as `torch.nn.init` does.

    Returns:
        `model`.

    Raises:
        InputError: The model has no weights, its activation cannot be told, or a tensor is parametrised already
            (pruned, rescaled, weight-normalised). `NoEdgeOfChaos` where the theory has none for these numbers. The
            model is then unchanged.

    Example:
        >>> model = nn.Sequential(nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 10))
        >>> model = edge_of_chaos_(model, generator=torch.Generator().manual_seed(0))
        >>> round(model[0].weight.std().item() * 784**0.5, 2), model[0].bias.abs().max().item()  # sqrt(2), 0
        (1.41, 0.0)
    """
    return mean_field_(model, *edge(model, activation, sigma_b), generator=generator)


def mean_field_(model: nn.Module, sigma_w: float, sigma_b: float, *, generator: Generator | None = None) -> nn.Module:
    """Draw weights N(0, sigma_w^2 / fan-in) and biases N(0, sigma_b^2), in place: any phase, ordered or chaotic.

    Args:
        model: Any module.
        sigma_w: Standard deviation of the weights times sqrt(fan-in), above 0.
        sigma_b: Standard deviation of the biases, at least 0.
        generator: As in `edge_of_chaos_`.

    Returns:
        `model`, with its normalisation layers set to the identity.

    Raises:
        InputError: A number is out of range, the model has no weights, or a tensor is parametrised already.

    Example:
        >>> model = mean_field_(nn.Linear(1000, 1000), 1.5, 0.1, generator=torch.Generator().manual_seed(0))
        >>> round(model.weight.std().item() * 1000**0.5, 1), round(model.bias.std().item(), 1)
        (1.5, 0.1)
    """

    def draw(weight: Weight, generator: Generator, dtype: torch.dtype) -> Tensor:
        return normal(weight.shape, generator, dtype) * (sigma_w / math.sqrt(weight.fan_in))

    return initialize_(model, draw, sigma_w, sigma_b, generator)


def orthogonal_(
    model: nn.Module,
    activation: ActivationSpec | None = None,
    *,
    sigma_b: float | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """Draw (semi-)orthogonal weights on the Edge of Chaos, in place (Saxe et al., 2014; Pennington et al., 2017).

    Each weight is a Haar-random matrix with orthonormal rows (or columns, whichever are fewer), outputs x fan-in
    with the taps of a convolution in the fan-in, one matrix a group and an attention projection. It is scaled so that
    its entries have variance sigma_w^2 / fan-in: each output then keeps the second moment sigma_w^2 times the mean
    square of its inputs, as with Gaussian weights. Biases and normalisation as in `edge_of_chaos_`.

    Args:
        model: Any module.
        activation: As in `edge_of_chaos_`.
        sigma_b: As in `edge_of_chaos_`.
        generator: As in `edge_of_chaos_`.

    Returns:
        `model`.

    Raises:
        InputError: As in `edge_of_chaos_`.

    Example:
        >>> model = orthogonal_(nn.Linear(4, 4), "linear", generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(model.weight @ model.weight.T, torch.eye(4), atol=1e-6)
        True
    """
    sigma_w, sigma_b = edge(model, activation, sigma_b)

    def draw(weight: Weight, generator: Generator, dtype: torch.dtype) -> Tensor:
        return sigma_w * orthogonal(weight, generator, dtype)

    return initialize_(model, draw, sigma_w, sigma_b, generator)


def delta_orthogonal_(
    model: nn.Module,
    activation: ActivationSpec | None = None,
    *,
    sigma_b: float | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """As `orthogonal_`, with all of a convolution on its centre tap and 0 elsewhere (Xiao et al., 2018).

    Each output then has the second moment sigma_w^2 times the mean square of its input channels, at every position and
    without loss at the border. A tap counts as the centre at index kernel // 2 of each axis. A transposed convolution
    with a stride would leave most positions with nothing but the bias and is drawn as by `orthogonal_`. Mind that most
    weights are 0, so that criteria which multiply by the weight score most of them 0.

    Args:
        model: Any module.
        activation: As in `edge_of_chaos_`.
        sigma_b: As in `edge_of_chaos_`.
        generator: As in `edge_of_chaos_`.

    Returns:
        `model`.

    Raises:
        InputError: As in `edge_of_chaos_`.

    Example:
        >>> model = delta_orthogonal_(nn.Conv2d(4, 8, 3), "relu", generator=torch.Generator().manual_seed(0))
        >>> int(model.weight.count_nonzero()), bool((model.weight[:, :, 1, 1] != 0).all())
        (32, True)
    """
    sigma_w, sigma_b = edge(model, activation, sigma_b)

    def draw(weight: Weight, generator: Generator, dtype: torch.dtype) -> Tensor:
        strided = any(n > 1 for n in getattr(owner(model, weight.name)[0], "stride", ()))
        centred = weight.kind == "conv" or (weight.kind == "conv_transpose" and not strided)
        return sigma_w * (delta_orthogonal if centred else orthogonal)(weight, generator, dtype)

    return initialize_(model, draw, sigma_w, sigma_b, generator)


def edge(model: nn.Module, activation: ActivationSpec | None, sigma_b: float | None) -> tuple[float, float]:
    """The sigma_w and sigma_b of the Edge of Chaos, with the activation read off the model where it is None."""
    phi = find_activation(model) if activation is None else resolved(activation)
    sigma_b = default_sigma_b(phi) if sigma_b is None else sigma_b
    return edge_of_chaos(phi, sigma_b).sigma_w, sigma_b


def initialize_(model: nn.Module, draw: Draw, sigma_w: float, sigma_b: float, generator: Generator | None) -> nn.Module:
    """Draw the weights by `draw` and the biases by `sigma_b`, and set normalisation to the identity, in place."""
    if check_number("sigma_w", sigma_w) == 0:
        raise InputError("sigma_w must be above 0, got 0")
    check_number("sigma_b", sigma_b)
    given, model = model, uncompiled(model)
    _refuse_changed(model)
    weights = drawn(model)
    generator = generator or torch.default_generator
    with torch.no_grad():
        for name, weight in weights.items():
            parameter = model.get_parameter(name)
            dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
            parameter.copy_(draw(weight, generator, dtype))
        # After all the weights, so that these do not depend on sigma_b or on which layers have a bias.
        for bias in _biases(model, weights):
            bias.copy_(sigma_b * normal(tuple(bias.shape), generator, torch.float32) + 0.0)
        for module in model.modules():
            if isinstance(module, NORMS):
                _reset_norm_(module)
    return given


def drawn(model: nn.Module) -> dict[str, Weight]:
    """What is drawn: what the gates of a recurrent layer do to a signal is another theory."""
    weights = {name: weight for name, weight in prunable(model).items() if weight.kind != "recurrent"}
    if not weights:
        raise InputError(
            "all weights of the model are recurrent, for which there is no Edge of Chaos here: leave them as they are"
        )
    return weights


def _refuse_changed(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if not leaves(module) and not isinstance(module, NORMS):
            continue
        # torch.nn.utils.prune, weight_norm and spectral_norm of old leave these names behind.
        hooked = any(name.endswith(("_orig", "_g")) for name in module._parameters)
        if hooked or parametrize.is_parametrized(module):
            raise InputError(
                f"{path or 'model'} is pruned, rescaled or parametrised already: initialize first, on the plain model"
            )


def _biases(model: nn.Module, weights: dict[str, Weight]) -> list[nn.Parameter]:
    """The biases of the layers that own `weights`, each once."""
    found: dict[int, nn.Parameter] = {}
    for weight in weights.values():
        for name in (weight.name, *weight.aliases):
            module, _ = owner(model, name)
            if leaves(module):  # A tied embedding has no bias of this kind.
                bias = module._parameters.get("in_proj_bias" if weight.kind == "attention" else "bias")
                if bias is not None:
                    found.setdefault(id(bias), bias)
    return list(found.values())


def _reset_norm_(norm: nn.Module) -> None:
    for name, value in (("weight", 1.0), ("bias", 0.0)):
        parameter = norm._parameters.get(name)
        if parameter is not None:
            parameter.fill_(value)
    if isinstance(norm, _RUNNING_NORMS):
        norm.reset_running_stats()
