"""What a diagnosis has measured, before anything is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pruneinit.errors import InputError
from pruneinit.forecasting import Forecast
from pruneinit.propagation import Signal, chi_hat


@dataclass(frozen=True)
class Layer:
    """One weight of a diagnosed model.

    Attributes:
        name: The weight's name.
        kind: The kind of its layer.
        shape: The dense tensor's shape.
        total: How many values there are.
        kept: How many are kept.
        alive: How many of these lie on a path from an input to an output; None where it was not looked for.
        expected: The density that the plain law gives this layer at the sparsity of the whole; None without a forecast.
        outputs: Its neurons or channels; None for the first dimension of the tensor.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    total: int
    kept: int
    alive: int | None = None
    expected: float | None = None
    outputs: int | None = None

    @property
    def density(self) -> float:
        """The fraction kept."""
        return self.kept / self.total if self.total else 1.0


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model that are those of a linear layer.

    Attributes:
        name: The layer's weight.
        number: How many there are.
        reached: To how many of them a weight on a path leads.
    """

    name: str
    number: int
    reached: int


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured of a model: its layers in the order in which they run, and what passes through them.

    Attributes:
        layers: The weights.
        stages: What each layer puts out and gets back: `"dense"` before pruning, `"pruned"` with the masks,
            `"rescaled"` with calibrated factors on top, one a layer, and `"by neuron"` with one a neuron, where the
            others are not expected to train; of a sparsified model the stages it has gone through itself.
        expected: What mean-field theory expects of the dense network, from the scales of its weights; empty where it is
            no plain stack.
        forecast: Of the criterion, where the model is dense and there are batches.
        branches: How many residual branches the model has, where they could be seen.
        stable: Whether these are divided already (Stable ResNet).
        learnable: The share of a few labels that the network can learn by its linearisation
            (`tangent.learnable_share`), by stage: of the one to be trained, and each further one if those before it
            are below `LEARNS`; empty where it is not known.
        outputs: Of the model, where they are those of a linear layer; None where they are not, or are not known.
        isometric: Whether most weights are sparse and orthogonal at once, as `sparse_orthogonal_` draws them.
        judge: The stage that the verdict is about; None for the model as it was given, with its masks.
    """

    layers: tuple[Layer, ...]
    stages: Mapping[str, Mapping[str, Signal]] = field(default_factory=dict)
    expected: Mapping[str, Signal] = field(default_factory=dict)
    forecast: Forecast | None = None
    branches: int = 0
    stable: bool = False
    learnable: Mapping[str, float] = field(default_factory=dict)
    outputs: Outputs | None = None
    isometric: bool = False
    judge: str | None = None

    @property
    def sparsity(self) -> float:
        """The fraction of the weights removed."""
        return 1 - sum(layer.kept for layer in self.layers) / sum(layer.total for layer in self.layers)

    @property
    def effective_sparsity(self) -> float | None:
        """The fraction of the weights that are removed or on no path; None where it was not looked for."""
        alive = [layer.alive for layer in self.layers if layer.alive is not None]
        if len(alive) < len(self.layers):
            return None
        return 1 - sum(alive) / sum(layer.total for layer in self.layers)

    @property
    def empty(self) -> tuple[str, ...]:
        """The weights of which nothing is left."""
        return tuple(layer.name for layer in self.layers if not layer.kept)

    @property
    def cut_off(self) -> tuple[str, ...]:
        """The weights of which something is left, but nothing on a path from an input to an output."""
        return tuple(layer.name for layer in self.layers if layer.kept and layer.alive == 0)

    @property
    def scarce(self) -> tuple[str, ...]:
        """The weights of which less than one value for each output neuron is left, but not nothing."""
        return tuple(
            layer.name for layer in self.layers if 0 < layer.kept < min(layer.outputs or layer.shape[0], layer.total)
        )

    @property
    def conditioning(self) -> float | None:
        """The largest score moment over the smallest; None without a forecast."""
        return None if self.forecast is None else self.forecast.conditioning

    def chi(self, stage: str) -> float | None:
        """χ as the network shows it at a stage: by how much the gradient's square grows per layer on its way back.

        Raises:
            InputError: There is no such stage.
        """
        if stage not in self.stages:
            there = ", ".join(self.stages) or "none without batches"
            raise InputError(f"there is no stage {stage!r}; there is {there}")
        return chi_hat(self.stages[stage])

    @property
    def stage(self) -> str | None:
        """The stage that is about to be trained: the last one, but for the mere try of rescaling a dense model."""
        if not self.stages:
            return None
        if self.judge in self.stages:
            return self.judge
        names = list(self.stages)
        return "pruned" if "dense" in names and "pruned" in names else names[-1]
