"""Which numbers of a run go into which figure, and the words beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruneinit.report import captions
from pruneinit.report.charts import Bar, Series, bar_chart, line_chart
from pruneinit.report.record import Epoch, RunRecord, Stage
from pruneinit.report.words import count, several, share, short_names

WIDE, HALF, NARROW = 900, 430, 340
Labelled = Sequence[tuple[str, RunRecord]]


@dataclass(frozen=True)
class Figure:
    """One figure drawn twice, since text in a scaled-down drawing cannot be read.

    Attributes:
        title: What it shows.
        text: What to look for, in plain words.
        wide: An `<svg>` for a screen.
        narrow: An `<svg>` for a phone, without tooltips.
        note: What the drawing leaves out; often empty.
    """

    title: str
    text: str
    wide: str
    narrow: str
    note: str = ""


def density_figure(record: RunRecord) -> Figure | None:
    """The density of each layer as bars; None for a dense run."""
    if record.pruning is None or not record.layers:
        return None
    title = "How much of each layer was kept"
    names = short_names([layer.name for layer in record.layers])
    bars = [
        Bar(
            name,
            100 * layer.density,
            share(layer.kept, layer.total),
            f"{count(layer.kept)} of {count(layer.total)} weights",
        )
        for name, layer in zip(names, record.layers, strict=True)
    ]
    kept = record.kept / record.total if record.total else 0.0
    overall = Bar("all layers together:", 100 * kept, share(record.kept, record.total), "")

    def draw(width: int, tooltips: bool) -> str:
        return bar_chart(bars, title=title, reference=overall, width=width, tooltips=tooltips)

    text = captions.DENSITIES
    return Figure(title, text, draw(WIDE, True), draw(NARROW, False))


def moments_figure(record: RunRecord) -> Figure | None:
    """The second moments of each stage, layer by layer, on a logarithmic axis."""
    if not any(stage.moments for stage in record.stages):
        return None
    text = captions.MOMENTS
    if any(stage.name == "rescaled" for stage in record.stages):
        text += captions.RESCALED
    return _moments_figure("Does the signal get through?", text, [(stage.name, stage) for stage in record.stages])


def accuracy_figure(record: RunRecord) -> Figure | None:
    """Training, validation and test accuracy by epoch."""
    curves = _curves(
        record,
        {
            "training": lambda e: _percent(e.train_accuracy),
            "validation": lambda e: _percent(e.validation_accuracy),
            "test": lambda e: _percent(e.test_accuracy),
        },
    )
    values = [y for curve in curves for _, y in curve.points if y is not None]
    if not values:
        return None
    # Never closer than ten points: noise around chance level is not to look like learning.
    step = 10 if max(values) - min(values) <= 40 else 20
    low, high = step * math.floor(min(values) / step), step * math.ceil(max(values) / step)
    limits = (float(low), float(max(high, low + step)))

    def draw(width: int, tooltips: bool) -> str:
        return line_chart(
            curves,
            title="Accuracy by epoch",
            x_label="epoch",
            y_label="accuracy",
            unit=" %",
            limits=limits,
            width=width,
            height=240,
            tooltips=tooltips,
        )

    return Figure("Accuracy", "", draw(HALF, True), draw(NARROW, False))


def loss_figure(record: RunRecord) -> Figure | None:
    """Training, validation and test loss by epoch; logarithmic where they span more than a factor of 30."""
    curves = _curves(
        record,
        {"training": lambda e: e.train_loss, "validation": lambda e: e.validation_loss, "test": lambda e: e.test_loss},
    )
    values = [y for curve in curves for _, y in curve.points if y is not None]
    if not values:
        return None
    log = min(values) > 0 and max(values) / min(values) > 30
    limits = (0.0, max(values)) if min(values) >= 0 else None

    def draw(width: int, tooltips: bool) -> str:
        return line_chart(
            curves,
            title="Loss by epoch",
            x_label="epoch",
            y_label="loss, logarithmic scale" if log else "loss",
            log=log,
            limits=limits,
            width=width,
            height=240,
            tooltips=tooltips,
        )

    lost = sum(e.train_loss is None for e in record.epochs)
    note = f"The training loss was not finite in {several(lost, 'epoch')}, left out here." if lost else ""
    return Figure("Loss", "", draw(HALF, True), draw(NARROW, False), note)


def compared_accuracies(runs: Labelled) -> Figure | None:
    """Test accuracy by epoch, a line for each run."""
    curves = [Series(label, [(e.epoch, _percent(e.test_accuracy)) for e in run.epochs]) for label, run in runs]
    if not any(curve.points for curve in curves):
        return None

    def draw(width: int, tooltips: bool) -> str:
        return line_chart(
            curves,
            title="Test accuracy of each run by epoch",
            x_label="epoch",
            y_label="test accuracy",
            unit=" %",
            limits=(0.0, 100.0),
            width=width,
            tooltips=tooltips,
        )

    text = captions.COMPARED_ACCURACIES
    return Figure("Which of them learn?", text, draw(WIDE, True), draw(NARROW, False))


def compared_moments(runs: Labelled) -> Figure | None:
    """The second moments of each run's last stage, layer by layer."""
    stages = [(label, run.stages[-1]) for label, run in runs if run.stages and run.stages[-1].moments]
    if not stages:
        return None
    text = captions.COMPARED_MOMENTS
    return _moments_figure("Does the signal get through?", text, stages)


def compared_densities(runs: Labelled) -> Figure | None:
    """The density of each layer, a line for each run, on a logarithmic axis."""
    curves = [
        Series(name, [(i, 100 * la.density) for i, la in enumerate(run.layers, 1)]) for name, run in runs if run.layers
    ]
    if not curves:
        return None

    def draw(width: int, tooltips: bool) -> str:
        return line_chart(
            curves,
            title="Density of each layer of each run",
            x_label="layer",
            y_label="weights kept, logarithmic scale",
            log=True,
            unit=" %",
            width=width,
            tooltips=tooltips,
        )

    text = captions.COMPARED_DENSITIES
    return Figure("What did pruning leave of each layer?", text, draw(WIDE, True), draw(NARROW, False))


def _moments_figure(title: str, text: str, stages: Sequence[tuple[str, Stage]]) -> Figure:
    curves = [Series(label, [(i, value) for i, (_, value) in enumerate(stage.moments, 1)]) for label, stage in stages]
    orders = {tuple(name for name, _ in stage.moments) for _, stage in stages}
    names = {float(i): name for i, name in enumerate(orders.pop(), 1)} if len(orders) == 1 else {}

    def draw(width: int, tooltips: bool) -> str:
        return line_chart(
            curves,
            title=title,
            x_label="layer",
            y_label="second moment, logarithmic scale",
            log=True,
            names=names,
            width=width,
            tooltips=tooltips,
        )

    notes = []
    for label, stage in stages:
        values = [value for _, value in stage.moments]
        if lost := values.count(None):
            notes.append(f"{label}: {several(lost, 'value')} not finite, left out.")
        if zeros := values.count(0):
            notes.append(f"{label}: zero after {several(zeros, 'layer')}, drawn on the line of 0.")
    return Figure(title, text, draw(WIDE, True), draw(NARROW, False), " ".join(notes))


def _curves(record: RunRecord, measures: dict[str, Callable[[Epoch], float | None]]) -> list[Series]:
    """A line for each measure that has any value."""
    every = [Series(label, [(float(e.epoch), of(e)) for e in record.epochs]) for label, of in measures.items()]
    return [one for one in every if any(y is not None for _, y in one.points)]


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
