"""The rescaling trick: bring a pruned network back to the Edge of Chaos."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, joined
from pruneinit.calibration import CLAMP, Targets, Unit, calibrated, dense_moments, without_factors
from pruneinit.errors import InputError, unknown
from pruneinit.formula import formula
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks
from pruneinit.processes import require_own
from pruneinit.reparametrize import (
    Scale,
    chain,
    require_ours,
    set_chain_,
    set_stored_,
    stored,
    tied_names,
)
from pruneinit.survivors import chosen_masks, current_masks, survivors_of

METHODS = ("formula", "tap", "layer", "neuron")


def rescale_(
    model: nn.Module,
    batches: Batches | None = None,
    *,
    masks: Masks | None = None,
    method: str | None = None,
    targets: Targets | None = None,
    clamp: float | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
    fold: bool = False,
) -> nn.Module:
    """Multiply the surviving weights of each layer by a fixed factor ρ, so that the signal keeps its size.

    Methods:
        - `"formula"`: the paper's ρ = ‖W‖_F / ‖W∘δ‖_F, one factor a layer. It needs no data. It assumes that the mask
          does not know the activations; that of a sensitivity criterion does, and on deep ReLU networks this factor
          is then far too large (`docs/rescaling.md` has the measurement).
        - `"tap"`: the same for each kernel tap of a convolution by itself, as in the paper's theory of convolutions.
        - `"layer"`: calibrated. The layers are walked in the order of execution, and each gets the ρ with which its
          output without bias has the second moment on the data that the dense network's has. One forward pass of the
          dense and one of the pruned network.
        - `"neuron"`: the same walk, with a factor for each neuron (row of a linear layer, output channel of a
          convolution): after it every one has the mean second moment of its layer in the dense network. Its factor is
          held within `clamp` times its layer's. A neuron with no weight left, or that puts out nothing in the dense
          network, keeps ρ = 1, and one whose weights see no signal on the data gets its layer's; neither counts in the
          means. A warning counts those that are dead or clamped, layer by layer.

    Recurrent weights, and a linear layer's that is an embedding too, get the factor of the formula in any case, since
    there is no output of theirs alone.

    A second call replaces the factors of the first. Biases are not touched. A layer through which no signal passes
    keeps ρ = 1, with a warning.

    Args:
        model: A dense model, with the `masks` that it is going to be sparsified with, or a sparsified model.
        batches: Data for `"layer"` and `"neuron"`, a few hundred examples; they are joined to one batch. For
            `"neuron"` a warning says where the moment of a neuron is a mean of fewer than 32 values.
        masks: The masks, for a dense model. None for a sparsified one.
        method: One of the above; default `"layer"` if there are batches, else `"formula"`.
        targets: For `"layer"` and `"neuron"` on a sparsified model, whose dense weights are gone: the dense network's
            `second_moments`, measured before `sparsify_`; or, for `"neuron"`, its `neuron_moments`, which also tell
            the neurons that put out nothing.
        clamp: For `"neuron"`: how many times a factor may be larger or smaller than its layer's; default 100.
        loss: Runs the model on a batch, for models that take more than `model(x)`.
        norm: Which statistics batch normalisation uses, as for the criteria.
        fold: False keeps ρ as a multiplier in the forward pass, as the paper does, so that the gradient with respect
            to W carries ρ too. True multiplies it into the values of a sparsified model: the same function, trained
            differently; from then on it is part of the weights.

    Returns:
        The model, changed in place.

    Raises:
        InputError: The method is unknown, data, masks or targets it needs are missing, masks are of another model, a
            second moment is not finite (its layer is named), `clamp` is below 1 or of no use, or `fold` is asked for on
            a dense model. The model is then as it was.

    Source: Hayou et al. 2021, section 3.3 (rescaling trick).

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2, bias=False))
        >>> _ = nn.init.ones_(model[0].weight)
        >>> masks = Masks({"0.weight": torch.eye(2, dtype=torch.bool)})
        >>> rescale_(model, masks=masks)[0].weight[0, 0].item()  # sqrt(4 / 2)
        1.4142135...
    """
    require_own(model, "rescale")
    if fold and not current_masks(model):
        raise InputError("fold multiplies into the survivors: sparsify_ the model first, with targets for 'layer'")
    factors = rescaling_factors(
        model, batches, masks=masks, method=method, targets=targets, clamp=clamp, loss=loss, norm=norm
    )
    return apply_rescaling_(model, factors, fold=fold)


def apply_rescaling_(model: nn.Module, factors: Mapping[str, Tensor], *, fold: bool = False) -> nn.Module:
    """Set the factors that `rescaling_factors` found, in place of those that are there.

    Returns:
        The model, changed in place.
    """
    tied = tied_names(model)
    for name, value in factors.items():
        rest = [link for link in chain(model, name) if not (isinstance(link, Scale) and link.role == "rescale")]
        if fold:
            _fold_(model, name, value)
        else:
            # Next to the weights and before the factor of a residual branch, which is about the whole branch.
            at = next((i for i, link in enumerate(rest) if isinstance(link, Scale)), len(rest))
            rest.insert(at, Scale(value.to(stored(model, name).dtype), "rescale"))
        set_chain_(model, tied[name], rest)
    return model


def rescaling_factors(
    model: nn.Module,
    batches: Batches | None = None,
    *,
    masks: Masks | None = None,
    method: str | None = None,
    targets: Targets | None = None,
    clamp: float | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, Tensor]:
    """The factors ρ that `rescale_` would set, for each pruned weight; the model is left as it was.

    Arguments and errors are those of `rescale_`.

    Returns:
        For each weight a scalar; for `"tap"` a tensor of shape [1, 1, *kernel], for `"neuron"` one of shape
        [out, 1, ...] (of a transposed convolution [1 or in, out / groups, 1, ...]).

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> rescaling_factors(model, masks=Masks({"weight": torch.tensor([[True, False]])}))
        {'weight': tensor(1.4142)}
    """
    method = method or ("layer" if batches is not None else "formula")
    if method not in METHODS:
        raise unknown("rescaling method", method, METHODS)
    sparse = current_masks(model)
    chosen = chosen_masks(model, masks)
    require_ours(model, chosen)
    bound = _checked_clamp(method, clamp)
    if method in ("layer", "neuron"):
        unit: Unit = "neuron" if method == "neuron" else "layer"
        if batches is None:
            raise InputError(f"method={method!r} calibrates on data: pass batches=[(inputs, labels), ...]")
        batch = joined(batches)
        if targets is None and sparse:
            raise InputError(
                "the dense weights of a sparsified model are gone: pass targets=second_moments(model, batches) "
                "measured before sparsify_, or call rescale_(model, batches, masks=masks) first, then sparsify_"
            )
        if targets is None:
            targets = dense_moments(model, batch, without_factors(model, chosen), unit, loss=loss, norm=norm)
        found = calibrated(model, batch, chosen, targets, unit, clamp=bound, loss=loss, norm=norm)
        factors = found.factors
        for message in found.warnings():
            _warn(message)
    else:
        factors = {name: formula(model, name, chosen, per_tap=method == "tap") for name in chosen}
    if chosen.empty:
        _warn(f"nothing is left of {', '.join(chosen.empty)}: no factor brings a signal back")
    return factors


def _checked_clamp(method: str, clamp: float | None) -> float:
    if clamp is None:
        return CLAMP
    if method != "neuron":
        raise InputError(f"clamp={clamp!r} would be ignored by method={method!r}; it goes with method='neuron'")
    if not isinstance(clamp, numbers.Real) or isinstance(clamp, bool) or not clamp >= 1:
        raise InputError(f"clamp must be a number, 1 or more, got {clamp!r}")
    return float(clamp)


def _fold_(model: nn.Module, name: str, value: Tensor) -> None:
    survivors = survivors_of(model, name)
    if survivors is not None:
        with torch.no_grad():
            set_stored_(model, name, survivors.gather(survivors(stored(model, name)) * value))


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
