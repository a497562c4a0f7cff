"""What a diagnosis means, in words, and what would help."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pruneinit.densities import counts
from pruneinit.findings import Findings
from pruneinit.propagation import Signal, inner_gradients
from pruneinit.remedies import remedy, rounded

LOST = 1e3  # A signal that is smaller by this factor than the dense network's is as good as gone.
FADED = 30  # A gradient's square may change by this factor through the whole network, which still trains.
NEAR = 0.1  # |log χ| that counts as close to the Edge of Chaos,
FAR = 0.7  # and as far from it, however few layers there are.
ALIKE = 0.995  # A correlation between any two examples from which on they are the same to a layer.
LEARNS = 0.5  # A share of a few labels that is learnable, from which on deep networks trained (docs/edge.md).
BY_NEURON = "by neuron"  # The stage that is rescaled with a factor for each neuron.
DEEP = 4  # Inner layers from which on a change is one of depth; a change over fewer must be as large as LOST.


def verdict(found: Findings) -> str:
    """The state of the network as it is to be trained, in a few sentences.

    Of a dense model with masks it is the pruned network that is judged: that rescaling would help is advice.
    """
    parts = _emptiness(found)
    stage = found.stage
    if stage is None:
        return " ".join(parts or ["No layer is empty; pass batches to see what signal passes."])
    if not found.stages[stage]:
        return " ".join([*parts, "No layer with a weight was run: there is no signal to look at."])
    last = list(found.stages[stage].values())[-1].second_moment
    if last == 0:
        return " ".join([*parts, "No signal passes: the output on the whole batch is 0 but for biases."])
    if not math.isfinite(last):
        return " ".join([*parts, "The signal is not finite: the forward pass overflows."])
    if found.effective_sparsity == 1:
        lost = "What comes out is made of biases alone"
        return " ".join([*parts, f"{lost}." if found.empty else f"No weight kept is on a path to the output. {lost}."])
    signal = [_forward(found, stage), *_alike(found, stage), _backward(found, stage)]
    told = [*_unreached(found), *signal, *_expectation(found, stage)]
    return " ".join([*parts, *told])


def trains(found: Findings, stage: str) -> bool | None:
    """Whether a network is expected to train: it can learn enough of a few labels, and its gradient does not explode.

    Found and judged on deep plain networks (docs/edge.md).

    Returns:
        None where it is not known what it can learn.
    """
    if stage not in found.learnable:
        return None
    return expected(found.learnable[stage], through(found.stages.get(stage, {})))


def expected(learnable: float, change: float | None) -> bool:
    """Whether a network is expected to train, by the share it can learn and its gradient's change (of the square).

    Example:
        >>> expected(0.9, 0.2), expected(0.9, None), expected(0.3, 0.2), expected(0.9, 1e6)
        (True, True, False, False)
    """
    return learnable >= LEARNS and (change is None or change <= LOST)


def advice(found: Findings) -> tuple[str, ...]:
    """What would help: the paper's remedies, where the numbers say that they apply."""
    lines = []
    dense = through(found.stages["dense"]) if "dense" in found.stages else None
    chi = found.chi("dense") if "dense" in found.stages else None
    far = chi is not None and abs(math.log(chi)) > FAR
    off = dense is not None and not found.branches and ((_worse(dense) > FADED and _goes_on(found)) or far)
    isometric = found.isometric and not off and _carries(found)
    if off:
        phase = "ordered" if (dense or 0) < 1 else "chaotic"
        lines.append(
            f"Already before pruning the network is in the {phase} phase: the square of its gradient changes "
            f"{_by(dense)} on the way back. Initialise on the Edge of Chaos: edge_of_chaos_(model)."
        )
    elif isometric:
        lines.extend(_too_sparse(found))
    elif found.empty or found.scarce:
        lines.append(_starved(found))
    keeps_enough = not found.empty and not found.scarce and not isometric
    if keeps_enough and _unreached(found) and _last_keeps_more_by_erk(found):
        lines.append("Let the last layer keep more, so that more outputs can be reached: prune(..., scope='erk+').")
    if not off and not found.empty and trains(found, BY_NEURON):
        lines.append(
            "Rescale the survivors by neuron, rescale_(model, batches, masks=masks, method='neuron'): of the labels of "
            f"a few examples it could then learn {_share(found, BY_NEURON)} in a thousand steps, linearised, with one "
            f"factor a layer {_share(found, 'rescaled')}."
        )
    elif found.stage == "pruned" and not found.empty and found.effective_sparsity != 1:
        pruned, rescaled = (through(found.stages.get(stage, {})) for stage in ("pruned", "rescaled"))
        if _worse(pruned) > FADED and _worse(rescaled) < _worse(pruned) / 10:
            lines.append(
                "Rescale the survivors, rescale_(model, batches, masks=masks): the square of the gradient would then "
                f"change {_by(rescaled)} on the way back, instead of {_by(pruned)}."
            )
    if not off and not found.empty and not found.branches and not isometric and _hopeless(found):
        share = f"sparsity={found.sparsity:.4g}"
        tried = "Rescaled by layer or by neuron" if BY_NEURON in found.learnable else "Rescaled"
        lines.append(
            f"{tried} it is not expected to train either. What is deep and sparse without shortcuts "
            f"trains from layers that are sparse and orthogonal at once: sparse_orthogonal_(model, {share}), then "
            f"prune(model, Magnitude(), {share}, scope='ends')."
        )
    dead = 0.0 if isometric else _dead(found)  # with other weights its layers would be orthogonal no more
    if dead == 1 and not found.empty and found.stages.get(found.stage or ""):
        lines.append("prune(..., effective=True) keeps weights only where they are on a path from input to output.")
    elif 0.01 < dead < 1:
        lines.append(
            f"{100 * dead:.2g} % of the weights kept lie on no path from input to output: prune(..., effective=True) "
            "spends them where they count."
        )
    return tuple(lines)


