"""Tables for the terminal, as rich renderables: made here, printed by whoever asked for them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pruneinit.report.edge import Edges
from pruneinit.report.phases import settling
from pruneinit.report.record import Layer, RunRecord, Stage
from pruneinit.report.words import NOTHING, count, number, percent, share, short_names

_BAR, _SHORTEST_BAR = 20, 10
_STATES = {"finished": "green", "diverged": "bold red", "unfinished": "yellow", "not trained yet": "dim"}


class _Layers(Table):
    """A table that leaves out shapes and kinds where it would have to break names instead."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbound = options.update(max_width=10_000)
        for left_out in ((), ("shape",), ("shape", "kind")):
            shown = copy.copy(self)
            kept = (column for column in self.columns if column.header not in left_out)
            shown.columns = [dataclasses.replace(column, _index=index) for index, column in enumerate(kept)]
            if Measurement.get(console, unbound, shown).maximum - _BAR + _SHORTEST_BAR <= options.max_width:
                shown.columns[0].no_wrap = True  # so that the bars become shorter, not the names
                break
        yield from Table.__rich_console__(shown, console, options)


def layer_table(layers: Sequence[Layer], title: str = "Layers") -> Table:
    """How much of each layer is kept, with a bar; empty layers are marked.

    The ending `.weight` that all names have is left out, and so are shapes and kinds on a narrow terminal.

    Args:
        layers: In the order in which they are to be listed.
        title: Put above the table.

    Returns:
        A table with a row for each layer and a last one for all of them.

    Example:
        >>> table = layer_table([Layer("fc.weight", "linear", (10, 100), 1000, 20)])
        >>> table.row_count, [column.header for column in table.columns][:3]
        (2, ['layer', 'kind', 'shape'])
    """
    table = _table(title, ["layer", "kind", "shape"], ["total", "kept", "density"], _Layers)
    for column in table.columns[1:]:
        column.no_wrap = True
    table.add_column("", max_width=_BAR)
    # Bars are as long as the densest layer's: at 98 % sparsity all would else be stubs.
    longest = max((layer.density for layer in layers), default=0.0)
    for name, layer in zip(short_names([layer.name for layer in layers]), layers, strict=True):
        # A sliver for the smallest share: only what is empty looks empty.
        bar = Text("empty", "bold red") if layer.empty else Bar(longest, 0, max(layer.density, longest / 60))
        shape = "×".join(map(str, layer.shape))
        kept, density = count(layer.kept), share(layer.kept, layer.total)
        _row(table, name, layer.kind, shape, count(layer.total), kept, density, bar)
    table.add_section()
    total, kept_ = sum(layer.total for layer in layers), sum(layer.kept for layer in layers)
    _row(table, f"{len(layers)} layers", "", "", count(total), count(kept_), share(kept_, total), "", style="bold")
    return table


def edge_table(edges: Sequence[Edges]) -> Table:
    """Points of the Edge of Chaos, a row for each; an activation that has none gets a row that says so.

    Args:
        edges: What `find_edges` returned.

    Example:
        >>> from pruneinit.report import find_edges
        >>> edge_table(find_edges(["tanh", "softplus"], [0.2, 0.5])).row_count
        3
    """
    title = "Edge of Chaos: signals and gradients neither fade nor explode"
    table = _table(title, ["activation"], ["σ_b", "σ_w", "σ_w²", "q", "q settles in"])
    table.caption = (
        "σ_b, σ_w: biases are drawn from N(0, σ_b²), weights from N(0, σ_w²/fan-in). q: the mean square of a layer's "
        "output; q settles in: the layers after which it has come closer to this value by a factor of e"
    )
    for one in edges:
        for point in one.points:
            values = (point.sigma_b, point.sigma_w, point.sigma_w**2, point.q)
            settled = Text(settling(point), "" if point.stable else "red")
            _row(table, one.activation, *(number(value, 6) for value in values), settled)
        if not one.points:
            _row(table, one.activation, *[NOTHING] * 4, Text("no edge", "red"))
    return table


def result_table(runs: Sequence[tuple[str, RunRecord]], title: str = "Runs") -> Table:
    r"""A row for each run: what it reached, with how many weights, and whether it got to its end.

    Args:
        runs: A label and the record of each run.
        title: Put above the table.

    Returns:
        A table with a row for each run.

    Example:
        >>> [column.header for column in result_table([]).columns]
        ['run', 'test\naccuracy', 'best\nepoch*', 'density', 'empty\nlayers']
    """
    # Headers in two lines leave a terminal of 80 columns room for the labels of a comparison; a state is only worth a
    # column where a run did not get to its end.
    states = ["state"] if any(run.state != "finished" for _, run in runs) else []
    table = _table(title, ["run", *states], ["test\naccuracy", "best\nepoch*", "density", "empty\nlayers"])
    table.caption = "test accuracy: after the last epoch; * picked on test data, for orientation"
    for label, run in runs:
        empty = Text(f"{len(run.empty)} of {len(run.layers)}", "bold red" if run.empty else "")
        state = Text(run.state, _STATES[run.state])
        best = NOTHING if run.best is None else f"{percent(run.best[1])} ({run.best[0]})"
        density, gone = (share(run.kept, run.total), empty) if run.layers else (NOTHING, NOTHING)
        _row(table, label, *([state] if states else []), percent(run.test_accuracy), best, density, gone)
    return table


def moments_table(stages: Sequence[Stage], title: str = "Second moments of the layers' outputs") -> Table:
    """Second moments, a row for each layer in order of execution and a column for each stage.

    Args:
        stages: `RunRecord.stages`; a value that was not finite is shown as such.
        title: Put above the table.

    Returns:
        A table with a row for each layer that any stage has.

    Example:
        >>> table = moments_table([Stage("dense", (("fc1", 0.5), ("fc2", None)))])
        >>> list(table.columns[1].cells)
        [<text '0.5' [] ''>, <text 'not finite' [] 'red'>]
    """
    table = _table(title, ["layer"], [stage.name for stage in stages])
    columns = [dict(stage.moments) for stage in stages]
    names = dict.fromkeys(name for stage in stages for name, _ in stage.moments)
    for short, name in zip(short_names(list(names)), names, strict=True):
        _row(table, short, *(_moment(column, name) for column in columns))
    return table


def _moment(column: dict[str, float | None], name: str) -> Text:
    if name not in column:
        return Text(NOTHING, "dim")
    value = column[name]
    if value is None:
        return Text("not finite", "red")
    return Text(number(value), "red" if value == 0 else "")


def _table(title: str, left: Sequence[str], right: Sequence[str], kind: type[Table] = Table) -> Table:
    table = kind(title=Text(title), title_justify="left", caption_justify="left")
    for header in left:
        table.add_column(Text(header) if "[" in header else header, overflow="fold")
    for header in right:
        table.add_column(Text(header) if "[" in header else header, justify="right")
    return table


def _row(table: Table, *cells: str | Text | Bar, style: str | None = None) -> None:
    """A row whose texts are shown as they are: a name such as `[red]` is no markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)
