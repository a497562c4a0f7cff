"""Pruning criteria: each a small frozen dataclass, called `(model, batches, masks) -> scores`, larger = keep."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from pruneinit.batch import Batches
from pruneinit.criteria.fisher import Fisher
from pruneinit.criteria.force import Force
from pruneinit.criteria.grasp import Grasp
from pruneinit.criteria.iterative_snip import IterativeSnip
from pruneinit.criteria.lamp import Lamp
from pruneinit.criteria.magnitude import Magnitude
from pruneinit.criteria.ntk_sap import NtkSap
from pruneinit.criteria.obd import Obd
from pruneinit.criteria.phew import Phew
from pruneinit.criteria.prospr import ProsPr
from pruneinit.criteria.random import Random
from pruneinit.criteria.smart_ratio import SmartRatio
from pruneinit.criteria.snip import Snip
from pruneinit.criteria.synflow import SynFlow
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks


class Criterion(Protocol):
    """What a criterion is: scores for the weights of `masks` (all prunable ones if None), larger = keep.

    It may have `rounds`, how often `prune` scores and selects where it is not told (1 where it has none), and
    `revives`, true where a round may bring back what an earlier one has removed. It may also have
    `prepare(model, batches)`, which gives the scores as a function of masks: where there are several rounds, `prune`
    calls it once, so that what is the same in all of them is found once.
    """

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """A tensor of scores for each weight, of its shape. What `masks` removes counts as zero."""
        ...


__all__ = [
    "Batches",
    "Criterion",
    "Fisher",
    "Force",
    "Grasp",
    "IterativeSnip",
    "Lamp",
    "Loss",
    "Magnitude",
    "Norm",
    "NtkSap",
    "Obd",
    "Phew",
    "ProsPr",
    "Random",
    "SmartRatio",
    "Snip",
    "SynFlow",
    "cross_entropy",
]
