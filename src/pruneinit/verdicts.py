"""What a diagnosis means, in words, and what would help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruneinit.propagation import Signal

if TYPE_CHECKING:
    from pruneinit.diagnosis import Diagnosis

LOST = 1e3  # A signal that is smaller by this factor than the dense network's is as good as gone.
FADED = 30  # A gradient's square may change by this factor through the whole network, which still trains.
UNEVEN = 100  # Score moments further apart than this leave some layers next to nothing.
NEAR = 0.1  # |log χ| that counts as close to the Edge of Chaos.


def verdict(found: Diagnosis) -> str:
    """The state of the network as it is to be trained, in a few sentences.

    Of a dense model with masks it is the pruned network that is judged: that rescaling would help is advice.
    """
    parts = _emptiness(found)
    stage = judged(found)
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
    return " ".join([*parts, _forward(found, stage), _backward(found, stage)])


def advice(found: Diagnosis) -> tuple[str, ...]:
    """What would help: the paper's remedies, where the numbers say that they apply."""
    lines = []
    dense = through(found.stages["dense"]) if "dense" in found.stages else None
    off = dense is not None and not found.branches and _worse(dense) > FADED
    if off:
        phase = "ordered" if (dense or 0) < 1 else "chaotic"
        lines.append(
            f"Already before pruning the network is in the {phase} phase: its gradient changes by {_times(dense)} on "
            "the way back. Initialise on the Edge of Chaos: edge_of_chaos_(model)."
        )
    if found.empty or found.scarce:
        lines.append(_starved(found, off))
    if judged(found) == "pruned" and not found.empty and found.effective_sparsity != 1:
        pruned, rescaled = (through(found.stages.get(stage, {})) for stage in ("pruned", "rescaled"))
        if _worse(pruned) > FADED and _worse(rescaled) < _worse(pruned) / 10:
            lines.append(
                "Rescale the survivors, rescale_(model, batches, masks=masks): the gradient would then change by "
                f"{_times(rescaled)} on the way back, instead of {_times(pruned)}."
            )
    dead = _dead(found)
    if dead == 1 and not found.empty and found.stages.get(judged(found) or ""):
        lines.append("prune(..., effective=True) keeps weights only where they are on a path from input to output.")
    elif 0.01 < dead < 1:
        lines.append(
            f"{100 * dead:.2g} % of the weights kept lie on no path from input to output: prune(..., effective=True) "
            "spends them where they count."
        )
    return tuple(lines)


def judged(found: Diagnosis) -> str | None:
    """The stage that is about to be trained: the last one, but for the mere try of rescaling a dense model."""
    if not found.stages:
        return None
    if found.judge in found.stages:
        return found.judge
    names = list(found.stages)
    return "pruned" if "dense" in names and "pruned" in names else names[-1]


def through(signals: Mapping[str, Signal]) -> float | None:
    """By how much the gradient's square changes from the last layer back to the first, without these two.

    None where there are too few layers, or no finite gradient to begin with.

    Example:
        >>> through({str(layer): Signal(1.0, None, 2.0**-layer) for layer in range(5)})
        4.0
    """
    squares = [s.gradient for s in signals.values() if s.gradient is not None][1:-1]
    if len(squares) < 2 or not 0 < squares[-1] < math.inf or not math.isfinite(squares[0]):
        return None
    return squares[0] / squares[-1]


def _emptiness(found: Diagnosis) -> list[str]:
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


def _count(names: tuple[str, ...], found: Diagnosis) -> str:
    total = len(found.layers)
    return "The only layer" if total == 1 else f"{len(names)} of {total} layers"


def _forward(found: Diagnosis, stage: str) -> str:
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
    return f"The signal passes: its second moment stays within {_round(_worse(ratios[name]))}x of the dense network's."


def _backward(found: Diagnosis, stage: str) -> str:
    chi, change = found.chi(stage), through(found.stages[stage])
    if any(signal.gradient == 0 for signal in found.stages[stage].values()):
        return "No gradient comes back to some layers: they cannot learn."
    if change is None or chi is None:
        return "There are too few layers to tell how the gradient travels."
    measured = f"χ = {chi:.3g} a layer, measured on the gradient"
    if found.branches:
        return (
            f"Between its branches the gradient changes by {_times(change)} ({measured}); shortcuts carry it past them."
        )
    if change < 1 / FADED:
        return (
            f"Its gradient vanishes on the way back, by {_times(change)}: the first layers hardly learn ({measured})."
        )
    if change > FADED:
        return f"Its gradient explodes on the way back, by {_times(change)}: training is unstable ({measured})."
    if abs(math.log(chi)) < NEAR:
        return f"Its gradient arrives: the network is close to the Edge of Chaos ({measured})."
    return f"Its gradient arrives, changed by {_times(change)} ({measured})."


def _starved(found: Diagnosis, off: bool) -> str:
    uneven = found.conditioning
    if len(found.layers) == 1:
        return "Take fewer weights away."
    if uneven is None or uneven < UNEVEN:
        return "Take fewer weights away, or share the sparsity out by layer: prune(..., scope='erk')."
    if found.forecast is not None and not any(layer.largest for layer in found.forecast.layers):
        return "Every score is 0, no gradient reaches a weight: look at the data, the initialisation and the loss."
    size = "without bound" if math.isinf(uneven) else f"by {_round(uneven)}x"
    text = f"The layers' score moments differ {size}, so one threshold starves some of them. "
    if found.branches and not found.stable:
        return text + "Divide the residual branches: stabilize_residuals_(model, example), the Stable ResNet."
    if off:
        return text + "On the Edge of Chaos they would not."
    return text + "Share the sparsity out by layer: prune(..., scope='erk')."


def _dead(found: Diagnosis) -> float:
    """The share of the kept weights that lie on no path."""
    kept = sum(layer.kept for layer in found.layers)
    alive = sum(layer.kept if layer.alive is None else layer.alive for layer in found.layers)
    return 1 - alive / kept if kept else 0.0


def _worse(change: float | None) -> float:
    """A change as a factor above 1, whichever way."""
    if change is None or change == 0 or not math.isfinite(change):
        return math.inf
    return max(change, 1 / change)


def _times(change: float | None) -> str:
    worse = _worse(change)
    return "all of it" if worse == math.inf else f"a factor of {_round(worse)}"


def _round(factor: float) -> str:
    """A factor to one digit above 10, and two below: 1.4, 60, 9e+05.

    Example:
        >>> [_round(factor) for factor in (1.44, 9.96, 14.0, 96.0, 8_900.0, 9e5)]
        ['1.4', '10', '10', '100', '9,000', '9e+05']
    """
    if factor < 9.95:
        return f"{factor:.2g}"
    return f"{float(f'{factor:.1g}'):,.0f}" if factor < 99_500 else f"{factor:.0e}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
