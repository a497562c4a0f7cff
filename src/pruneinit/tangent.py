"""The neural tangent kernel of a network on a few examples: whether training can tell them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruneinit.batch import batch_size
from pruneinit.functional import Norm, call, scoring_mode
from pruneinit.reparametrize import stored
from pruneinit.seeds import derived

EXAMPLES = 4
OUTPUTS = 10
SAMPLE = 1_000_000
"""Of how many entries of a gradient products are taken; where there are more, of as many drawn at random."""


def kernel_condition(
    model: nn.Module,
    batch: Any,
    weights: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    *,
    norm: Norm | None = None,
) -> float | None:
    """The condition number of the neural tangent kernel of up to ten outputs on up to four examples.

    The kernel is that of all parameters that are trained, G Gᵀ of the gradients G of the outputs. Gradient descent
    learns along its eigenvectors, at the pace of the eigenvalues (Jacot, Gabriel, Hongler, "Neural Tangent Kernel",
    2018): where some are next to 0, the network cannot learn to tell these examples apart. A deep network that sends
    every input the same way has an infinite condition number.

    Cost: a backward pass on the examples for each output of each.

    Args:
        model: A network whose output on `batch[0]` is a tensor [examples, outputs].
        batch: Inputs and labels, of which the first few are taken.
        weights: The prunable weights as the forward pass is to see them, masked and rescaled.
        scales: What the gradient of each is to be multiplied by to be that of the parameter: its mask and fixed factor.
        norm: Which statistics batch normalisation uses, as for the criteria.

    Returns:
        At least 1; infinite where an eigenvalue is 0 to working precision. None where the model does not put out a
        tensor of examples and outputs, is not of floating-point numbers, or the outputs are not finite.

    Example:
        >>> model, x = nn.Linear(2, 2, bias=False), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> found = {"weight": model.weight.detach()}
        >>> kernel_condition(model, (x, torch.tensor([0, 1])), found, {"weight": torch.ones(2, 2)})
        4.0
    """
    part = pytree.tree_map(lambda leaf: leaf[:EXAMPLES] if isinstance(leaf, Tensor) and leaf.dim() else leaf, batch)
    if not isinstance(part, (tuple, list)) or not part:
        return None
    with scoring_mode(model, norm):
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
        replaced = {id(stored(model, name)) for name in leaves}
        others = [p for p in model.parameters() if p.requires_grad and p.numel() and id(p) not in replaced]

        def gradients(net: nn.Module, part: Any) -> Tensor | None:
            found = net(part[0])
            known = isinstance(found, Tensor) and found.dim() == 2 and len(found) == batch_size(part)
            if not known or not found.requires_grad or not bool(found.isfinite().all()):
                return None
            return _gradients(found[:, :OUTPUTS].flatten(), leaves, scales, others)

        rows = call(model, part, gradients, leaves)
    return None if rows is None else condition(rows @ rows.T)


def condition(kernel: Tensor) -> float:
    """The largest eigenvalue of a positive semidefinite matrix over the smallest; infinite where that is rounding.

    Example:
        >>> condition(torch.diag(torch.tensor([8.0, 2.0]))), condition(torch.ones(2, 2))
        (4.0, inf)
    """
    if not bool(kernel.isfinite().all()):
        return math.inf
    values = torch.linalg.eigvalsh(kernel)
    noise = float(values[-1]) * len(kernel) * torch.finfo(kernel.dtype).eps
    return float(values[-1] / values[0]) if float(values[0]) > noise else math.inf


def _gradients(
    outputs: Tensor, leaves: Mapping[str, Tensor], scales: Mapping[str, Tensor], others: list[nn.Parameter]
) -> Tensor:
    """The gradient of each output by all parameters, in float64: [outputs, parameters]."""
    wanted = [*leaves.values(), *others]
    factors = [*(scales.get(name) for name in leaves), *(None for _ in others)]
    chosen = _chosen([tensor.numel() for tensor in wanted], outputs.device)
    rows = []
    for output in outputs:
        found = torch.autograd.grad(output, wanted, retain_graph=True, allow_unused=True)
        parts = []
        for tensor, gradient, factor, own in zip(wanted, found, factors, chosen, strict=True):
            if gradient is None:
                gradient = torch.zeros_like(tensor)
            scaled = (gradient if factor is None else gradient * factor).flatten()
            parts.append((scaled if own is None else scaled[own]).double())
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def _chosen(sizes: list[int], device: torch.device) -> list[Tensor | None]:
    """Which entries of each tensor are looked at; None for all."""
    share = SAMPLE / max(sum(sizes), 1)
    if share >= 1:
        return [None] * len(sizes)
    generator = torch.Generator().manual_seed(derived("entries of the tangent kernel"))
    return [torch.randint(size, (math.ceil(size * share),), generator=generator).to(device) for size in sizes]
