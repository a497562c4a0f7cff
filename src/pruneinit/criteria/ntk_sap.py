"""Pruning that keeps the spectrum of the neural tangent kernel, NTK-SAP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pruneinit.batch import Batches, batch_size, blame, describe, each, mapped, tensors
from pruneinit.criteria.products import Parts, Tensors, filled, fine, leaves, mean, unseen
from pruneinit.criteria.unreached import warn_if_zero, warn_unreached
from pruneinit.draw import normal
from pruneinit.errors import InputError, check_positive, check_seed, check_whole
from pruneinit.functional import Norm, call, effective_weights, scoring_mode
from pruneinit.masks import Masks
from pruneinit.processes import gathered, groups_of, place, together
from pruneinit.seeds import derived
from pruneinit.sharded import require_whole
from pruneinit.survivors import current_masks

Outputs = Callable[[nn.Module, Any], Tensor]
Shapes = tuple[int, list[tuple[tuple[int, ...], torch.dtype]]]


def first_of(model: nn.Module, batch: Any) -> Tensor:
    """The outputs used where nothing else is given: `model(x)` for a batch `x` or `(x, ...)`.

    Raises:
        InputError: The batch is something else.
    """
    if not isinstance(batch, (Tensor, tuple, list)):
        kind = type(batch).__name__
        raise InputError(f"expected batches (inputs, labels), got a {kind}: pass NtkSap(outputs=...) for such batches")
    output: Tensor = model(batch if isinstance(batch, Tensor) else batch[0])
    return output


@dataclass(frozen=True)
class NtkSap:
    """Keep the weights to which the trace of the neural tangent kernel is most sensitive, whatever weights and data.

    The trace is the sum of the kernel's eigenvalues, estimated by how much the outputs move when the weights do:
    score = |∂/∂m E ‖f(x; m · W) - f(x; m · (W + Δ))‖²| at the mask m, with the squared norm averaged over examples,
    Δ drawn from N(0, ε²), x from N(0, 1) in the shape of the data, and W anew for each sample: the values of each
    tensor in a random order, so that every layer keeps its own distribution. What masks remove scores 0.

    Source: Wang, Li, Sun, "NTK-SAP: Improving neural network pruning by aligning training dynamics" (2023). The
    defaults are those of the authors' program for CIFAR-10; for CIFAR-100 and Tiny-ImageNet they take 100 rounds, and
    everywhere ten examples of each class. Theirs draws new weights for each batch, and freezes batch normalisation at
    the statistics of x under W; here all batches share the samples, so that it does not matter how the
    examples are cut, and each pass normalises as `norm` says.

    Cost: `samples` times two forward and two backward passes over the batches, each round; memory for the graphs of two
    passes of one batch, and for four copies of the weights. Of a model that several processes share, each draws the
    noise for the examples of all, so that the scores are those of one process.

    Attributes:
        rounds: How many times `prune` scores and selects; each has random numbers of its own.
        samples: How many weights W, with a Δ each, are averaged over; R in the paper.
        epsilon: The standard deviation of Δ, ε.
        noise: Whether x is drawn, in place of every tensor of the batch that holds real numbers, one entry an example.
            False takes the batches as they are. Whole numbers, such as tokens, are never replaced.
        norm: `"batch"` or `"running"`: which statistics batch normalisation uses. Must be given for a model that has
            such layers.
        outputs: `outputs(model, batch)`: f, one tensor with the examples first.
        seed: Of the random numbers; the same seed gives the same scores on every device, up to rounding. Each sample
            draws first the order of the values of every weight, then the Δ of every weight, then x by examples.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> batch = (torch.zeros(16, 3), torch.zeros(16))
        >>> {name: tuple(s.shape) for name, s in NtkSap(seed=1)(model, [batch]).items()}
        {'0.weight': (8, 3), '2.weight': (2, 8)}
    """

    rounds: int = 20
    samples: int = 5
    epsilon: float = 0.01
    noise: bool = True
    norm: Norm | None = None
    outputs: Outputs = field(default=first_of, repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("rounds", self.rounds)
        check_whole("samples", self.samples)
        check_positive("epsilon", self.epsilon)
        check_seed(self.seed)

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """Scores for the weights of `masks`, or for all prunable weights. A warning names those f does not depend on.

        Raises:
            InputError: There are no batches, one does not fit, or the outputs are not one tensor of finite numbers.
        """
        require_whole(model)
        groups = groups_of(model)
        data = together(lambda: list(each(batches)), groups)
        # One after the other, as one process would have them: its noise is drawn for all of them, on all processes.
        every, mine = gathered([_drawable(batch) for batch in data], groups), place(groups)
        with scoring_mode(model, self.norm):
            dense = effective_weights(model, None)
            values = {name: dense[name] for name in effective_weights(model, masks)}
            kept = _kept(model, values, masks)
            left = sum(int(mask.count_nonzero()) for mask in kept.values())
            generator = torch.Generator().manual_seed(derived("NTK-SAP", self.seed, left))  # new numbers each round
            survivors = current_masks(model)
            total = {name: torch.zeros_like(fine(value)) for name, value in values.items()}
            for number in range(self.samples):
                weights = {n: shuffled(value, survivors.get(n), generator) for n, value in values.items()}
                steps = {n: self.epsilon * _normal(value, generator) for n, value in values.items()}
                near = {n: kept[n] * w for n, w in weights.items()}
                far = {n: kept[n] * (w + steps[n]) for n, w in weights.items()}
                inputs = _noise_of(mine, every, data, generator) if self.noise else data
                parts = mean(model, inputs, lambda batch: self._sensitivity(model, batch, near, far), values)  # noqa: B023
                if number == 0:
                    warn_unreached(unseen(parts, values), len(values))
                total = {n: total[n] + part / self.samples for n, part in filled(parts, values).items()}
        scores = {name: score.abs() for name, score in total.items()}
        warn_if_zero(scores)
        return scores

    def _sensitivity(self, model: nn.Module, batch: Any, near: Tensors, far: Tensors) -> Parts:
        """The derivative by the mask of the mean squared distance between the outputs under two sets of weights."""
        size = batch_size(batch)
        here, there = leaves(near, near), leaves(far, near)

        def differentiate(net: nn.Module, batch: Any) -> tuple[tuple[Tensor | None, ...], tuple[Tensor | None, ...]]:
            outputs = self._outputs(net, batch)

            def distance(net: nn.Module, batch: Any) -> tuple[Tensor, tuple[Tensor | None, ...]]:
                others = self._outputs(net, batch)
                change = (2 / size) * (others - outputs).detach()
                return change, _grad(others, there, change)

            change, by_far = call(model, batch, distance, there)
            return _grad(outputs, here, -change), by_far

        by_near, by_far = call(model, batch, differentiate, here)
        return {
            name: None if a is None or b is None else fine(near[name]) * a + fine(far[name]) * b
            for name, a, b in zip(near, by_near, by_far, strict=True)
        }

    def _outputs(self, model: nn.Module, batch: Any) -> Tensor:
        outputs = self.outputs(model, batch)
        if not isinstance(outputs, Tensor):
            raise InputError(f"outputs(model, batch) must be one tensor, got {describe(outputs)}; choose one of them")
        if not bool(outputs.isfinite().all()):
            blame(batch)
            raise InputError(
                f"the outputs are not finite on the batch {describe(batch)}: check the initialisation for overflow "
                "(pruneinit.edge_of_chaos_)"
            )
        return outputs


def shuffled(tensor: Tensor, survivors: Tensor | None, generator: Generator) -> Tensor:
    """The values of a tensor in a random order; of a sparsified one only the survivors change places.

    Example:
        >>> shuffled(torch.arange(4.0), torch.tensor([True, False, True, False]), torch.Generator().manual_seed(1))
        tensor([2., 1., 0., 3.])
    """
    flat = tensor.flatten()
    places = torch.arange(len(flat)) if survivors is None else survivors.flatten().nonzero().flatten().cpu()
    order = places[torch.randperm(len(places), generator=generator)]
    return flat.index_copy(0, places.to(flat.device), flat[order.to(flat.device)]).view(tensor.shape)


def noisy(batch: Any, generator: Generator) -> Any:
    """The batch with standard normal numbers in place of the real ones, in each tensor that has an entry an example.

    Drawn example by example, so that the same examples get the same numbers however they are cut into batches.

    Example:
        >>> x, y = noisy((torch.zeros(4, 2), torch.tensor([0, 1, 2, 3])), torch.Generator().manual_seed(0))
        >>> bool(x.all()), y.tolist()
        (True, [0, 1, 2, 3])
    """
    return _noisy(batch, _drawn(_drawable(batch), generator))


def _noise_of(mine: int, every: list[list[Shapes]], data: list[Any], generator: Generator) -> list[Any]:
    """This process's batches with noise, and the generator as far as after that of all processes."""
    found: list[Any] = []
    for rank, shapes in enumerate(every):
        for number, some in enumerate(shapes):
            noise = _drawn(some, generator)
            if rank == mine:
                found.append(_noisy(data[number], noise))
    return found


