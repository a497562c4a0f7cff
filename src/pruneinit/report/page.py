"""Web pages made of runs: one file each, without scripts, that loads nothing from anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pruneinit.errors import InputError
from pruneinit.files import write_text
from pruneinit.report import figures, words
from pruneinit.report.read import METRICS, RECIPE, read_run
from pruneinit.report.record import RunRecord
from pruneinit.report.settings import differences, flatten, ways

REPORT = "report.html"
INDEX = "index.html"
_COLUMNS = ("data", "model", "criterion", "sparsity")


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a run's folder: result, densities, second moments, training, recipe.

    An unfinished run gets a report that says so.

    Args:
        folder: The folder of a run (see docs/runs.md).

    Returns:
        The path of the page.

    Raises:
        InputError: The folder is missing, damaged or cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "recipe.yaml").write_text("model: {depth: 3}")
        >>> _ = (folder / "metrics.jsonl").write_text("")
        >>> write_report(folder).name
        'report.html'
    """
    record = read_run(folder)
    drawn = {
        "densities": figures.density_figure(record),
        "moments": figures.moments_figure(record),
        "curves": [f for f in (figures.accuracy_figure(record), figures.loss_figure(record)) if f is not None],
    }
    factors = dict(record.rescaling.factors) if record.rescaling else {}
    return write_page(
        record.folder / REPORT,
        "report.html",
        title=_name(record.folder),
        record=record,
        factors=factors,
        validated=any(epoch.validation_loss is not None for epoch in record.epochs),
        settings=flatten(record.recipe),
        **drawn,
    )


def write_comparison(
    runs: Sequence[tuple[str, str | Path]], out: str | Path, title: str, introduction: str = ""
) -> Path:
    """Write one page that shows several runs side by side, in words for a reader new to the subject.

    Args:
        runs: A label and the folder of each run.
        out: The file to write.
        title: The page's heading.
        introduction: Plain text; an empty line starts a new paragraph.

    Returns:
        The path of the page.

    Raises:
        InputError: There are no runs, or a folder is missing or damaged, or the page cannot be written.

    Example:
        >>> write_comparison([], "comparison.html", "Ways to prune")
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: nothing to compare: expected at least one pair of label and run folder
    """
    if not runs:
        raise InputError("nothing to compare: expected at least one pair of label and run folder")
    records = [(label, read_run(folder)) for label, folder in runs]
    drawn = (
        figures.compared_accuracies(records),
        figures.compared_moments(records),
        figures.compared_densities(records),
    )
    return write_page(
        Path(out),
        "comparison.html",
        title=title,
        introduction=[part.strip() for part in introduction.split("\n\n") if part.strip()],
        rows=[(label, record, _link(record.folder, Path(out))) for label, record in records],
        ways=list(zip((label for label, _ in records), ways([record.recipe for _, record in records]), strict=True)),
        figures=[figure for figure in drawn if figure is not None],
    )


def write_index(root: str | Path) -> Path:
    """Write `index.html` into `root`: all runs in the folders below it, with links to their reports.

    Runs of the same data and network stand together, by sparsity, the better ones first, each with the settings in
    which the runs differ. A run that cannot be read comes last, with the reason.

    Args:
        root: A folder that holds runs, at any depth.

    Returns:
        The path of the page.

    Raises:
        InputError: There is no such folder, or it cannot be written.

    Example:
        >>> import tempfile
        >>> write_index(tempfile.mkdtemp()).name
        'index.html'
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"no folder {root}: expected a folder that holds runs or sweeps")
    folders = sorted({path.parent for name in (RECIPE, METRICS) for path in root.rglob(name)})
    runs, unreadable = [], []
    for folder in folders:
        name = folder.relative_to(root).as_posix() if folder != root else _name(folder)
        try:
            runs.append((name, read_run(folder)))
        except InputError as error:
            unreadable.append((name, str(error)))
    runs.sort(key=_order)
    varying = differences([record.recipe for _, record in runs], apart_from=_COLUMNS)
    rows = [
        (name, record, _link(record.folder, root / INDEX), _columns(record), settings)
        for (name, record), settings in zip(runs, varying, strict=True)
    ]
    return write_page(root / INDEX, "index.html", title=f"Runs in {_name(root)}", rows=rows, unreadable=unreadable)


def _columns(record: RunRecord) -> list[str]:
    """Data, model and criterion of a run; a dash where its recipe does not name them."""
    values = (record.recipe.get(name) for name in _COLUMNS[:3])
    return [value if isinstance(value, str) else words.NOTHING for value in values]


def _order(run: tuple[str, RunRecord]) -> tuple[str, str, float, float, str]:
    name, record = run
    data, model, _ = _columns(record)
    removed = 1 - record.kept / record.total if record.total else 0.0
    return data, model, removed, -(record.test_accuracy or 0.0), name


def _name(folder: Path) -> str:
    return folder.resolve().name or str(folder)


def _link(folder: Path, page: Path) -> str:
    """The address of a run's report as seen from `page`; empty if there is none yet."""
    report = folder / REPORT
    return quote(Path(os.path.relpath(report, page.parent)).as_posix()) if report.is_file() else ""


def _unbroken(text: str) -> Markup:
    """`text` in which no line ends between a number and its per cent sign."""
    return Markup(re.sub(r"([\d.]+ %)", r'<span class="whole">\1</span>', str(escape(text))))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pruneinit", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = (words.count, words.percent, words.share, words.number, words.duration, words.several)
    environment.filters |= {format_.__name__: format_ for format_ in formats}
    environment.globals |= {"headline": words.headline, "cautions": words.cautions}
    environment.filters["unbroken"] = _unbroken
    # The drawings are made by svg.py, which escapes every text in them.
    environment.filters["drawing"] = Markup
    environment.globals["style"] = Markup((Path(__file__).parent / "style.css").read_text(encoding="utf-8"))
    return environment


def write_page(path: Path, template: str, **values: object) -> Path:
    """Fill a template of this folder and write it to `path`, whole or not at all.

    Raises:
        InputError: The page cannot be written.
    """
    page = _environment().get_template(template).render(**values)
    # JSON and YAML can hold halves of surrogate pairs, which UTF-8 cannot.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
    return path
