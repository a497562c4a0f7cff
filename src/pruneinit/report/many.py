"""The page over many results: of all sweeps and runs below a folder."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pruneinit.report import pictures
from pruneinit.report.collect import Line, Network, Point, collect
from pruneinit.report.filters import Filters
from pruneinit.report.outcomes import Outcome
from pruneinit.report.page import write_page
from pruneinit.report.published import Published, beside
from pruneinit.report.words import NOTHING, listing, percent, several, short_names

RESULTS = "results.html"
_NAMED_FAILURES = 3


@dataclass(frozen=True)
class Row:
    """A line of a table: one method on one network at one sparsity, in words, as the template shows it."""

    tags: str
    label: str
    means: str
    removed: str
    rate: str
    accuracy: str
    seeds: str
    failed: int
    diverged: int
    emptied: str
    emptied_names: str
    best: str
    published: tuple[tuple[str, str, str], ...]


def write_results(
    outcomes: Sequence[Outcome],
    out: str | Path,
    title: str,
    *,
    sources: Mapping[str, int] | None = None,
    left_out: Mapping[str, int] | None = None,
    unread: Sequence[str] = (),
    published: Sequence[Published] = (),
) -> Path:
    """Write one page over many results: accuracies against sparsity and depth, densities, tables, failures.

    It loads nothing, and shows everything without JavaScript; with it, parts can be hidden by data set, network,
    criterion and line.

    Args:
        outcomes: The results.
        out: The file to write.
        title: The page's heading.
        sources: How many results are from where, by name.
        left_out: How many results of where are of another version of the code.
        unread: What else is there and is not shown.
        published: Numbers of papers; tables with a result that repeats one get the columns "published" and
            "difference".

    Returns:
        The path of the page.

    Raises:
        InputError: The page cannot be written.

    Example:
        >>> import tempfile
        >>> recipe = {"data": "digits", "model": "mlp", "criterion": "snip", "sparsity": 0.9, "training": {"lr": 0.1}}
        >>> seeds = [Outcome(str(i), None, {**recipe, "seed": i}, "1", test_accuracy=0.9) for i in range(3)]
        >>> write_results(seeds, Path(tempfile.mkdtemp()) / "results.html", "Results").name
        'results.html'
    """
    networks = collect(outcomes)
    filters = Filters.of(networks)
    points = [point for network in networks for line in network.lines for point in line.points]
    script = (Path(__file__).parent / "many.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return write_page(
        Path(out),
        "many.html",
        title=title,
        total=len(outcomes),
        computed=sum(not one.failed for one in outcomes),
        networks=networks,
        filters=filters.offered,
        accuracies=pictures.accuracies(networks, filters),
        depths=pictures.depths(networks, filters),
        densities=pictures.densities(networks, filters),
        tables=[_table(network, filters, published) for network in networks],
        chosen=any(len(point.rates) > 1 for point in points),
        shown=sum(len(point.outcomes) for point in points),
        undecided=_undecided(networks),
        versions=Counter(one.version for one in outcomes).most_common(),
        failures=_failures(outcomes),
        diverged=sum(one.diverged for one in outcomes),
        sources=dict(sources or {}),
        left_out=dict(left_out or {}),
        unread=listing(unread, 8) if unread else "",
        script=Markup(script),
        script_hash=digest,
    )


def _table(network: Network, filters: Filters, published: Sequence[Published]) -> dict[str, Any]:
    rows = [
        _row(network, line, point, filters.tags([network], line), published)
        for line in network.lines
        for point in line.points
    ]
    return {
        "title": f"{network.data}: {network.name}",
        "rows": rows,
        "rates": any(len(point.rates) > 1 for line in network.lines for point in line.points),
        "published": any(row.published for row in rows),
    }


def _row(network: Network, line: Line, point: Point, tags: str, published: Sequence[Published]) -> Row:
    accuracy = point.accuracy
    told = NOTHING
    if accuracy is not None:
        told = percent(accuracy.mean)
        told += f" ± {100 * accuracy.deviation:.2f}" if accuracy.deviation is not None else ""
    names = Counter(name for one in point.outcomes for name in one.empty)
    return Row(
        tags=tags,
        label=line.label,
        means=_means(line),
        removed=f"{100 * point.sparsity:.6g} %",
        rate=f"{point.rate:g}" + (f" of {', '.join(f'{rate:g}' for rate in point.rates)}" if point.rates[1:] else ""),
        accuracy=told,
        seeds=str(accuracy.count if accuracy else 0),
        failed=point.failed,
        diverged=point.diverged,
        emptied=_emptied(point),
        emptied_names=listing(short_names([name for name, _ in names.most_common()]), 8),
        best=percent(point.best.mean) if point.best else NOTHING,
        published=tuple(
            (percent(one.accuracy), _difference(accuracy.mean if accuracy else None, one.accuracy),
             f"{one.study}, {one.source}")
            for one in beside(published, network, line, point)
        ),
    )  # fmt: skip


def _means(line: Line) -> str:
    """What a line stands for: its criterion, initialisation, and what else was done to the network."""
    init, rescale = line.settings.get("init"), line.settings.get("rescale", "none")
    parts = [line.criterion, f"{init} init" if init else ""]
    parts += ["Stable ResNet"] if line.settings.get("residuals") == "stable" else []
    parts += [f"rescaled ({rescale})"] if rescale != "none" else []
    return ", ".join(filter(None, parts))


def _emptied(point: Point) -> str:
    """How many layers are empty, as a range over the seeds, of how many."""
    if not point.emptied:
        return NOTHING
    low, high, layers = min(point.emptied), max(point.emptied), len(point.densities)
    return f"{low if low == high else f'{low} to {high}'} of {layers}"


def _difference(mean: float | None, published: float) -> str:
    return NOTHING if mean is None else f"{100 * (mean - published):+.2f}".replace("-", "−")


def _undecided(networks: Sequence[Network]) -> list[str]:
    return [
        f"{network.data}, {network.name}, {line.label}, {100 * sparsity:.6g} % removed"
        for network in networks
        for line in network.lines
        for sparsity in line.undecided
    ]


def _failures(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str]]:
    """Each reason, how many results failed for it, and some of them; the most frequent reason first."""
    found: dict[str, list[str]] = {}
    for one in outcomes:
        if one.failed:
            found.setdefault(one.why, []).append(_place(one))
    ordered = sorted(found.items(), key=lambda pair: -len(pair[1]))
    return [(why, several(len(cells), "result"), listing(cells, _NAMED_FAILURES)) for why, cells in ordered]


def _place(one: Outcome) -> str:
    """Where a result belongs, in a few words."""
    settings = one.settings
    row = f"{one.row} on " if one.row is not None else ""
    depth = f" of depth {settings['depth']}" if settings.get("depth") else ""
    removed = f"{100 * float(settings['sparsity']):.6g} %"
    return f"{row}{settings['data']}, {settings['model']}{depth}, {removed}, seed {settings.get('seed', 0)}, {one.name}"
