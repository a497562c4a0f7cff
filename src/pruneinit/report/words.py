"""Numbers as people write them, and the sentences that sum a run up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pruneinit.report.record import RunRecord

NOTHING = "–"


def count(number: int | None) -> str:
    """A whole number with its thousands apart.

    Example:
        >>> count(1870912)
        '1,870,912'
    """
    return NOTHING if number is None else f"{number:,}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage, for accuracies.

    Example:
        >>> percent(0.97236), percent(None)
        ('97.24 %', '–')
    """
    return NOTHING if fraction is None else f"{fraction * 100:.{digits}f} %"


def share(kept: int, total: int) -> str:
    """How large a part `kept` is of `total`; never rounded to nothing or to all when it is neither.

    Example:
        >>> share(37412, 1870912), share(0, 5), share(5, 5), share(99999, 100000), share(1, 10**9)
        ('2 %', '0 %', '100 %', 'over 99.9 %', 'under 0.001 %')
    """
    if total == 0:
        return NOTHING
    value = 100 * kept / total
    if 0 < value < 0.001:
        return "under 0.001 %"
    if 99.95 <= value < 100:
        return "over 99.9 %"
    decimals = 2 if value == 0 else max(0, 2 - math.floor(math.log10(value)))
    text = f"{value:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def number(value: float | None, digits: int = 3) -> str:
    """A measured value to a few significant digits; a dash where it was not finite or not measured.

    Example:
        >>> number(0.14159), number(1.2e-17), number(None)
        ('0.142', '1.2e-17', '–')
    """
    return NOTHING if value is None else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """A time in the units one would say it in.

    Example:
        >>> duration(0.42), duration(75), duration(4320)
        ('0.42 s', '1 min 15 s', '1 h 12 min')
    """
    if seconds is None:
        return NOTHING
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def several(number: int, noun: str) -> str:
    """A count with its noun, in the plural unless it is one.

    Example:
        >>> several(1, "epoch"), several(1200, "epoch")
        ('1 epoch', '1,200 epochs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline(record: RunRecord) -> str:
    """The run in one sentence."""
    weights = _weights(record)
    if record.test_accuracy is None:
        return f"Not trained yet{', ' + weights if weights else ''}"
    text = f"{percent(record.test_accuracy, 1)} test accuracy {weights}".rstrip()
    if record.diverged:
        return f"Diverged: {text}"
    return text if record.result else f"Unfinished: {text}, after {several(len(record.epochs), 'epoch')}"


def cautions(record: RunRecord) -> list[str]:
    """What a reader must know before believing the numbers, a sentence each; often none."""
    found = []
    if record.empty:
        names = listing([layer.name for layer in record.empty])
        verb = "is" if len(record.empty) == 1 else "are"
        layers = f"{len(record.empty)} of {several(len(record.layers), 'layer')} {verb} empty"
        found.append(f"{layers}: {_consequence(record)} ({names})")
    if record.diverged:
        first = next((epoch.epoch for epoch in record.epochs if epoch.train_loss is None), None)
        found.append("Training diverged" + (f": the loss was not finite in epoch {first}" if first is not None else ""))
    if record.result is None:
        done = f"{several(len(record.epochs), 'epoch')} so far" if record.epochs else "no epoch has ended so far"
        found.append(f"The run is unfinished: {done}, and no final result")
    elif record.layers and record.result.survivors != record.kept:
        found.append(
            f"Pruning kept {count(record.kept)} weights, but the run ended with {count(record.result.survivors)}"
        )
    return found


def listing(names: Sequence[str], most: int = 4) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> listing(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def short_names(names: Sequence[str]) -> list[str]:
    """Layer names without the ending `.weight`, if all have it.

    Example:
        >>> short_names(["fc1.weight", "fc2.weight"])
        ['fc1', 'fc2']
    """
    if all(name.endswith(".weight") and name != ".weight" for name in names):
        return [name.removesuffix(".weight") for name in names]
    return list(names)


def _weights(record: RunRecord) -> str:
    if not record.layers:
        return ""
    if record.kept == record.total:
        return f"with all {count(record.total)} weights"
    return f"with {share(record.kept, record.total)} of the weights ({count(record.kept)} of {count(record.total)})"


def _consequence(record: RunRecord) -> str:
    """Only a measured output of zero shows that nothing passes: a shortcut may lead around an empty layer."""
    if record.stages and record.stages[-1].name != "dense" and record.stages[-1].moments:
        last = record.stages[-1].moments[-1][1]
        if last == 0:
            return "no signal passes, the output on a whole batch is zero"
    return "no signal passes unless a shortcut leads around them"
