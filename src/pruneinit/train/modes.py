"""Train and eval mode for a while, module by module as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put every module of `model` into train or eval mode; on leaving, each has the mode it had.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
        >>> with mode(model, training=True):
        ...     model[1].training
        True
        >>> model[1].training
        False
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was