def through(signals: Mapping[str, Signal]) -> float | None:
    """By how much the gradient's square changes from the last layer back to the first, without these two.

    None where there are too few layers, or no finite gradient to begin with.

    Example:
        >>> through({str(layer): Signal(1.0, None, 2.0**-layer) for layer in range(5)})
        4.0
    """
    squares = inner_gradients(signals)
    if len(squares) < 2 or not 0 < squares[-1] < math.inf or not math.isfinite(squares[0]):
        return None
    return squares[0] / squares[-1]


def _emptiness(found: Findings) -> list[str]:
    if found.empty:
        verb, it = ("is", "it") if len(found.empty) == 1 else ("are", "them")
        if found.effective_sparsity is None:
            passes = f"no signal passes unless a shortcut leads around {it}"
        elif found.effective_sparsity < 1:
            passes = f"a signal passes around {it}"
        else:
            passes = "no path leads from input to output"
        return [f"{_count(found.empty, found)} {verb} empty ({_listed(found.empty)}): {passes}."]
    if found.cut_off and found.effective_sparsity != 1:
        keep = "keeps" if len(found.cut_off) == 1 else "keep"
        return [f"{_count(found.cut_off, found)} {keep} no weight on a path to the output ({_listed(found.cut_off)})."]
    if found.scarce:
        keep = "keeps" if len(found.scarce) == 1 else "keep"
        return [f"{_count(found.scarce, found)} {keep} less than one weight a neuron ({_listed(found.scarce)})."]
    return []


def _unreached(found: Findings) -> list[str]:
    last = found.outputs
    if last is None or last.reached == last.number:
        return []
    return [f"Nothing leads to {last.number - last.reached:,} of {last.number:,} outputs ({last.name})."]


def _last_keeps_more_by_erk(found: Findings) -> bool:
    """Whether the layer of the outputs would keep more by ERK+."""
    last = found.outputs
    kept = {layer.name: layer.kept for layer in found.layers}
    return last is not None and _by_rule(found, "erk+")[last.name] > kept[last.name]


def _by_rule(found: Findings, rule: str) -> dict[str, int]:
    """How many weights each layer would keep by a rule, as many in all."""
    shapes = {layer.name: layer.shape for layer in found.layers}
    sizes = {layer.name: layer.total for layer in found.layers}
    return counts(rule, shapes, sum(layer.kept for layer in found.layers), sizes)


def _count(names: tuple[str, ...], found: Findings) -> str:
    total = len(found.layers)
    return "The only layer" if total == 1 else f"{len(names)} of {total} layers"


def _forward(found: Findings, stage: str) -> str:
    now, dense = found.stages[stage], found.stages.get("dense")
    if dense is None or stage == "dense":
        values = [signal.second_moment for signal in now.values()]
        return f"The signal's second moment goes from {values[0]:.2g} to {values[-1]:.2g}."
    ratios = {n: s.second_moment / dense[n].second_moment for n, s in now.items() if dense[n].second_moment > 0}
    if not ratios:
        return "The dense network itself puts out nothing."
    name = max(ratios, key=lambda n: _worse(ratios[n]))
    where = f"in the branch at {name}" if found.branches else f"at {name}"
    if ratios[name] == 0:
        return f"The signal dies {where}: nothing comes out there."
    if ratios[name] < 1 / LOST:
        return f"The signal dies {where}: it has {ratios[name]:.1g} of the dense network's second moment."
    if ratios[name] > LOST:
        return f"The signal explodes {where}: it has {ratios[name]:.1g} times the dense network's second moment."
    return f"The signal passes: its second moment stays within {rounded(_worse(ratios[name]))}x of the dense network's."


