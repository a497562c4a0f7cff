"""A diagnosis as one page: the verdict, and the pictures that prove it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from pruneinit.diagnosis import Diagnosis
from pruneinit.errors import InputError
from pruneinit.findings import Layer
from pruneinit.forecasting import SPARSITIES
from pruneinit.propagation import Signal
from pruneinit.report import captions
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.figures import NARROW, WIDE, Figure
from pruneinit.report.page import write_page
from pruneinit.report.words import NOTHING, count, number, short_names

Measure = Callable[[Signal], float | None]


def write_diagnosis(found: Diagnosis, out: str | Path, title: str) -> Path:
    """Write a diagnosis as one self-contained page.

    Args:
        found: The diagnosis.
        out: The file to write.
        title: The page's heading.

    Returns:
        The path of the page.

    Raises:
        InputError: The page cannot be written.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from pruneinit import diagnose
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_diagnosis(diagnose(nn.Linear(3, 2)), f"{folder}/page.html", "A layer").name
        'page.html'
    """
    names = short_names([layer.name for layer in found.layers])
    drawn = [_signals(found, names), _gradients(found, names), _correlations(found, names), _densities(found, names)]
    return write_page(
        Path(out),
        "diagnosis.html",
        title=title,
        found=found,
        facts=_explained(facts(found)),
        stages=[(stage, captions.STAGES.get(stage, "")) for stage in found.stages],
        names=names,
        figures=[figure for figure in [*drawn, _losses(found)] if figure is not None],
        curve=_losses_by_sparsity(found),
    )


def check_diagnosis(out: str | Path) -> None:
    """Refuse a file that `write_diagnosis` could not write, before the work.

    Raises:
        InputError: `out` is a folder, or cannot be made where it is to be.
    """
    file = Path(out)
    if file.is_dir():
        raise InputError(f"cannot write {str(out)!r}: it is a folder; give the name of a file in it")
    above = next(folder for folder in file.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"cannot write {file}: {above} is no folder you may write to; choose another")


def facts(found: Diagnosis) -> list[tuple[str, str]]:
    """The numbers that sum a diagnosis up, with their names."""
    rows = [("sparsity", f"{found.sparsity:.5g}")]
    if found.effective_sparsity is not None:
        rows.append(("effective sparsity", f"{found.effective_sparsity:.5g}"))
    if found.forecast is not None:
        critical = found.forecast.critical
        rows.append(("critical sparsity", f"{critical.sparsity:.5f}, where {critical.layer} is lost"))
        rows.append(("conditioning", _factor(found.forecast.conditioning)))
    for stage in found.stages:
        chi = found.chi(stage)
        rows.append((f"χ, {stage}", NOTHING if chi is None else f"{chi:.4g}"))
    if found.branches:
        rows.append(("residual branches", f"{found.branches}{', divided by their root' if found.stable else ''}"))
    return rows


def _factor(value: float) -> str:
    """A factor, written out as long as that can be read."""
    if not math.isfinite(value):
        return "without bound"
    return f"{float(number(value)):,.0f}" if 1000 <= value < 1e7 else number(value)


def _losses_by_sparsity(found: Diagnosis) -> list[tuple[float, float, list[str]]]:
    """Sparsity, density and the layers of which nothing would be left."""
    if found.forecast is None:
        return []
    names = [layer.name for layer in found.forecast.layers]
    short = dict(zip(names, short_names(names), strict=True))
    return [(s, 1 - s, [short[name] for name in found.forecast.empty(s)]) for s in SPARSITIES]


def _explained(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Facts with what each means, said once where several are of one kind (χ of each stage)."""
    said: set[str] = set()
    found = []
    for name, value in rows:
        kind = name.split(",")[0]
        found.append((name, value, "" if kind in said else captions.FACTS[kind]))
        said.add(kind)
    return found


