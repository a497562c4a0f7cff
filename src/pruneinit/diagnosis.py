"""Will it train? What pruning leaves of a network, held against what the theory expects of it."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from pruneinit.batch import Batches, each
from pruneinit.calibration import Unit
from pruneinit.criteria import Criterion
from pruneinit.errors import InputError, unknown
from pruneinit.expectation import expected_signals
from pruneinit.findings import Findings, Layer, Outputs
from pruneinit.forecasting import forecast
from pruneinit.functional import Loss, Norm, call, cross_entropy, effective_weights, scoring_mode
from pruneinit.initialize import NORMS
from pruneinit.isometry import orthogonal
from pruneinit.masks import Masks, check_masks
from pruneinit.meanfield import ActivationSpec
from pruneinit.propagation import signals_of
from pruneinit.reach import effective_masks
from pruneinit.reparametrize import Scale, chain, factor, tensor_without
from pruneinit.rescale import rescaling_factors
from pruneinit.residual import shortcuts
from pruneinit.survivors import current_masks
from pruneinit.tangent import learnable_share
from pruneinit.verdicts import BY_NEURON, LEARNS, advice, trains, verdict
from pruneinit.weights import Weight, listed, owner

_NEXT_TO_NOTHING = 1e-7  # of a layer


@dataclass(frozen=True, eq=False)
class Diagnosis(Findings):
    """What was measured of a model, and what it means; `print` it for a table, a verdict and advice."""

    @property
    def collapsed(self) -> bool:
        """Layer collapse: nothing of a layer is left, or on a path, or no finite signal or gradient gets through."""
        if self.empty or any(layer.alive == 0 for layer in self.layers):
            return True
        stage = self.stage
        if stage is None:
            return False
        now = list(self.stages[stage].values())
        return not now or any(s.gradient == 0 for s in now) or not 0 < now[-1].second_moment < math.inf

    @property
    def verdict(self) -> str:
        """What the numbers mean, in a sentence or two."""
        return verdict(self)

    @property
    def trains(self) -> bool | None:
        """Whether it is expected to train; None where that is not known: without data, or of another loss."""
        return False if self.collapsed else trains(self, self.stage or "")

    @property
    def advice(self) -> tuple[str, ...]:
        """What would help, a sentence each; empty where nothing needs help."""
        return advice(self)

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        stages = list(self.stages)
        head = f"{'weight':{width}} {'kept':>10} {'density':>9} {'law':>8} {'alive':>10}"
        lines = [head + "".join(f" {'q ' + stage:>11}" for stage in stages)]
        for layer in self.layers:
            # The law goes on below any weight: next to nothing is shown as nothing.
            law = 0.0 if layer.expected is None or layer.expected < _NEXT_TO_NOTHING else layer.expected
            expected = "-" if layer.expected is None else f"{100 * law:.3g}%"
            alive = "-" if layer.alive is None else f"{layer.alive:,}"
            row = f"{layer.name:{width}} {layer.kept:>10,} {100 * layer.density:>8.3g}% {expected:>8} {alive:>10}"
            for stage in stages:
                signal = self.stages[stage].get(layer.name)
                row += f" {'-' if signal is None else format(signal.second_moment, '.3g'):>11}"
            lines.append(row + ("  empty" if not layer.kept else ""))
        effective = self.effective_sparsity
        lines.append(f"sparsity {self.sparsity:.4g}" + ("" if effective is None else f", effective {effective:.4g}"))
        said = [textwrap.fill(text, 100, subsequent_indent="  ") for text in (self.verdict, *self.advice)]
        return "\n".join([*lines, *said])


def diagnose(
    model: nn.Module,
    batches: Batches | None = None,
    masks: Masks | None = None,
    *,
    criterion: Criterion | None = None,
    activation: ActivationSpec | None = None,
    rescale: Unit = "layer",
    loss: Loss = cross_entropy,
    norm: Norm | None = None,
) -> Diagnosis:
    """Look at a pruned network before training it; the model is left as it was.

    With masks for a dense model everything is measured three times: before pruning, pruned, and rescaled by calibration
    (`rescale_`), which shows whether rescaling would help.

    Of a plain classifier, without normalisation and shortcuts, it is told too whether it can be expected to train
    (`tangent.learnable_share`; docs/edge.md says how well). Where it cannot with one factor a layer, it is measured
    once more with one a neuron.

    Cost: a scoring, a forward and backward pass for each stage, and one for each calibration; of a plain classifier, a
    backward pass for each of ten outputs of 16 examples, one by one, for each stage of which it is told.

    Args:
        model: A dense model (with `masks`, or to be looked at as it is) or a sparsified one.
        batches: Data on which to measure, a few hundred examples; None for densities alone.
        masks: Masks to look at, for a dense model.
        criterion: What the masks were made by, for the forecast; None for SBP.
        activation: Of the model, for the theory's curve; None to read it off the activation modules.
        rescale: By what the stage `"rescaled"` of a dense model is calibrated.
        loss: Runs the model on a batch, for models that take more than `model(x)`.
        norm: Which statistics batch normalisation uses, as for the criteria.

    Returns:
        The diagnosis.

    Raises:
        InputError: Masks or data do not fit the model, a sparsified model is given masks that are not its own, or
            `rescale` is another word.

    Example:
        >>> import torch, pruneinit as pi
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> masks = pi.Masks({"0.weight": torch.ones(4, 2).bool(), "2.weight": torch.zeros(2, 4).bool()})
        >>> print(diagnose(model, masks=masks))
        weight         kept   density      law      alive
        0.weight          8      100%        -          -
        2.weight          0        0%        -          -  empty
        sparsity 0.5
        1 of 2 layers is empty (2.weight): no signal passes unless a shortcut leads around it.
        ...
    """
    if rescale not in get_args(Unit):
        raise unknown("rescale", rescale, get_args(Unit))
    weights = listed(model)
    sparse = current_masks(model)
    chosen = check_masks(sparse if masks is None else masks, {name: found.shape for name, found in weights.items()})
    if sparse and not _same(chosen, sparse):
        raise InputError("these masks are not those of the sparsified model: leave masks out, or densify_ it first")
    kept = {name: chosen.counts[name][0] if name in chosen else w.numel for name, w in weights.items()}
    if batches is None:
        layers = tuple(
            Layer(name, w.kind, w.shape, w.numel, kept[name], outputs=w.shape[w.out_dim]) for name, w in weights.items()
        )
        return Diagnosis(layers)
    batches = list(each(batches))
    at = _stages(model, batches, masks, sparse, rescale, loss, norm)
    stages = {name: signals_of(model, batches, stage.weights, loss=loss, norm=norm) for name, stage in at.items()}
    seen = list(next(iter(stages.values())))
    order = [*seen, *(name for name in weights if name not in seen)]
    found, law, expected = None, {}, {}
    if not sparse:
        with warnings.catch_warnings():  # of scores that are all 0: the verdict says what comes of it
            warnings.simplefilter("ignore", UserWarning)
            found = forecast(model, batches, criterion, loss=loss, norm=norm)
        removed = 1 - sum(kept.values()) / sum(w.numel for w in weights.values())
        law = found.law.densities(removed) if removed < 1 else dict.fromkeys(weights, 0.0)
        expected = expected_signals(model, stages["dense"], activation)
    alive = effective_masks(model, batches, masks, loss=loss) if chosen else None
    layers = tuple(
        Layer(
            name,
            weights[name].kind,
            weights[name].shape,
            weights[name].numel,
            kept[name],
            None if alive is None else alive.counts[name][0] if name in alive else kept[name],
            law.get(name),
            weights[name].shape[weights[name].out_dim],
        )
        for name in order
    )
    branches, stable = (found.branches, found.stable) if found is not None else shortcuts(model, batches[0])
    plain = not branches and not any(isinstance(module, NORMS) for module in model.modules())
    shares = _learnable(model, batches[0], at, norm) if plain and loss is cross_entropy else {}
    poor = "rescaled" in shares and max(shares.values()) < LEARNS
    if masks is not None and not sparse and rescale == "layer" and poor:
        with suppress(InputError):  # too few examples for the moments of neurons
            by_neuron = _rescaled(model, batches, masks, at, "neuron", loss, norm)
            share = learnable_share(model, batches[0], by_neuron.weights, by_neuron.scales, norm=norm)
            if share is not None:
                shares[BY_NEURON] = share
                stages[BY_NEURON] = signals_of(model, batches, by_neuron.weights, loss=loss, norm=norm)
    outputs = None
    if loss is cross_entropy and alive is not None and seen and seen[-1] in alive:
        outputs = _outputs(model, batches[0], weights[seen[-1]], alive[seen[-1]], norm)
    isometric = bool(chosen) and "pruned" in at and _isometric([at["pruned"].weights[name] for name in order])
    return Diagnosis(layers, stages, expected, found, branches, stable, shares, outputs, isometric)


def _isometric(weights: Sequence[Tensor]) -> bool:
    """Whether most weights are sparse and orthogonal at once."""
    return 2 * sum(orthogonal(weight) and not bool(weight.all()) for weight in weights) > len(weights)


def _outputs(model: nn.Module, batch: Any, last: Weight, alive: Tensor, norm: Norm | None) -> Outputs | None:
    """The outputs of the layer that runs last, if it is linear and they are the model's."""
    if last.kind != "linear":
        return None
    seen: list[Tensor] = []

    def ends_there(net: nn.Module, part: Any) -> bool:
        found = net(part[0])
        return bool(seen) and found is seen[-1]

    handle = owner(model, last.name)[0].register_forward_hook(lambda module, x, out: seen.append(out))
    try:
        with scoring_mode(model, norm), torch.no_grad():
            ends = call(model, batch, ends_there, {})
    finally:
        handle.remove()
    if not ends:
        return None
    rows = alive.movedim(last.out_dim, 0).flatten(1).any(1)
    return Outputs(last.name, len(rows), int(rows.sum()))