def _alike(found: Findings, stage: str) -> list[str]:
    """From where on any two examples look the same, where the dense network can still tell them apart."""
    now, dense = found.stages[stage], found.stages.get("dense", {})
    first = None
    for name, signal in reversed(list(now.items())):
        before = dense[name].correlation if name in dense else None
        if signal.correlation is None or signal.correlation < ALIKE or (before is not None and before > ALIKE):
            break
        first = name
    if first is None or first == next(iter(now)):
        return []
    return [f"From {first} on all examples look the same."]


def _backward(found: Findings, stage: str) -> str:
    chi, change = found.chi(stage), through(found.stages[stage])
    if any(signal.gradient == 0 for signal in found.stages[stage].values()):
        return "No gradient comes back to some layers: they cannot learn."
    if change is None or chi is None:
        return "There are too few layers to tell how the gradient travels."
    if found.branches:
        return f"Between its branches the square of the gradient changes {_by(change)}; shortcuts carry it past them."
    measured = f"χ = {chi:.3g} a layer, measured on the gradient"
    limit = FADED if len(inner_gradients(found.stages[stage])) >= DEEP else LOST
    if change < 1 / limit:
        return f"The gradient vanishes on the way, its square {_by(change)}: first layers hardly learn ({measured})."
    if change > limit:
        return f"The gradient explodes on the way back, its square {_by(change)}: training is unstable ({measured})."
    if abs(math.log(chi)) < NEAR:
        return f"The gradient arrives: the network is close to the Edge of Chaos ({measured})."
    return f"The gradient arrives, its square changed {_by(change)} ({measured})."


def _expectation(found: Findings, stage: str) -> list[str]:
    """What is to be expected of training, where it is known."""
    told = trains(found, stage)
    if told is None:
        return []
    said = "it can be expected to train" if told else "do not expect it to train"
    share = _share(found, stage)
    return [f"Of the labels of a few examples it can learn {share} in a thousand steps, linearised: {said}."]


def _share(found: Findings, stage: str) -> str:
    return f"{100 * found.learnable[stage]:.0f} %"


def _goes_on(found: Findings) -> bool:
    """Whether the dense network's gradient goes on changing as deep as it is, as it does off the Edge of Chaos.

    On it the change slows down: of tanh without biases the square falls with the depth squared, most in the first half.
    """
    dense = list(found.stages["dense"].items())
    return _worse(through(dict(dense[len(dense) // 2 :]))) ** 2 > FADED


def _hopeless(found: Findings) -> bool:
    """Whether the network as it is, and rescaled if it may be, is not expected to train, deep as it is."""
    last = list(found.stages)[-1] if found.stages else ""
    here = found.stages.get(found.stage or "", {})
    return (
        len(inner_gradients(here)) >= DEEP
        and trains(found, found.stage or "") is False
        and trains(found, last) is False
    )


def _carries(found: Findings) -> bool:
    """Whether the gradient comes back at about its size, or nothing does: weights alone are no isometry."""
    change = through(found.stages.get(found.stage or "", {}))
    return change is None or _worse(change) <= LOST


def _too_sparse(found: Findings) -> list[str]:
    """What is left to advise where layers are sparse and orthogonal, if they are not expected to train even so."""
    told = trains(found, found.stage or "")
    fine = told or trains(found, BY_NEURON) or (told is None and not found.scarce)
    if fine and not found.empty and not _unreached(found):
        return []
    moved = any(
        abs(layer.kept - by) > 1 for layer, by in zip(found.layers, _by_rule(found, "ends").values(), strict=True)
    )
    share = f"sparsity={found.sparsity:.4g}, scope='ends'"
    other = f", or draw them anew, sparse_orthogonal_(model, {share}), then prune(model, Magnitude(), {share})"
    return [f"Its layers are sparse and orthogonal already: take fewer weights away{other if moved else ''}."]


def _starved(found: Findings) -> str:
    if len(found.layers) == 1 or found.conditioning is None:
        return "Take fewer weights away."
    if found.forecast is not None and not any(layer.largest for layer in found.forecast.layers):
        return "Every score is 0, no gradient reaches a weight: look at the data, the initialisation and the loss."
    return remedy(found.conditioning, branches=found.branches, stable=found.stable, off_edge=False)


def _dead(found: Findings) -> float:
    """The share of the kept weights that lie on no path."""
    kept = sum(layer.kept for layer in found.layers)
    alive = sum(layer.kept if layer.alive is None else layer.alive for layer in found.layers)
    return 1 - alive / kept if kept else 0.0


def _worse(change: float | None) -> float:
    """A change as a factor above 1, whichever way."""
    if change is None or change == 0 or not math.isfinite(change):
        return math.inf
    return max(change, 1 / change)


def _by(change: float | None) -> str:
    worse = _worse(change)
    if worse == math.inf:
        return "to nothing"
    return "hardly at all" if worse < 1.5 else f"by a factor of {rounded(worse)}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