def diagnosis_table(found: Diagnosis, title: str = "Layers") -> Table:
    """The layers for the terminal: what is kept, what the law gives, and the second moment at each stage.

    Example:
        >>> from torch import nn
        >>> from pruneinit import diagnose
        >>> diagnosis_table(diagnose(nn.Linear(3, 2))).row_count
        1
    """
    # Without vertical lines and with units in the header, the names of a ResNet's layers stay whole in 80 columns.
    table = Table(
        title=Text(title),
        caption=captions.KEY,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("layer", overflow="fold")
    stages = list(found.stages)
    for header in ("kept", "alive", "density\n%", "law\n%", *(f"q\n{stage}" for stage in stages)):
        table.add_column(header, justify="right")
    for name, layer in zip(short_names([layer.name for layer in found.layers]), found.layers, strict=True):
        row = [_value(found.stages[stage].get(layer.name)) for stage in stages]
        style = "bold red" if not layer.kept else "yellow" if layer.name in found.scarce else ""
        table.add_row(Text(name, style), *map(Text, _kept(layer)), *row)
    return table


def _kept(layer: Layer) -> tuple[str, str, str, str]:
    alive = NOTHING if layer.alive is None else count(layer.alive)
    return count(layer.kept), alive, _percent(layer.density), _percent(layer.expected)


def _percent(fraction: float | None) -> str:
    """A fraction in per cent without the sign; no share of a layer is rounded to nothing, as what is empty shows 0."""
    if fraction is None:
        return NOTHING
    return "<0.001" if 0 < fraction < 1e-5 else number(100 * fraction, 2 if fraction < 0.01 else 3)


def _value(signal: Signal | None) -> Text:
    if signal is None:
        return Text(NOTHING, "dim")
    if not math.isfinite(signal.second_moment):
        return Text("not finite", "red")
    return Text(number(signal.second_moment, 2), "red" if signal.second_moment == 0 else "")


def _signals(found: Diagnosis, names: Sequence[str]) -> Figure | None:
    series = _stages(found, lambda signal: signal.second_moment)
    if found.expected:
        series.append(Series("theory, dense", _points(found, found.expected, lambda s: s.second_moment), "line", 0))
    return _figure("Does the signal get through?", captions.DIAGNOSED_SIGNAL, series, "second moment", names, log=True)


def _gradients(found: Diagnosis, names: Sequence[str]) -> Figure | None:
    series = []
    for look, (stage, signals) in enumerate(found.stages.items()):
        squares = [signals[n].gradient for n in _order(found) if n in signals]
        unit = next((g for g in reversed(squares[:-1]) if g), None)
        if unit:
            chi = found.chi(stage)
            label = stage if chi is None else f"{stage}, χ = {chi:.3g}"
            measured = _points(found, signals, lambda signal: signal.gradient)
            points = [(i, None if y is None else y / unit) for i, y in measured]
            series.append(Series(label, points, "both", look))
    return _figure(
        "Does the gradient come back?", captions.DIAGNOSED_GRADIENT, series, "square of the gradient", names, log=True
    )


def _correlations(found: Diagnosis, names: Sequence[str]) -> Figure | None:
    series = _stages(found, lambda signal: signal.correlation)
    if any(signal.correlation is not None for signal in found.expected.values()):
        series.append(Series("theory, dense", _points(found, found.expected, lambda s: s.correlation), "line", 0))
    return _figure(
        "Can it tell examples apart?", captions.DIAGNOSED_CORRELATION, series, "correlation", names, limits=(0.0, 1.0)
    )


def _densities(found: Diagnosis, names: Sequence[str]) -> Figure | None:
    if all(layer.kept == layer.total for layer in found.layers):
        return None
    series = [Series("kept", [(i, 100 * x.density) for i, x in enumerate(found.layers, 1)], "points", 0)]
    if any(layer.alive is not None and layer.alive < layer.kept for layer in found.layers):
        alive = [(i, None if x.alive is None else 100 * x.alive / x.total) for i, x in enumerate(found.layers, 1)]
        series.append(Series("kept and on a path", alive, "points", 1))
    if any(layer.expected is not None for layer in found.layers):
        law = [(i, None if x.expected is None else 100 * x.expected) for i, x in enumerate(found.layers, 1)]
        series.append(Series("plain law", law, "line", 0))
    return _figure(
        "What is left of each layer?", captions.DIAGNOSED_DENSITY, series, "density", names, log=True, unit=" %"
    )


def _losses(found: Diagnosis) -> Figure | None:
    if found.forecast is None:
        return None
    points = [(i, 100 * (1 - layer.lost)) for i, layer in enumerate(found.forecast.layers, 1)]
    names = short_names([layer.name for layer in found.forecast.layers])
    series = [Series("weights left in all when the layer is lost", points, "points", 0)]
    return _figure(
        "When is each layer lost?", captions.DIAGNOSED_LOST, series, "weights left", names, log=True, unit=" %"
    )


def _stages(found: Diagnosis, measure: Measure) -> list[Series]:
    return [
        Series(stage, _points(found, signals, measure), "points" if found.expected and not look else "both", look)
        for look, (stage, signals) in enumerate(found.stages.items())
    ]


def _points(found: Diagnosis, signals: Mapping[str, Signal], measure: Measure) -> list[tuple[float, float | None]]:
    values = [(i, measure(signals[name]) if name in signals else None) for i, name in enumerate(_order(found), 1)]
    return [(i, value if value is not None and math.isfinite(value) else None) for i, value in values]


def _order(found: Diagnosis) -> list[str]:
    return [layer.name for layer in found.layers]


def _figure(
    title: str,
    text: str,
    series: Sequence[Series],
    label: str,
    names: Sequence[str],
    *,
    log: bool = False,
    unit: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure | None:
    if not any(y is not None for one in series for _, y in one.points):
        return None

    def draw(width: int, tooltips: bool) -> str:
        return line_chart(
            series,
            title=title,
            x_label="layer",
            y_label=f"{label}, logarithmic scale" if log else label,
            log=log,
            unit=unit,
            limits=limits,
            names={float(i): name for i, name in enumerate(names, 1)},
            width=width,
            tooltips=tooltips,
        )

    return Figure(title, text, draw(WIDE, True), draw(NARROW, False))