def _same(one: Masks, other: Masks) -> bool:
    return one.keys() == other.keys() and all(torch.equal(mask.cpu(), other[n].cpu()) for n, mask in one.items())


@dataclass(frozen=True)
class _Stage:
    """The weights that the forward pass sees at a stage, and by what their gradients are those of the parameters."""

    weights: Mapping[str, Tensor]
    scales: Mapping[str, Tensor]


def _stages(
    model: nn.Module,
    batches: Batches,
    masks: Masks | None,
    sparse: Masks,
    rescale: Unit,
    loss: Loss,
    norm: Norm | None,
) -> dict[str, _Stage]:
    with scoring_mode(model, norm), torch.no_grad():
        whole = effective_weights(model, None)
        fixed = {name: factor(model, name) for name in whole}
    if sparse:
        scaled = [n for n in sparse if any(isinstance(x, Scale) and x.role == "rescale" for x in chain(model, n))]
        before = {name: tensor_without(model, name, "rescale") for name in scaled}
        stages = {"pruned": _Stage(whole | before, sparse)}
        if scaled:
            stages["rescaled"] = _Stage(whole, fixed | {name: mask * fixed[name] for name, mask in sparse.items()})
        return stages
    stages = {"dense": _Stage(whole, fixed)}
    if masks is None:
        return stages
    with scoring_mode(model, norm), torch.no_grad():
        pruned = effective_weights(model, masks)
    left = fixed | {name: masks[name].to(value.device) * fixed[name] for name, value in pruned.items()}
    stages["pruned"] = _Stage(whole | pruned, left)
    stages["rescaled"] = _rescaled(model, batches, masks, stages, rescale, loss, norm)
    return stages


