"""What a training came to: the figures that a run's record and a sweep's result share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from pruneinit.survivors import current_masks
from pruneinit.train import Epoch
from pruneinit.weights import prunable


def outcome(model: nn.Module, records: Sequence[Epoch]) -> dict[str, Any]:
    """The figures of the last epoch, and of the one that was best on test data, by the names of the record.

    Args:
        model: The trained network.
        records: One an epoch, at least one.

    Returns:
        `test_accuracy` (last epoch), `best_test_accuracy` and `best_epoch` (picked on test data), `epochs`, `seconds`
        of training, `survivors` (weights kept), `diverged`.
    """
    best = max(records, key=lambda epoch: epoch.test_accuracy)
    return {
        "test_accuracy": records[-1].test_accuracy,
        "best_test_accuracy": best.test_accuracy,
        "best_epoch": best.epoch,
        "epochs": len(records),
        "seconds": sum(epoch.seconds for epoch in records),
        "survivors": sum(kept for kept, _ in kept_counts(model).values()),
        "diverged": records[-1].diverged,
    }


def kept_counts(model: nn.Module) -> dict[str, tuple[int, int]]:
    """How many weights of each prunable tensor are kept, and how many it has; all of one that was not pruned.

    Example:
        >>> kept_counts(nn.Linear(3, 2))
        {'weight': (6, 6)}
    """
    counts = current_masks(model).counts
    return {name: counts.get(name, (weight.numel, weight.numel)) for name, weight in prunable(model).items()}
