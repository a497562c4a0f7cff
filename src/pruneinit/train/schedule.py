"""The learning rate as a pure function of the step, so that a resumed training needs no scheduler state."""

from __future__ import annotations

import math

from pruneinit.train.config import Training


def learning_rate(step: int, steps_per_epoch: int, training: Training) -> float:
    """The learning rate of one step.

    Args:
        step: Counted from 0 over the whole training.
        steps_per_epoch: Steps an epoch has, 1 or more.
        training: The settings.

    Returns:
        The factor in front of the update. `"step"` changes at the step nearest to each milestone; `"cosine"` falls
        from the end of the warm-up towards 0, which it would reach one step after the last; `"onecycle"` is
        `torch.optim.lr_scheduler.OneCycleLR` with its defaults (Smith and Topin, arXiv 1708.07120).

    Example:
        >>> settings = Training(epochs=4, lr=0.8, warmup_epochs=1)
        >>> [learning_rate(step, 2, settings) for step in range(8)]
        [0.4, 0.8, 0.8, 0.8, 0.08..., 0.08..., 0.008..., 0.008...]
    """
    total = training.epochs * steps_per_epoch
    if training.schedule == "onecycle":
        return training.lr * _onecycle(step, total, (training.warmup_epochs or 0.3 * training.epochs) * steps_per_epoch)
    warmup = round(training.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return training.lr * (step + 1) / warmup
    if training.schedule == "step":
        passed = sum(step >= round(milestone * total) for milestone in training.milestones)
        return training.lr * training.gamma**passed
    if training.schedule == "cosine":
        return training.lr * _cosine(1.0, 0.0, (step - warmup) / (total - warmup))
    return training.lr


def _onecycle(step: int, total: int, rise: float) -> float:
    low, final = 1 / 25, 1 / 25 / 1e4
    top, last = rise - 1, total - 1
    if step <= top and top > 0:
        return _cosine(low, 1.0, step / top)
    # A rise shorter than one step leaves only the way down.
    return _cosine(1.0, final, (step - max(top, 0.0)) / max(last - max(top, 0.0), 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
