"""The whole way of a model, from scores to a loaded file, with what has to hold after each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pruneinit as pi
from pruneinit.batch import tensors
from pruneinit.reparametrize import factor, stored, tied_names
from pruneinit.weights import uncompiled, weight
from zoo.architecture import Architecture

SPARSITY = 0.95


@dataclass(frozen=True)
class Passage:
    """What was found on the way.

    Attributes:
        weights: Values of all prunable weights.
        parameters: Values of all parameters, before.
        left: Values of all parameters, sparsified.
        branches: Residual branches found, None where they cannot be scaled.
        why: Why they cannot.
        critical: The sparsity at which a global threshold empties the first layer.
        emptied: How many layers it empties at the sparsity of the list; then each layer gets its share.
        sparsity: Of the masks that the model goes on with.
        effective: Their effective sparsity.
    """

    weights: int
    parameters: int
    left: int
    branches: int | None
    why: str
    critical: float
    emptied: int
    sparsity: float
    effective: float


def carry(architecture: Architecture, folder: Path) -> Passage:
    """Take a model all the way, and see at each step that what is promised holds.

    Raises:
        AssertionError: Something does not.
    """
    model, batches = architecture.model(), [architecture.example_batch()]
    known: dict[str, Any] = {"norm": architecture.norm, "loss": architecture.loss}
    weights = pi.prunable(model)
    before = sum(p.numel() for p in model.parameters())
    with untouched(model):
        check_scores(architecture, model, batches)
        at_once = pruned(model, pi.Snip(**known), batches)
        check_masks(at_once, weights)
        found = pi.forecast(model, batches, **known)
        assert set(found.empty(SPARSITY)) == set(at_once.empty)
        # Where a global threshold empties layers, as at an ordinary initialisation it may, each gets its share.
        masks = pruned(model, pi.Snip(**known), batches, scope="erk") if at_once.empty else at_once
        check_masks(masks, weights)
        assert not masks.empty
        alive = pi.effective_masks(model, batches, masks, loss=architecture.loss)
        assert (alive & masks) == alive
        assert alive.kept > 0
    branches, why = stabilize_(model, architecture.inputs(batches[0]))
    rescale_(architecture, model, batches, masks)
    pi.sparsify_(model, masks)
    check_sparse(model, masks, before)
    train_step_(architecture, model, batches[0], masks)
    check_file(architecture, model, folder / "model.safetensors", batches[0])
    left = sum(p.numel() for p in model.parameters())
    return Passage(
        masks.total,
        before,
        left,
        branches,
        why,
        found.critical.sparsity,
        len(at_once.empty),
        masks.sparsity,
        alive.sparsity,
    )


def pruned(model: nn.Module, criterion: Any, batches: Any, scope: str = "global") -> pi.Masks:
    """Masks at the sparsity of the list, also where that empties a layer."""
    return pi.prune(model, criterion, batches, sparsity=SPARSITY, scope=scope, allow_empty=True)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """See that what is done in here leaves the model and the random numbers as they were, bit for bit."""
    before, random = state(model), torch.get_rng_state()
    yield
    after = state(model)
    assert after.keys() == before.keys()
    for name, value in before.items():
        same = same_bits(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        assert same, f"{name} was changed"
    assert torch.equal(torch.get_rng_state(), random), "random numbers were drawn"


def state(model: nn.Module) -> dict[str, Any]:
    """All that a model is: tensors, which of them are trained, modes, and which modules of which class."""
    found: dict[str, Any] = {}
    for kind, named in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in named:
            found[f"{kind} {name}"] = tensor.detach().clone()
            found[f"who {name}"] = (id(tensor), tensor.requires_grad, tensor.grad is None)
    for name, module in model.named_modules():
        found[f"module {name}"] = (
            type(module),
            module.training,
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
    return found


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN where NaN."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))


def check_scores(architecture: Architecture, model: nn.Module, batches: Any) -> None:
    """Every criterion scores every weight, in its shape, in numbers that can be ordered."""
    shapes = {name: found.shape for name, found in pi.prunable(model).items()}
    snip = pi.Snip(norm=architecture.norm, loss=architecture.loss)
    for criterion in (snip, pi.Magnitude(), pi.Random(seed=0)):
        scores = pi.score(model, criterion, batches)
        assert {name: tuple(s.shape) for name, s in scores.items()} == shapes
        assert all(s.is_floating_point() and bool(s.isfinite().all()) for s in scores.values())
        assert all(bool((s >= 0).all()) for s in scores.values())
        reached = [name for name, score in scores.items() if bool(score.any())]
        assert len(reached) > len(shapes) / 2, f"{criterion} reaches only {reached}"
        check_masks(pi.select(scores, SPARSITY), pi.prunable(model))


def check_masks(masks: pi.Masks, weights: dict[str, pi.Weight]) -> None:
    """Masks of all weights, with exactly so many kept as were asked for."""
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == {n: w.shape for n, w in weights.items()}
    total = sum(w.numel for w in weights.values())
    assert masks.total == total
    assert masks.kept == round((1 - SPARSITY) * total)


def stabilize_(model: nn.Module, inputs: Any) -> tuple[int | None, str]:
    """Make a Stable ResNet where residual branches are found: exactly their parameters shrink, by 1/sqrt(L)."""
    names = [name for name, _ in uncompiled(model).named_parameters()]
    before = {name: weight(model, name).detach().clone() for name in names}
    try:
        residuals = pi.stabilize_residuals_(model, inputs)
    except pi.InputError as error:
        for name in names:
            assert torch.equal(weight(model, name), before[name])
        return None, str(error)
    scaled = {name for branch in residuals.branches for name in branch.parameters}
    for name in names:
        expected = before[name]
        if name in scaled:
            expected = expected * torch.tensor(len(residuals) ** -0.5, dtype=expected.dtype)
        assert torch.equal(weight(model, name), expected), name
    return len(residuals), ""


def rescale_(architecture: Architecture, model: nn.Module, batches: Any, masks: pi.Masks) -> None:
    """Rescale on data: the second moments of the pruned network become those of the dense one."""
    known = {"loss": architecture.loss, "norm": architecture.norm}
    dense = pi.second_moments(model, batches, **known)
    weights = pi.prunable(model)
    pi.rescale_(model, masks=masks)
    assert all(0 < float(factor(model, name, "rescale")) < float("inf") for name in masks)
    pi.rescale_(model, batches, masks=masks, **known)
    after = pi.second_moments(model, batches, masks=masks, **known)
    assert dense.keys() == after.keys()
    rough = any(weight(model, name).dtype == torch.bfloat16 for name in masks)
    for name, moment in dense.items():
        assert 0 < float(factor(model, name, "rescale")) < float("inf")
        # A weight of several users can have the moment of only one.
        if after[name] and not weights[name].aliases and architecture.scalable:
            assert abs(after[name] / moment - 1) < (0.2 if rough else 1e-3), name


def check_sparse(model: nn.Module, masks: pi.Masks, before: int) -> None:
    """The parameters are the survivors, and what the layers read is zero everywhere else."""
    assert pi.current_masks(model) == masks
    assert sum(p.numel() for p in model.parameters()) == before - (masks.total - masks.kept)
    for name, mask in masks.items():
        assert stored(model, name).shape == (masks.counts[name][0],)
        assert not bool(weight(model, name).detach()[~mask].any())


def train_step_(architecture: Architecture, model: nn.Module, batch: Any, masks: pi.Masks) -> None:
    """One step of plain SGD in training mode: survivors move by their gradient, the pruned and the frozen stay."""
    rate = 0.1
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    model.train()
    with torch.random.fork_rng([]):
        torch.manual_seed(2)  # dropout, stochastic depth
        loss = architecture.loss(model, batch)
        assert loss.isfinite()
        loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        moved = before[name] if parameter.grad is None else before[name].add(parameter.grad, alpha=-rate)
        torch.testing.assert_close(parameter.detach(), moved)
    for name, mask in masks.items():
        assert not bool(weight(model, name).detach()[~mask].any()), name
    trained = [name for name in masks if stored(model, name).requires_grad]
    pushed = [name for name in trained if (g := stored(model, name).grad) is not None and bool(g.any())]
    assert len(pushed) > len(trained) / 2, f"a gradient reaches only {pushed}"
    model.zero_grad()


def check_file(architecture: Architecture, model: nn.Module, path: Path, batch: Any) -> None:
    """A fresh model with other weights becomes the saved one: the same outputs, bit for bit, and the same masks."""
    pi.save(model, path)
    fresh = architecture.model(seed=7)
    inputs = architecture.inputs(batch)
    model.eval()
    fresh.eval()
    expected = outputs(model, inputs)
    assert not all(map(same_bits, outputs(fresh, inputs), expected)), "the fresh model computes the same before loading"
    pi.load(path, into=fresh)
    assert all(map(same_bits, outputs(fresh, inputs), expected))
    assert pi.current_masks(fresh) == pi.current_masks(model)
    assert [p.requires_grad for p in fresh.parameters()] == [p.requires_grad for p in model.parameters()]
    assert tied_names(fresh) == tied_names(model)


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """All tensors that a model puts out."""
    args = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
    with torch.no_grad(), torch.random.fork_rng([]):
        return tensors(model(*args, **(inputs if isinstance(inputs, dict) else {})))
