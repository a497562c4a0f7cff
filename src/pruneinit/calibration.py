"""Factors found on data: each layer, or each neuron, gets back the second moment of the dense network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pruneinit.batch import blame
from pruneinit.errors import InputError
from pruneinit.formula import formula
from pruneinit.functional import Loss, Norm, call, scoring_mode
from pruneinit.masks import Masks
from pruneinit.moments import moments_of
from pruneinit.neurons import alive, count, neuron_factors, separable, shaped
from pruneinit.reparametrize import tensor_without
from pruneinit.watching import Output, watch
from pruneinit.weights import Weight, is_read_elsewhere, listed

Unit = Literal["layer", "neuron"]
Targets = Mapping[str, float | Tensor]

CLAMP = 100.0
"""How many times a neuron's factor may be larger or smaller than its layer's, where nothing else is said."""

SAMPLES = 32
"""Of how many values at least the second moment of a neuron should be the mean. Over n independent Gaussian values its
relative standard error is √(2/n), 25 % here, so that of the factor is half of it."""

_NAMED = 5  # weights in one warning


@dataclass
class Calibration:
    """Factors, and what is to be said about them.

    Attributes:
        factors: For each weight a scalar, or a tensor that broadcasts against it.
        silent: Layers that no signal reaches, or that put out nothing in the dense network.
        undivided: Layers whose neurons cannot be told apart in the output; they have one factor.
        dead: How many neurons of a layer, of how many, have no weight left or put out nothing in the dense network.
        clamped: How many neurons of a layer, of how many, have a factor at the bounds.
        samples: From how many values the second moment of a neuron was taken, where these are few.
    """

    factors: dict[str, Tensor] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    undivided: list[str] = field(default_factory=list)
    dead: dict[str, tuple[int, int]] = field(default_factory=dict)
    clamped: dict[str, tuple[int, int]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """All that there is to be said, a line each."""
        told = []
        if self.silent:
            told.append(f"no signal reaches {', '.join(self.silent)}, so there is nothing to calibrate there")
        if self.undivided:
            told.append(
                f"the neurons of {', '.join(self.undivided)} cannot be told apart in what the layer puts out: they "
                "share one factor"
            )
        if self.dead:
            told.append(f"neurons with nothing left to rescale keep the factor 1: {_counted(self.dead)}")
        if self.clamped:
            told.append(f"neurons whose own factor was out of bounds are clamped: {_counted(self.clamped)}")
        return told + self.doubts()

    def doubts(self) -> list[str]:
        """What is to be said of the data, whatever the masks are."""
        if not self.samples:
            return []
        least = min(self.samples.values())
        return [
            f"the second moments of neurons of {', '.join(self.samples)} are means of as few as {least} values "
            f"(examples times positions), which are off by about {100 * math.sqrt(2 / least):.0f} %: give batches of "
            f"{SAMPLES} examples or more in all, or use method='layer'"
        ]


def dense_moments(
    model: nn.Module, batch: Any, tensors: Mapping[str, Tensor], unit: Unit, *, loss: Loss, norm: Norm | None
) -> Targets:
    """The second moments of the model with these tensors, by layer or by neuron."""
    if unit == "layer":
        return dict(moments_of(model, [batch], tensors, Output.mean_square, loss=loss, norm=norm))
    return dict(moments_of(model, [batch], tensors, Output.mean_squares, loss=loss, norm=norm))


def without_factors(model: nn.Module, masks: Masks) -> dict[str, Tensor]:
    """The weights of `masks`, whole, as they are without factors of rescaling."""
    return {name: tensor_without(model, name, "rescale") for name in masks}


def calibrated(
    model: nn.Module,
    batch: Any,
    masks: Masks,
    targets: Targets,
    unit: Unit,
    *,
    clamp: float = CLAMP,
    loss: Loss,
    norm: Norm | None,
) -> Calibration:
    """Walk the layers in the order of execution and bring each back to its target, in one forward pass.

    Args:
        model: Dense or sparsified; left as it was. Factors of an earlier rescaling are not seen.
        batch: One batch.
        masks: What is kept of the weights.
        targets: The dense network's second moments, a number or [neurons] for each weight whose layer is run.
        unit: Whether a layer gets one factor or each of its neurons.
        clamp: See `neuron_factors`.
        loss: Runs the model on the batch.
        norm: Which statistics batch normalisation uses.

    Raises:
        InputError: A target is missing or impossible, or a second moment is not finite; the layer is named.
    """
    weights = listed(model)
    overrides = {n: tensor * masks[n].to(tensor.device) for n, tensor in without_factors(model, masks).items()}
    # A weight used outside its own layer's forward pass is seen by nobody, and one that is an embedding too was read
    # before its layer runs, so that a factor found there would come too late. The formula needs no watching.
    early = {name for name in masks if is_read_elsewhere(model, weights[name])}
    result = Calibration()
    for name in masks:
        if name not in targets or name in early:
            result.factors[name] = formula(model, name, masks, per_tap=False)
            overrides[name].mul_(result.factors[name])
    unseen = set(result.factors)

    def correct(name: str, output: Output) -> Tensor | None:
        # Run again, a layer has its factor already.
        if name not in masks or name in early or (name in result.factors and name not in unseen):
            return None
        if not math.isfinite(output.mean_square()):
            blame(batch)
        found = weights[name]
        divided = unit == "neuron" and separable(model, found) and output.neurons == count(found)
        if divided:
            own = _of_neurons(result, found, output, targets, masks, clamp)
        else:
            own = _of_layer(result, name, output, targets, masks)
        if unit == "neuron" and not divided:
            result.undivided.append(name)
        own = own.to(overrides[name].dtype) if own.dim() else own
        result.factors[name] = shaped(found, own) if own.dim() else own
        overrides[name].mul_(result.factors[name])
        return output.times(own)

    with scoring_mode(model, norm), torch.no_grad(), watch(model, overrides, correct):
        call(model, batch, loss, overrides)
    return result


def _of_layer(result: Calibration, name: str, output: Output, targets: Targets, masks: Masks) -> Tensor:
    moment = output.mean_square()
    target = _checked(name, targets, moment)
    if 0 in (moment, target) and name not in masks.empty:
        result.silent.append(name)
    # Where the dense layer puts out nothing on this data, a factor of 0 would remove it on all data.
    value = math.sqrt(target / moment) if moment > 0 and target > 0 else 1.0
    return torch.tensor(value, dtype=torch.float64, device=output.parts[0].device)


def _of_neurons(
    result: Calibration, found: Weight, output: Output, targets: Targets, masks: Masks, clamp: float
) -> Tensor:
    name, squares = found.name, output.mean_squares()
    mean = _checked(name, targets, float(squares.mean()))
    lost = ~alive(found, masks[name]).to(squares.device)
    given = targets[name]
    if isinstance(given, Tensor) and given.shape not in ((), squares.shape):
        raise InputError(f"the target of {name} is a tensor of {tuple(given.shape)}: it has {len(squares)} neurons")
    factors = neuron_factors(squares, given if isinstance(given, Tensor) and given.dim() else mean, lost, clamp)
    if name in masks.empty:
        return factors.values
    if not mean or not bool(squares.any()):
        result.silent.append(name)
        return factors.values
    if factors.dead:
        result.dead[name] = factors.dead, len(squares)
    if factors.clamped:
        result.clamped[name] = factors.clamped, len(squares)
    if output.samples < SAMPLES:
        result.samples[name] = output.samples
    return factors.values


def _checked(name: str, targets: Targets, moment: float) -> float:
    """The target of a layer, the mean over its neurons, if it and the pruned network's moment are such."""
    if name not in targets:
        raise InputError(f"targets has no second moment for {name}; it has {', '.join(targets) or 'none'}")
    given = torch.as_tensor(targets[name], dtype=torch.float64)
    target = float(given.mean())
    if bool((given < 0).any()):
        raise InputError(f"the target of {name} is {float(given.min()):g}: second moments are at least 0")
    if not math.isfinite(target) or not math.isfinite(moment):
        raise InputError(
            f"the second moment of {name} is {target:g} in the dense and {moment:g} in the pruned network: "
            "there is no finite signal to go back to; initialise on the Edge of Chaos first (edge_of_chaos_)"
        )
    return target


def _counted(numbers: Mapping[str, tuple[int, int]]) -> str:
    """The first few in words, and how many are left out: a deep network has a hundred of them."""
    named = [f"{some} of {every} of {name}" for name, (some, every) in numbers.items()]
    rest = list(numbers.values())[_NAMED:]
    if rest:
        some, every = (sum(column) for column in zip(*rest, strict=True))
        named[_NAMED:] = [f"and {some} of {every} of {len(rest)} more weights"]
    return ", ".join(named)
