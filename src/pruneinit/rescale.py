"""The rescaling trick: bring a pruned network back to the Edge of Chaos."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, blame, joined
from pruneinit.errors import InputError, unknown
from pruneinit.functional import Loss, Norm, call, cross_entropy, scoring_mode
from pruneinit.masks import Masks, check_masks
from pruneinit.moments import mean_square, moments_of, watch
from pruneinit.processes import require_own
from pruneinit.reparametrize import (
    Scale,
    chain,
    require_ours,
    set_chain_,
    set_stored_,
    stored,
    tensor_without,
    tied_names,
)
from pruneinit.survivors import current_masks, survivors_of, tap_energy
from pruneinit.weights import is_read_elsewhere, listed

METHODS = ("formula", "tap", "layer")


def rescale_(
    model: nn.Module,
    batches: Batches | None = None,
    *,
    masks: Masks | None = None,
    method: str | None = None,
    targets: Mapping[str, float] | None = None,
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

    Recurrent weights, and a linear layer's that is an embedding too, get the factor of the formula in any case, since
    there is no output of theirs alone.

    A second call replaces the factors of the first. Biases are not touched. A layer through which no signal passes
    keeps ρ = 1, with a warning.

    Args:
        model: A dense model, with the `masks` that it is going to be sparsified with, or a sparsified model.
        batches: Data for `"layer"`, a few hundred examples; they are joined to one batch.
        masks: The masks, for a dense model. None for a sparsified one.
        method: One of the above; default `"layer"` if there are batches, else `"formula"`.
        targets: For `"layer"` on a sparsified model, whose dense weights are gone: the dense network's
            `second_moments`, measured before `sparsify_`.
        loss: Runs the model on a batch, for models that take more than `model(x)`.
        norm: Which statistics batch normalisation uses, as for the criteria.
        fold: False keeps ρ as a multiplier in the forward pass, as the paper does, so that the gradient with respect
            to W carries ρ too. True multiplies it into the values of a sparsified model: the same function, trained
            differently; from then on it is part of the weights.

    Returns:
        The model, changed in place.

    Raises:
        InputError: The method is unknown, data, masks or targets it needs are missing, masks are of another model, a
            second moment is not finite, or `fold` is asked for on a dense model. The model is then as it was.

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
    factors = rescaling_factors(model, batches, masks=masks, method=method, targets=targets, loss=loss, norm=norm)
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
    targets: Mapping[str, float] | None = None,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> dict[str, Tensor]:
    """The factors ρ that `rescale_` would set, for each pruned weight; the model is left as it was.

    Arguments and errors are those of `rescale_`.

    Returns:
        For each weight a scalar, or for `"tap"` a tensor of shape [1, 1, *kernel].

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
    if masks is None and not sparse:
        raise InputError("the model is dense: pass the masks that it is to be pruned with, or sparsify_ it first")
    chosen = sparse if masks is None else masks
    check_masks(chosen, {name: found.shape for name, found in listed(model).items()})
    require_ours(model, chosen)
    if method == "layer":
        factors = _calibrated(model, batches, chosen, targets, loss, norm)
    else:
        factors = {name: _formula(model, name, chosen, per_tap=method == "tap") for name in chosen}
    if chosen.empty:
        _warn(f"nothing is left of {', '.join(chosen.empty)}: no factor brings a signal back")
    return factors


def _formula(model: nn.Module, name: str, masks: Masks, *, per_tap: bool) -> Tensor:
    """ρ = ‖W‖ / ‖W∘δ‖ of one weight; per tap in the shape [1, 1, *kernel]."""
    survivors = survivors_of(model, name)
    values = stored(model, name).detach()
    dense = values if survivors is None else survivors(values)
    energy = tap_energy(dense) if survivors is None else survivors.energy
    kept = tap_energy(dense * masks[name].to(dense.device))
    if not per_tap:
        energy, kept = energy.mean(), kept.mean()
    return torch.where(kept > 0, (energy / kept).sqrt(), 1.0)


def _calibrated(
    model: nn.Module,
    batches: Batches | None,
    masks: Masks,
    targets: Mapping[str, float] | None,
    loss: Loss,
    norm: Norm | None,
) -> dict[str, Tensor]:
    """Factors with which every layer's output has the second moment of the dense network's, found in one pass."""
    if batches is None:
        raise InputError("method='layer' calibrates on data: pass batches=[(inputs, labels), ...]")
    batch = joined(batches)
    plain = {name: tensor_without(model, name, "rescale") for name in masks}
    if targets is None:
        if current_masks(model):
            raise InputError(
                "the dense weights of a sparsified model are gone: pass targets=second_moments(model, batches) "
                "measured before sparsify_, or call rescale_(model, batches, masks=masks) first, then sparsify_"
            )
        targets = moments_of(model, [batch], plain, loss=loss, norm=norm)
    overrides = {name: tensor * masks[name].to(tensor.device) for name, tensor in plain.items()}
    # A weight used outside its own layer's forward pass is seen by nobody, and one that is an embedding too was read
    # before its layer runs, so that a factor found there would come too late. The formula needs no watching.
    weights = listed(model)
    early = {name for name in masks if is_read_elsewhere(model, weights[name])}
    unseen = {n: _formula(model, n, masks, per_tap=False) for n in masks if n not in targets or n in early}
    for name, value in unseen.items():
        overrides[name].mul_(value)
    factors: dict[str, Tensor] = {}
    silent: list[str] = []

    def correct(name: str, output: Tensor) -> Tensor | None:
        if name not in masks or name in early or name in factors:  # run again: the weight has its factor already
            return None
        moment = mean_square(output)
        if not math.isfinite(moment):
            blame(batch)
        if 0 in (moment, targets.get(name)) and name not in masks.empty:
            silent.append(name)
        value = factor_for(name, targets, moment)
        factors[name] = torch.tensor(value, dtype=torch.float64, device=output.device)
        overrides[name].mul_(value)
        return output * value

    with scoring_mode(model, norm), torch.no_grad(), watch(model, overrides, correct):
        call(model, batch, loss, overrides)
    if silent:
        _warn(f"no signal reaches {', '.join(silent)}, so there is nothing to calibrate there")
    return unseen | factors


def factor_for(name: str, targets: Mapping[str, float], moment: float) -> float:
    """The factor that takes the second moment of layer `name` to its target; 1 where either is 0."""
    if name not in targets:
        raise InputError(f"targets has no second moment for {name}; it has {', '.join(targets) or 'none'}")
    if targets[name] < 0:
        raise InputError(f"the target of {name} is {targets[name]:g}: second moments are at least 0")
    if not math.isfinite(targets[name]) or not math.isfinite(moment):
        raise InputError(
            f"the second moment of {name} is {targets[name]:g} in the dense and {moment:g} in the pruned network: "
            "there is no finite signal to go back to; initialise on the Edge of Chaos first (edge_of_chaos_)"
        )
    # Where the dense layer puts out nothing on this data, a factor of 0 would remove it on all data.
    return math.sqrt(targets[name] / moment) if moment > 0 and targets[name] > 0 else 1.0


def _fold_(model: nn.Module, name: str, value: Tensor) -> None:
    survivors = survivors_of(model, name)
    if survivors is not None:
        with torch.no_grad():
            set_stored_(model, name, survivors.gather(survivors(stored(model, name)) * value))


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
