"""What training can learn of a few examples, by the neural tangent kernel of the network as it starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pruneinit.functional import Norm, call, scoring_mode
from pruneinit.reparametrize import stored
from pruneinit.seeds import derived

EXAMPLES = 16
OUTPUTS = 10
STEPS = 1000
AT_ONCE = 200_000_000
"""Up to how many numbers the gradients of some outputs are held together."""
SAMPLE = 5_000
"""How many entries of a gradient of one parameter are looked at; where there are more, as many drawn at random."""


def learnable_share(
    model: nn.Module,
    batch: Any,
    weights: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    *,
    norm: Norm | None = None,
) -> float | None:
    """The share of the labels of a few examples that a network can learn, by its linearisation: `learnable`.

    Cost: a forward pass on up to 16 examples, and a backward pass for each of up to 10 outputs of each.

    Args:
        model: A classifier whose output is a tensor [examples, classes].
        batch: Inputs and labels, class numbers, of which the first few are taken.
        weights: The prunable weights as the forward pass is to see them, masked and rescaled.
        scales: What the gradient of each is to be multiplied by to be that of the parameter: its mask and fixed factor.
        norm: Which statistics batch normalisation uses, as for the criteria.

    Returns:
        A share in [0, 1]; None where the model or the labels are others, or the outputs are not finite.

    Example:
        >>> model, x = nn.Linear(2, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> found = {"weight": model.weight.detach()}
        >>> learnable_share(model, (x, torch.tensor([0, 1])), found, {"weight": torch.ones(2, 2)})
        1.0
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not all(isinstance(one, Tensor) for one in batch[:2]):
        return None
    x, y = batch[0][:EXAMPLES], batch[1][:EXAMPLES]
    if y.dim() != 1 or y.is_floating_point() or len(y) < 2:
        return None
    with scoring_mode(model, norm):
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
        replaced = {id(stored(model, name)) for name in leaves}
        others = [p for p in model.parameters() if p.requires_grad and p.numel() and id(p) not in replaced]
        trained = [*leaves.values(), *others]
        looks = _looks(trained, [*(scales.get(name) for name in leaves), *(None for _ in others)])
        coupled = couples(model)

        def run(net: nn.Module, part: Any) -> tuple[Tensor, Tensor] | None:
            return kernel_of(net, part, y, trained, looks=looks, coupled=coupled)

        found = call(model, x, run, leaves)
    return None if found is None else learnable(*found)


def learnable(kernel: Tensor, targets: Tensor, steps: int = STEPS) -> float:
    """The share of the targets' square that gradient descent learns in some steps, if the kernel stays what it is.

    A step at the rate 1 / λ_max, half of the largest that is stable, leaves 1 - λ / λ_max of what lies along an
    eigenvector with the eigenvalue λ (Jacot, Gabriel, Hongler, "Neural Tangent Kernel", 2018). A deep network that
    sends all inputs the same way has one large eigenvalue, and learns next to nothing of what tells them apart.

    Args:
        kernel: G Gᵀ of the gradients of some outputs, symmetric, [n, n].
        targets: What these outputs should become, up to a common mean, [n].
        steps: Of gradient descent.

    Returns:
        A share in [0, 1]; 0 where the kernel is not finite or 0.

    Example:
        >>> kernel = torch.diag(torch.tensor([1.0, 1e-6]))
        >>> [round(learnable(kernel, torch.tensor([a, b])), 2) for a, b in ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0))]
        [1.0, 0.5, 0.0]
    """
    if not bool(kernel.isfinite().all()):
        return 0.0
    values, vectors = torch.linalg.eigh(kernel)
    if not float(values[-1]) > 0:
        return 0.0
    left = (1 - (values / values[-1]).clamp(0, 1)) ** (2 * steps)
    squares = (vectors.T @ targets.to(vectors)).square()
    return float(1 - (left * squares).sum() / squares.sum())


def kernel_of(
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    parameters: Sequence[Tensor],
    *,
    looks: Sequence[Look | None] | None = None,
    coupled: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """The tangent kernel of some outputs on some examples, in float64, and their targets.

    Args:
        run: From inputs to logits [examples, classes].
        x: Inputs.
        y: Class numbers. Outputs are those of the first ten classes that occur, then of others.
        parameters: What is trained.
        looks: How the gradient of each is looked at; None for all of it as it is.
        coupled: As `couples` says of the model.

    Returns:
        [n, n] and [n], by examples and then classes; None where the outputs are no finite table with these classes.
    """
    rows, classes, chosen = [], 0, list[int]()
    for part in [x] if coupled else torch.split(x, 1):
        outputs = run(part)
        if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(part):
            return None
        if not outputs.requires_grad or not bool(outputs.isfinite().all()):
            return None
        if not chosen:
            classes = outputs.shape[1]
            if classes < 2 or not 0 <= int(y.min()) <= int(y.max()) < classes:
                return None
            chosen = list(dict.fromkeys([*torch.unique(y).tolist(), *range(classes)]))[:OUTPUTS]
        for gradients in _gradients(outputs[:, chosen].flatten(), list(parameters)):
            seen = zip(gradients, looks or [None] * len(gradients), strict=True)
            rows.append(torch.cat([(g if look is None else look(g)).flatten().double() for g, look in seen]))
    every = torch.stack(rows)
    targets = nn.functional.one_hot(y, classes)[:, chosen].double() - 1 / classes
    return every @ every.T, targets.flatten()


def couples(model: nn.Module) -> bool:
    """Whether an output depends on other examples of a batch too, as under batch normalisation by batch statistics."""
    return any(isinstance(module, _NormBase) and module.training for module in model.modules())


def _gradients(outputs: Tensor, parameters: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """The gradients of each output, all at once where PyTorch can and they are not too large to be held."""
    options: dict[str, Any] = {"retain_graph": True, "allow_unused": True}
    found: Iterable[Sequence[Tensor | None]] = (
        torch.autograd.grad(output, parameters, **options) for output in outputs
    )
    if len(outputs) * sum(p.numel() for p in parameters) <= AT_ONCE:
        each = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)
        with suppress(RuntimeError):  # an operation that cannot be batched
            every = torch.autograd.grad(outputs, parameters, each, is_grads_batched=True, **options)
            found = [[None if g is None else g[row] for g in every] for row in range(len(outputs))]
    for gradients in found:
        yield tuple(torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True))


@dataclass(frozen=True)
class Look:
    """How a gradient is looked at: some of its entries, times fixed factors.

    Attributes:
        places: Of the flattened gradient.
        factor: What they are multiplied by: a number, or one for each place.
    """

    places: Tensor
    factor: Tensor | float

    def __call__(self, gradient: Tensor) -> Tensor:
        """The entries looked at."""
        return gradient.flatten()[self.places] * self.factor


def _looks(tensors: Sequence[Tensor], factors: Sequence[Tensor | None]) -> list[Look | None]:
    """At what is not masked, and at a sample of it where it is much, scaled up so that its square is that of all."""
    generator = torch.Generator().manual_seed(derived("entries of the tangent kernel"))
    found: list[Look | None] = []
    for tensor, factor in zip(tensors, factors, strict=True):
        flat = None if factor is None else factor.expand(tensor.shape).flatten()
        places = torch.arange(tensor.numel(), device=tensor.device) if flat is None else flat.nonzero().flatten()
        if len(places) > SAMPLE:
            drawn = torch.randperm(len(places), generator=generator)[:SAMPLE].to(tensor.device)
            grown = math.sqrt(len(places) / SAMPLE)
            found.append(Look(places[drawn], grown * (1.0 if flat is None else flat[places[drawn]])))
        elif flat is not None:
            found.append(Look(places, flat[places]))
        else:
            found.append(None)
    return found
