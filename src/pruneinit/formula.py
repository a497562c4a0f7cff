"""The paper's factor of the rescaling trick, which needs no data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruneinit.masks import Masks
from pruneinit.reparametrize import stored
from pruneinit.survivors import survivors_of, tap_energy


def formula(model: nn.Module, name: str, masks: Masks, *, per_tap: bool) -> Tensor:
    """ρ = ‖W‖ / ‖W∘δ‖ of one weight, 1 where nothing is left; per tap in the shape [1, 1, *kernel].

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(model.weight)
        >>> formula(model, "weight", Masks({"weight": torch.tensor([[True, False]])}), per_tap=False)
        tensor(1.4142)
    """
    survivors = survivors_of(model, name)
    values = stored(model, name).detach()
    dense = values if survivors is None else survivors(values)
    energy = tap_energy(dense) if survivors is None else survivors.energy
    kept = tap_energy(dense * masks[name].to(dense.device))
    if not per_tap:
        energy, kept = energy.mean(), kept.mean()
    return torch.where(kept > 0, (energy / kept).sqrt(), 1.0)
