"""Pruning in rounds with the network brought back to the Edge of Chaos after each of them."""

from __future__ import annotations

import copy
import warnings
from typing import get_args

from torch import nn

from pruneinit.batch import Batches, joined
from pruneinit.calibration import CLAMP, Unit, calibrated, dense_moments, without_factors
from pruneinit.errors import InputError, unknown
from pruneinit.functional import Loss, Norm, effective_weights
from pruneinit.masks import Masks
from pruneinit.processes import groups_of
from pruneinit.reparametrize import require_ours
from pruneinit.rescale import apply_rescaling_
from pruneinit.survivors import current_masks
from pruneinit.weights import uncompiled


class Between:
    """The network that the next round scores: a copy of the model, with factors for the masks of the round before.

    Its second moments are those of the dense model (of a sparsified one: as it is given), measured once. The copy has
    the model's values and factors beside them, so that a criterion sees factor times weight, and masks as always.

    Args:
        model: Any module; left as it was.
        masks: All that can be kept.
        batches: What to calibrate on.
        unit: `"layer"` or `"neuron"`.
        loss: Runs the model on a batch.
        norm: Which statistics batch normalisation uses.

    Raises:
        InputError: The model is shared by several processes or cannot be copied, or as `second_moments` does.

    Example:
        >>> import torch
        >>> from pruneinit.functional import cross_entropy
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> batch = torch.tensor([[3.0, 4.0]]).repeat(32, 1), torch.zeros(32, dtype=torch.long)
        >>> kept = Masks({"weight": torch.ones(1, 2).bool()})
        >>> between = Between(model, kept, [batch], "layer", loss=cross_entropy, norm=None)
        >>> between.network(Masks({"weight": torch.tensor([[False, True]])})).weight  # 7 / 4
        tensor([[1.7500, 1.7500]], grad_fn=<MulBackward0>)
    """

    def __init__(
        self, model: nn.Module, masks: Masks, batches: Batches | None, unit: Unit, *, loss: Loss, norm: Norm | None
    ) -> None:
        if groups_of(model):
            raise InputError(
                "rescaling between rounds calibrates in one process, and several share this model: prune the model "
                "that they wrap, unsharded, on one of them, and hand out its masks"
            )
        require_ours(model, masks)
        self.unit, self.loss, self.norm = unit, loss, norm
        self.batch = joined(batches if batches is not None else _no_data(unit))
        tensors = effective_weights(model, masks) if current_masks(model) else without_factors(model, masks)
        self.targets = dense_moments(model, self.batch, tensors, unit, loss=loss, norm=norm)
        self.copy = _copied(model)
        self.told = False

    def network(self, masks: Masks) -> nn.Module:
        """The copy, with the factors that go with `masks`. A warning says, once, where there is too little data."""
        found = calibrated(
            self.copy, self.batch, masks, self.targets, self.unit, clamp=CLAMP, loss=self.loss, norm=self.norm
        )
        if not self.told:
            self.told = True
            for message in found.doubts():
                warnings.warn(message, UserWarning, stacklevel=3)
        return apply_rescaling_(self.copy, found.factors)


def check_between(rescale: str | None, rounds: int) -> None:
    """See that there is such a rescaling, and that there are rounds to do it between.

    Raises:
        InputError: It is not so.

    Example:
        >>> check_between("neuron", 1)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: rescale='neuron' rescales between rounds, and there is one: ask for several, ...
    """
    if rescale is None:
        return
    if rescale not in get_args(Unit):
        raise unknown("rescaling between rounds", str(rescale), get_args(Unit))
    if rounds == 1:
        raise InputError(
            f"rescale={rescale!r} rescales between rounds, and there is one: ask for several, rounds=20 say, or call "
            "rescale_ with the masks"
        )


def _no_data(unit: Unit) -> Batches:
    raise InputError(f"rescale={unit!r} calibrates on data: pass batches=[(inputs, labels), ...]")


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(uncompiled(model))
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"rescaling between rounds works on a copy, and {type(model).__name__} cannot be copied by copy.deepcopy: "
            f"{reason}"
        ) from error
