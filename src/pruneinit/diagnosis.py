"""What pruning does to a network: what is left of each layer, and what signal passes through it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pruneinit.batch import Batches
from pruneinit.functional import Loss, Norm, cross_entropy
from pruneinit.masks import Masks, check_masks
from pruneinit.moments import second_moments
from pruneinit.survivors import current_masks
from pruneinit.weights import prunable


@dataclass(frozen=True)
class Layer:
    """One weight of a diagnosed model.

    Attributes:
        name: The weight's name.
        kind: The kind of its layer.
        shape: The dense tensor's shape.
        total: How many values there are.
        kept: How many are kept.
        dense: Second moment of the layer's output without bias before pruning; None where it was not measured.
        now: The same with the masks, or as the sparsified model is now.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    total: int
    kept: int
    dense: float | None
    now: float | None

    @property
    def density(self) -> float:
        """The fraction kept."""
        return self.kept / self.total


@dataclass(frozen=True)
class Diagnosis:
    """The layers of a model in the order in which they run; `print` it for a table and a verdict."""

    layers: tuple[Layer, ...]

    @property
    def sparsity(self) -> float:
        """The fraction of the weights removed."""
        return 1 - sum(layer.kept for layer in self.layers) / sum(layer.total for layer in self.layers)

    @property
    def empty(self) -> tuple[str, ...]:
        """The weights of which nothing is left."""
        return tuple(layer.name for layer in self.layers if not layer.kept)

    @property
    def verdict(self) -> str:
        """What the numbers mean, in a sentence."""
        if self.empty:
            return (
                f"{len(self.empty)} of {len(self.layers)} layers are empty ({', '.join(self.empty[:3])}"
                f"{', ...' if len(self.empty) > 3 else ''}): without a shortcut around them no signal passes"
            )
        signal = [layer.now for layer in self.layers if layer.now is not None]
        if not signal:
            return "no layer is empty; pass batches to see what signal passes"
        first, last = signal[0], signal[-1]
        if not first > 0 or not 0 <= last < float("inf"):
            return "the signal is not finite: the forward pass overflows or the input is zero"
        if last < first * 1e-3:
            return f"the signal dies: the second moment falls from {first:.2g} to {last:.2g}; rescale_ brings it back"
        if last > first * 1e3:
            return f"the signal explodes: the second moment grows from {first:.2g} to {last:.2g}"
        return f"a signal passes: the second moment goes from {first:.2g} to {last:.2g}, and no layer is empty"

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{'weight':{width}} {'kept':>10} {'total':>10} {'density':>8} {'q dense':>9} {'q now':>9}"]
        for layer in self.layers:
            dense, now = (f"{q:9.3g}" if q is not None else f"{'-':>9}" for q in (layer.dense, layer.now))
            note = "  empty" if not layer.kept else ""
            lines.append(
                f"{layer.name:{width}} {layer.kept:>10,} {layer.total:>10,} {layer.density:8.2%} {dense} {now}{note}"
            )
        return "\n".join([*lines, f"sparsity {self.sparsity:.4g}; {self.verdict}"])


def diagnose(
    model: nn.Module,
    batches: Batches | None = None,
    masks: Masks | None = None,
    *,
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> Diagnosis:
    """Look at a pruned network before training it; the model is left as it was.

    Args:
        model: A dense model (with `masks`, or to be looked at as it is) or a sparsified one.
        batches: Data on which to measure second moments; None for densities alone.
        masks: Masks to look at, for a dense model.
        loss: Runs the model on a batch, for models that take more than `model(x)`.
        norm: Which statistics batch normalisation uses, as for the criteria.

    Returns:
        For each weight what is kept of it and the second moment of its layer's output before and after.

    Raises:
        InputError: Masks or data do not fit the model.

    Example:
        >>> import torch, pruneinit as pi
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> masks = pi.Masks({"0.weight": torch.ones(4, 2).bool(), "2.weight": torch.zeros(2, 4).bool()})
        >>> print(diagnose(model, masks=masks))
        weight         kept      total  density   q dense     q now
        0.weight          8          8  100.00%         -         -
        2.weight          0          8    0.00%         -         -  empty
        sparsity 0.5; 1 of 2 layers are empty (2.weight): without a shortcut around them no signal passes
    """
    weights = prunable(model)
    sparse = current_masks(model)
    chosen = sparse if masks is None else masks
    check_masks(chosen, {name: found.shape for name, found in weights.items()})
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    if batches is not None:
        batches = list(batches)
        after = second_moments(model, batches, masks=masks, loss=loss, norm=norm)
        if not sparse and masks is not None:
            before = second_moments(model, batches, loss=loss, norm=norm)
    order = [*after, *(name for name in weights if name not in after)]
    layers = []
    for name in order:
        found = weights[name]
        kept = chosen.counts[name][0] if name in chosen else found.numel
        layers.append(Layer(name, found.kind, found.shape, found.numel, kept, before.get(name), after.get(name)))
    return Diagnosis(tuple(layers))
