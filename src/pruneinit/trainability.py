"""What of a network could tell, before any training, whether it will train: one number for each idea."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pruneinit.batch import require_tensors
from pruneinit.functional import Norm, fitting, scoring_mode
from pruneinit.neurons import alive, count
from pruneinit.propagation import Signal, chi_hat, inner_gradients, signals
from pruneinit.reach import effective_masks
from pruneinit.reparametrize import stored
from pruneinit.survivors import current_masks
from pruneinit.tangent import EXAMPLES, couples, kernel_of, learnable
from pruneinit.weights import layers, listed

MEASURES: Mapping[str, str] = {
    "moment": "second moment of the last layer's output, over the dense network's",
    "decorrelation": "1 less the mean absolute correlation of two inputs in the last hidden layer",
    "rank": "effective rank of the last hidden activations",
    "alive": "neurons on a path from input to output, the fewest of any hidden layer",
    "gradient": "gradient square at the first inner layer, over the last one's",
    "chi": "growth of the gradient square per layer on its way back",
    "conditioning": "largest score moment m^l over the smallest, inner layers",
    "jacobian_max": "largest singular value of the input-output Jacobian",
    "jacobian_min": "smallest singular value of the input-output Jacobian",
    "jacobian_rank": "effective rank of the input-output Jacobian",
    "update": "norm of the gradient over that of the weights, the smallest of any layer",
    "kernel": "mean diagonal of the neural tangent kernel",
    "kernel_rank": "effective rank of the neural tangent kernel",
    "kernel_condition": "condition number of the neural tangent kernel",
    "learnable": "share of the labels of 16 examples that 1000 steps learn, linearised",
}
"""What `trainability` measures, in words."""


def trainability(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    *,
    dense: Mapping[str, float] | None = None,
    norm: Norm | None = None,
    examples: int = 4,
) -> dict[str, float | None]:
    """Measure a network that is about to be trained by cross entropy, in float64; the model is left as it was.

    Inner layers are those without the first and the last, whose sizes and inputs are special. The score moment of a
    layer is the mean of (W ∂L/∂W)² over the weights that are left. An effective rank is the participation ratio
    (Σ s²)² / Σ s⁴ of singular values s; those of the Jacobian are means over `examples`. The neural tangent kernel is
    that of all outputs on `examples`, of all parameters.

    Args:
        model: A classifier of few parameters, pruned and rescaled: a gradient for each output on each of `examples` is
            held at a time.
        batch: Inputs and labels, a few hundred, on the model's device.
        dense: The second moments of the layers before pruning, as `second_moments` gives them, for `moment`.
        norm: Which statistics batch normalisation uses, as for the criteria.
        examples: How many inputs, the first of the batch, to take the Jacobian and the kernel on.

    Returns:
        A number for each name in `MEASURES`; None where it is not finite or does not exist, for lack of inner layers or
        of a signal. Where the outputs are not finite, only `alive` is known.

    Raises:
        InputError: The batch is of NumPy arrays or does not fit the model, or `norm` is missing where it matters.

    Example:
        >>> from pruneinit.models import build
        >>> torch.manual_seed(0)
        <torch...
        >>> model = build("mlp", input_shape=(1, 4, 4), classes=3, depth=4, width=8, activation="tanh")
        >>> found = trainability(model, (torch.randn(16, 1, 4, 4), torch.randint(3, (16,))))
        >>> found["alive"], found["moment"], round(found["jacobian_rank"], 1) <= 3
        (8.0, None, True)
    """
    require_tensors("the batch", batch)
    model = copy.deepcopy(model).double()
    x, y = batch[0].double(), batch[1]
    with scoring_mode(model, norm):
        with fitting((x, y)):
            hidden, logits = _last_hidden(model, x)
        found: dict[str, float] = {"alive": float(_fewest_alive(model, (x, y)))}
        if bool(logits.isfinite().all()):
            found |= _of_signals(signals(model, [(x, y)], norm=norm), dense)
            # Deep in the network it is the distance from 1 that tells; by rounding it may be below 0.
            found |= {"decorrelation": abs(1 - mean_correlation(hidden)), "rank": effective_rank(hidden)}
            found |= _of_gradients(model, functional.cross_entropy(logits, y))
            found |= _of_outputs(model, x[:examples])
            found |= _of_labels(model, x[:EXAMPLES], y[:EXAMPLES])
    known = {name: value for name, value in found.items() if math.isfinite(value)}
    return {name: known.get(name) for name in MEASURES}


def effective_rank(values: Tensor) -> float:
    """The participation ratio (Σ s²)² / Σ s⁴ of a matrix's singular values s; NaN where all are 0 or one is not finite.

    Example:
        >>> effective_rank(torch.eye(3)), round(effective_rank(torch.ones(3, 3)), 6)
        (3.0, 1.0)
    """
    return _participation(_singular(values.double().flatten(1)))


def mean_correlation(values: Tensor) -> float:
    """The mean |cosine| of two different rows of a matrix, of those that are not 0; NaN for fewer than two.

    Example:
        >>> mean_correlation(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0], [0.0, 0.0]]))
        0.3333333333333333
    """
    rows = values.double().flatten(1)
    norms = rows.norm(dim=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    number = len(rows)
    if number < 2:
        return math.nan
    return (float((rows @ rows.T).abs().sum()) - float(rows.square().sum())) / (number * (number - 1))


def _last_hidden(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer that runs last is given, and the outputs of the model."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = inputs[:1]

    modules = {id(module): module for found in listed(model).values() for _, module in layers(model, found)}
    handles = [module.register_forward_pre_hook(keep) for module in modules.values()]
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return (seen[0] if seen else x).detach(), logits


def _fewest_alive(model: nn.Module, batch: tuple[Tensor, Tensor]) -> int:
    """The neurons on a path of that layer, all but the last listed, which has fewest."""
    masks = effective_masks(model, [batch]) if current_masks(model) else {}
    hidden = list(listed(model).items())[:-1]
    counts = [int(alive(found, masks[n]).sum()) if n in masks else count(found) for n, found in hidden]
    return min(counts, default=0)


def _of_signals(found: Mapping[str, Signal], dense: Mapping[str, float] | None) -> dict[str, float]:
    last, inner, chi = list(found)[-1], inner_gradients(found), chi_hat(found)
    measured = {}
    if dense is not None and dense.get(last):
        measured["moment"] = found[last].second_moment / dense[last]
    if len(inner) > 1:
        measured["gradient"] = _ratio(inner[0], inner[-1])
    return measured | ({} if chi is None else {"chi": chi})


def _of_gradients(model: nn.Module, loss: Tensor) -> dict[str, float]:
    """What the gradients of the prunable parameters say, as optimizers see them: those of a rescaled layer carry ρ."""
    weights = [parameter for name in listed(model) if (parameter := stored(model, name)).numel()]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    pairs = list(zip(weights, gradients, strict=True))
    moments = [float((w.detach() * g).square().mean()) for w, g in pairs]
    found = {"update": min((_ratio(float(g.norm()), float(w.detach().norm())) for w, g in pairs), default=math.nan)}
    inner = moments[1:-1] if len(weights) == len(listed(model)) else []
    return found | ({"conditioning": _ratio(max(inner), min(inner))} if len(inner) > 1 else {})


def _of_outputs(model: nn.Module, x: Tensor) -> dict[str, float]:
    """The Jacobian and the neural tangent kernel, by one backward pass for all outputs of all examples together."""
    x = x.clone().requires_grad_()
    outputs = model(x)
    chosen = torch.eye(outputs.numel(), dtype=outputs.dtype, device=outputs.device).view(-1, *outputs.shape)
    wanted = [x, *(p for p in model.parameters() if p.requires_grad and p.numel())]
    to_input, *rest = torch.autograd.grad(
        outputs, wanted, chosen, is_grads_batched=True, allow_unused=True, materialize_grads=True
    )
    size, number = len(x), outputs.numel()
    # [example of the output, output, example of the input, ...]; an example's output depends on that example alone.
    jacobians = to_input.reshape(size, number // size, size, -1)[torch.arange(size), :, torch.arange(size)]
    values = [_singular(jacobian) for jacobian in jacobians]
    kernel = sum((part.flatten(1) @ part.flatten(1).T for part in rest), torch.zeros(()).to(outputs))
    own = _singular(kernel)  # of a kernel these are its eigenvalues
    return {
        "jacobian_max": sum(float(s[0]) for s in values) / size,
        "jacobian_min": sum(float(s[-1]) for s in values) / size,
        "jacobian_rank": sum(_participation(s) for s in values) / size,
        "kernel": float(kernel.diagonal().mean()),
        "kernel_rank": _participation(own, power=1),
        "kernel_condition": _ratio(float(own[0]), float(own[-1])),
    }


def _of_labels(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    parameters = [p for p in model.parameters() if p.requires_grad and p.numel()]
    found = kernel_of(model, x, y, parameters, coupled=couples(model))
    return {} if found is None else {"learnable": learnable(*found)}


def _singular(values: Tensor) -> Tensor:
    """Singular values, falling, and 0 where they are rounding alone; NaN where a value is not finite."""
    if not bool(values.isfinite().all()):
        return values.new_full((min(values.shape),), math.nan)
    found = torch.linalg.svdvals(values)
    noise = found[0] * max(values.shape) * torch.finfo(values.dtype).eps
    return torch.where(found > noise, found, 0.0)


def _participation(values: Tensor, power: int = 2) -> float:
    """(Σ v^power)² / Σ v^(2 power), with the largest value as 1 so that powers neither vanish nor overflow."""
    shares = (values / values.max()) ** power
    return float(shares.sum().square() / shares.square().sum())


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.nan