def _noisy(batch: Any, noise: list[Tensor]) -> Any:
    size, fresh = batch_size(batch), iter(noise)
    return mapped(lambda leaf: next(fresh).to(leaf.device) if _is_replaced(leaf, size) else leaf, batch)


def _drawable(batch: Any) -> Shapes:
    """How many examples a batch has, and the shape and type of each thing that is drawn for one."""
    size = batch_size(batch)
    return size, [(tuple(leaf.shape[1:]), leaf.dtype) for leaf in tensors(batch) if _is_replaced(leaf, size)]


def _drawn(shapes: Shapes, generator: Generator) -> list[Tensor]:
    size, wanted = shapes
    examples = [[normal(shape, generator, dtype) for shape, dtype in wanted] for _ in range(size)]
    return [torch.stack(parts) for parts in zip(*examples, strict=True)]


def _is_replaced(leaf: Any, size: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.dim() > 0 and len(leaf) == size


def _kept(model: nn.Module, values: Tensors, masks: Masks | None) -> dict[str, Tensor]:
    """What neither masks nor the model's own survivors have removed."""
    found = {name: torch.ones_like(value, dtype=torch.bool) for name, value in values.items()}
    for removed in (current_masks(model), masks):
        if removed is not None:
            found |= {name: mask & removed[name].to(mask.device) for name, mask in found.items() if name in removed}
    return found


def _normal(like: Tensor, generator: Generator) -> Tensor:
    return normal(tuple(like.shape), generator, like.dtype).to(like.device)


def _grad(outputs: Tensor, by: Tensors, seed: Tensor) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(outputs, list(by.values()), seed, allow_unused=True)
