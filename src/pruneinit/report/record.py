"""What a finished, running or broken-off run has to tell, as plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Layer:
    """One prunable weight and how much of it was kept.

    Attributes:
        name: The parameter name.
        kind: `"linear"`, `"conv"`, ...
        shape: The shape of the dense tensor.
        total: How many values the dense tensor has.
        kept: How many of them are kept; `total` where nothing was pruned.

    Example:
        >>> Layer("fc.weight", "linear", (10, 100), 1000, 20).density
        0.02
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    total: int
    kept: int

    @property
    def density(self) -> float:
        """The fraction of values kept, in [0, 1]."""
        return self.kept / self.total if self.total else 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing of the layer is left."""
        return self.kept == 0


@dataclass(frozen=True)
class Stage:
    """The second moments of the layers' outputs on one batch, at one moment of a run's life.

    Attributes:
        name: `"dense"`, `"pruned"` or `"rescaled"`.
        moments: Layer name and E[y²] in order of execution; None where it was not finite.
    """

    name: str
    moments: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Pruning:
    """What was asked of the pruning: criterion, sparsity in [0, 1), and how many seconds it took."""

    criterion: str
    sparsity: float | None
    seconds: float | None


@dataclass(frozen=True)
class Rescaling:
    """The factor by which each layer's surviving weights were multiplied, and how it was found."""

    method: str
    factors: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class Residuals:
    """The factor by which the residual branches were multiplied, and their names."""

    factor: float | None
    branches: tuple[str, ...]


@dataclass(frozen=True)
class Epoch:
    """One epoch of training. Accuracies are fractions; None stands for not measured or not finite."""

    epoch: int
    learning_rate: float | None
    train_loss: float | None
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    seconds: float | None


@dataclass(frozen=True)
class Result:
    """The end of a run. `best_test_accuracy` was picked on the test data: orientation, not a result."""

    test_accuracy: float | None
    best_test_accuracy: float | None
    best_epoch: int | None
    epochs: int
    seconds: float | None
    survivors: int
    diverged: bool


@dataclass(frozen=True)
class RunRecord:
    """All that a run's folder says. Whatever the run did not get to is None or empty.

    Attributes:
        folder: Where it was read from.
        recipe: The nested settings of `recipe.yaml`.
        run: The recipe's hash, which names the run.
        versions: Versions of pruneinit and of torch, by name.
        parameters: How many parameters the dense model has, prunable or not.
        layers: The prunable weights; `kept` equals `total` where nothing was pruned.
        pruning: None for a dense run.
        rescaling: None where nothing was rescaled.
        residuals: None where no residual branch was scaled.
        stages: Second moments, in the order in which they were measured.
        epochs: In order; where an interrupted run repeated an epoch, its later record.
        result: None while the run is unfinished.
    """

    folder: Path
    recipe: Mapping[str, Any]
    run: str
    versions: Mapping[str, str]
    parameters: int | None
    layers: tuple[Layer, ...]
    pruning: Pruning | None
    rescaling: Rescaling | None
    residuals: Residuals | None
    stages: tuple[Stage, ...]
    epochs: tuple[Epoch, ...]
    result: Result | None

    @property
    def total(self) -> int:
        """How many prunable weights the dense model has."""
        return sum(layer.total for layer in self.layers)

    @property
    def kept(self) -> int:
        """How many of them are kept."""
        return sum(layer.kept for layer in self.layers)

    @property
    def empty(self) -> tuple[Layer, ...]:
        """The layers of which nothing is left."""
        return tuple(layer for layer in self.layers if layer.empty)

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy after the last epoch, in [0, 1]; None before the first epoch."""
        if self.result is not None:
            return self.result.test_accuracy
        return self.epochs[-1].test_accuracy if self.epochs else None

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch with the highest test accuracy, and that accuracy: picked on the test data."""
        if self.result is not None and self.result.best_epoch is not None:
            accuracy = self.result.best_test_accuracy
            return None if accuracy is None else (self.result.best_epoch, accuracy)
        measured = [(e.epoch, e.test_accuracy) for e in self.epochs if e.test_accuracy is not None]
        return max(measured, key=lambda pair: pair[1], default=None)

    @property
    def diverged(self) -> bool:
        """Whether the run says so, or, while it is unfinished, a training loss was not finite."""
        if self.result is not None:
            return self.result.diverged
        return any(epoch.train_loss is None for epoch in self.epochs)

    @property
    def state(self) -> str:
        """`"finished"`, `"diverged"`, `"unfinished"` or, before the first epoch, `"not trained yet"`."""
        if self.diverged:
            return "diverged"
        if self.result is not None:
            return "finished"
        return "unfinished" if self.epochs else "not trained yet"