def _rescaled(
    model: nn.Module,
    batches: Batches,
    masks: Masks,
    stages: Mapping[str, _Stage],
    method: Unit,
    loss: Loss,
    norm: Norm | None,
) -> _Stage:
    """What the pruned stage of a dense model becomes by a method of calibration."""
    with warnings.catch_warnings():  # of layers that no signal reaches: the diagnosis lists them itself
        warnings.simplefilter("ignore", UserWarning)
        factors = rescaling_factors(model, batches, masks=masks, method=method, loss=loss, norm=norm)
    weights, scales = stages["pruned"].weights, stages["pruned"].scales
    return _Stage(
        {**weights, **{name: weights[name] * value for name, value in factors.items()}},
        {**scales, **{name: scales[name] * value for name, value in factors.items()}},
    )


def _learnable(model: nn.Module, batch: Any, stages: Mapping[str, _Stage], norm: Norm | None) -> dict[str, float]:
    """Of the stage that is to be trained; and rescaled, which may be tried, if it is not expected to learn as it is."""
    names = ["pruned", "rescaled"] if "dense" in stages and len(stages) > 1 else list(stages)[-1:]
    found: dict[str, float] = {}
    for name in names:
        share = learnable_share(model, batch, stages[name].weights, stages[name].scales, norm=norm)
        if share is None:
            break
        found[name] = share
        if share >= LEARNS:  # it is many backward passes
            break
    return found
