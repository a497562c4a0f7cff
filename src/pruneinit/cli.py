"""The command line. Each command is a thin layer over the library, which it imports when it is asked for."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pruneinit.screen import open_console, progress, say, speaks

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from rich.console import Console

    from pruneinit.experiments import Cell, Recipe, Result
    from pruneinit.experiments.sweep import Standing

_ERROR, _COLLAPSED, _INTERRUPTED = 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for a user's error, 3 for a collapse, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = None
    try:
        # All that takes time to import is imported from here on, where a Ctrl-C is met.
        from pruneinit.errors import InputError
        from pruneinit.flags import parse

        try:
            settings = parse(arguments, {name: summary for name, (summary, _) in _COMMANDS.items()})
            command = settings.subcommand
            if command is None:
                raise InputError(f"give a command: one of {', '.join(_COMMANDS)}; 'pruneinit --help' explains them")
            return _COMMANDS[command][1](settings[command]) or 0
        except InputError as error:
            print(f"pruneinit: error: {error}", file=sys.stderr)
            return _ERROR
    except KeyboardInterrupt:
        hint = ""
        if command in ("sweep", "reproduce"):
            hint = "; the same command goes on with the cells that are missing"
        if command in ("run", "compare"):
            hint = "; the same command goes on from the last whole epoch"
        print(f"pruneinit: interrupted{hint}", file=sys.stderr)
        return _INTERRUPTED


# -- commands --------------------------------------------------------------------------------------------------------


def _run(settings: Namespace) -> None:
    from pruneinit.report import read_run, result_table

    folder = _carry_out(_recipe(settings), settings)
    console = open_console()
    console.print(result_table([(folder.name, read_run(folder))]))
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def _compare(settings: Namespace) -> None:
    from pruneinit.data import load
    from pruneinit.experiments import three_ways, without_chosen
    from pruneinit.flags import in_files
    from pruneinit.report import read_run, result_table, write_comparison

    recipe, left_out = without_chosen(_recipe(settings), in_files(settings.config))
    console = open_console()
    if left_out:
        line = f"a comparison chooses for itself what the recipe says of {', '.join(left_out)}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    runs = []
    for label, way in three_ways(recipe, load(recipe.data, settings.data_dir)):
        runs.append((label, _carry_out(way, settings, label)))
    title = f"{recipe.model} on {recipe.data}, {100 * recipe.sparsity:.4g} % of the weights removed before training"
    page = Path(settings.out) / f"comparison-{recipe.hash}.html"
    write_comparison(runs, page, title=title)
    console.print(result_table([(label, read_run(folder)) for label, folder in runs], title=title))
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


def _sweep(settings: Namespace) -> None:
    from pruneinit.errors import InputError, check_whole
    from pruneinit.experiments import Grid
    from pruneinit.experiments.beside import side_by_side
    from pruneinit.experiments.executors import chosen
    from pruneinit.experiments.sweep import export, standing, sweep
    from pruneinit.following import following

    part, _, parts = settings.shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise InputError(f"shard must be i/n, such as 1/4, got {settings.shard!r}")
    shard = int(part), int(parts)
    executor, at_once = chosen(
        settings.executor, settings.workers, settings.threads, settings.address, settings.gpus_per_cell
    )
    executor = side_by_side(executor, check_whole("beside", settings.beside))
    grid = Grid.from_yaml(settings.grid)
    folder = Path(settings.out) / grid.name
    before = standing(grid, folder, shard)
    found = len(before.cells) - len(before.missing)
    say(f"{grid.name}: {len(before.cells)} cells, {found} there already, {len(before.failed)} of them failed")
    if before.left_out:
        say(f"{grid.name}: {before.left_out} results of other versions or altered ones are left out")
    with following(grid.name, before, at_once) as watch:
        now = sweep(
            grid,
            folder,
            executor=executor,
            shard=shard,
            retry=settings.retry,
            data_root=settings.data_dir,
            device=settings.device,
            patience=max(4, 2 * (at_once or 1)),
            on_result=watch.result,
            on_elsewhere=watch.elsewhere,
        )
    say(f"{grid.name}: {len(now.done)} done, {len(now.failed)} failed, {len(now.missing)} missing")
    for version, count in now.versions.items():
        say(f"{count} by {version}")
    if len(now.versions) > 1:
        say("results of several versions of the code are in one folder: compare them with care")
    if speaks():
        open_console().print(f"results: {export(folder)}", soft_wrap=True, highlight=False)


def _reproduce(settings: Namespace) -> None:
    from pruneinit.errors import InputError
    from pruneinit.paper import STUDIES, Budget, Means, parse_budget, reproduce, study, write_results_page

    console = open_console()
    if settings.study == "docs":
        page = write_results_page(STUDIES.values(), settings.out, settings.page)
        console.print(f"page: {page}", soft_wrap=True, highlight=False)
        return
    asked = study(settings.study)
    if settings.workers is not None and settings.workers < 1:
        raise InputError(f"workers must be 1 or more, got {settings.workers}")
    seconds = parse_budget(settings.budget)
    means = Means(
        stop=Budget(seconds).over,
        workers=settings.workers,
        data_root=settings.data_dir,
        device=settings.device,
        retry=settings.retry,
        on_result=_tell_cell,
        on_line=say,
    )
    written = reproduce(asked, settings.out, means if seconds else None, scale=settings.scale)
    for line in written.findings.progress:
        say(f"{asked.name}: {line}")
    if written.findings.done < written.findings.planned:
        say("the same command goes on with the cells that are missing")
    console.print(f"table and figure: {written.page}", soft_wrap=True, highlight=False)


def _diagnose(settings: Namespace) -> int:
    from pruneinit.experiments import look
    from pruneinit.report import check_diagnosis, diagnosis_table, facts, write_diagnosis
    from pruneinit.train import distributed

    recipe = _recipe(settings)
    if settings.page is not None:
        check_diagnosis(settings.page)  # before the work
    with distributed(settings.device) as world:  # checks that there is such a device
        device = world.device
    found = look(recipe, builder=settings.network, data_root=settings.data_dir, device=device)
    title = f"{settings.network or recipe.model} on {recipe.data}, {100 * found.sparsity:.4g} % removed"
    console = open_console()
    console.print(diagnosis_table(found, title=title))
    for name, value in facts(found):
        console.print(f"{name}: {value}", highlight=False)
    for line in ("", found.verdict, *found.advice):
        console.print(line, highlight=False)
    if settings.page is not None:
        page = write_diagnosis(found, settings.page, title)
        console.print(f"page: {page}", soft_wrap=True, highlight=False)
    return _COLLAPSED if settings.fail_on_collapse and found.collapsed else 0


def _edge(settings: Namespace) -> None:
    from rich.text import Text

    from pruneinit.flags import numbers
    from pruneinit.meanfield import NAMED
    from pruneinit.report import TEXT, check_page, diagram_of, edge_table, find_edges, phase_text, write_edges

    names = settings.activations or sorted(NAMED)
    if settings.out is not None:
        check_page(settings.out, len(names))  # before the work
    edges = find_edges(names, numbers("sigma_b", settings.sigma_b))
    page = None if settings.out is None else write_edges(edges, settings.out)
    console = open_console()
    console.print(edge_table(edges))
    for line in (line for one in edges for line in one.lacking):
        console.print(line, highlight=False)
    if page:
        console.print(f"written: {page}", soft_wrap=True, highlight=False)
    elif len(edges) == 1:
        (one,) = edges
        console.print(Text("\n".join(["", *phase_text(diagram_of(one.activation, one.points, TEXT))])))


def _data(settings: Namespace) -> None:
    from pruneinit.data import DATASETS, data_root, download, load
    from pruneinit.errors import InputError, unknown

    console = open_console()
    root = data_root(settings.data_dir)
    for name in settings.names:
        if name not in DATASETS:
            raise unknown("data set", name, DATASETS)
    if settings.action == "list":
        _list_data(console, root)
    if settings.action != "list" and not settings.names:
        raise InputError(f"name the data sets to {settings.action}: some of {', '.join(DATASETS)}")
    for name in settings.names:
        if settings.action == "download":
            with progress(f"download {name}") as advance:
                download(name, root, progress=lambda file, done, size: advance(done, size or 0, file))
        found = load(name, root)
        console.print(f"{name}: {len(found.train):,} + {len(found.test):,} images of {found.shape}", highlight=False)


def _list_data(console: Console, root: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from pruneinit.data.presence import presence

    table = Table(title=Text(f"Data sets, below {root}"), title_justify="left")
    for column in ("data set", "images", "image size", "state"):
        table.add_column(column, justify="right" if column == "images" else "left", no_wrap=True)
    found = presence(root)
    for one in found:
        state = Text(one.state, {"present": "green", "incomplete": "bold red"}.get(one.state, "dim"))
        table.add_row(one.name, one.images, one.shape, state)
    console.print(table)
    for one in found:
        if one.advice:
            console.print(Text(f"{one.name}: {one.advice}"), soft_wrap=True)
    console.print("any folder of images: --data folder:PATH, with train/CLASS/* and val/CLASS/*", soft_wrap=True)


def _report(settings: Namespace) -> None:
    from pruneinit.errors import InputError
    from pruneinit.experiments.results import find_results, sweeps_below
    from pruneinit.paper import at_sparsities
    from pruneinit.report import RESULTS, write_index, write_report, write_results

    folder = Path(settings.folder)
    pages = []
    if (folder / "recipe.yaml").is_file():
        pages.append(write_report(folder))
    else:
        recipes, sweeps = sorted(folder.glob("*/recipe.yaml")), sweeps_below(folder)
        if folder.is_dir() and not recipes and not sweeps:
            raise InputError(
                f"{folder} holds no runs and no results of a sweep: expected folders with a recipe.yaml, as "
                "'pruneinit run' makes them, or with a cells.jsonl, as 'pruneinit sweep' does"
            )
        if sweeps:
            found = find_results(folder)
            title = f"Results in {folder.resolve().name}"
            page = write_results(
                found.outcomes,
                folder / RESULTS,
                title,
                sources=found.sources,
                left_out=found.left_out,
                unread=found.unread,
                published=at_sparsities(),
            )
            pages.append(page)
        if recipes or not sweeps:
            for recipe in recipes:
                with contextlib.suppress(InputError):  # the index names the runs that cannot be read, and why
                    write_report(recipe.parent)
            pages.append(write_index(folder))
    for page in pages:
        open_console().print(f"report: {page}", soft_wrap=True, highlight=False)


_COMMANDS: dict[str, tuple[str, Callable[[Namespace], int | None]]] = {
    "run": ("carry out one recipe: initialise, prune, rescale, train, save, report", _run),
    "compare": ("prune the same network three ways, and show what the Edge of Chaos is for", _compare),
    "sweep": ("carry out what is missing of a grid of recipes, in several processes", _sweep),
    "reproduce": (
        "carry out a figure or table of the paper again, and set it beside what it reports",
        _reproduce,
    ),
    "diagnose": ("will it train? Look at a pruned network before training it, and at what would help", _diagnose),
    "edge": ("Edge-of-Chaos points and phase diagrams of activations", _edge),
    "data": ("list, download and check data sets", _data),
    "report": ("write the page of a run, of all results of sweeps, or the index of a folder of runs", _report),
}


# -- helpers ---------------------------------------------------------------------------------------------------------


def _recipe(settings: Namespace) -> Recipe:
    import dataclasses

    from pruneinit.experiments import Recipe
    from pruneinit.train import Training

    values = {field.name: settings[field.name] for field in dataclasses.fields(Recipe)}
    training = values["training"]
    if not isinstance(training, Training):
        values["training"] = Training(**training.as_dict())
    return Recipe(**values)


def _tell_cell(now: Standing, cell: Cell, result: Result) -> None:
    told = result.why if result.failed else f"test accuracy {result.test_accuracy:.1%}"
    say(f"{len(now.cells) - len(now.missing)}/{len(now.cells)} {cell}: {told}, {result.seconds:.1f} s")


def _carry_out(recipe: Recipe, settings: Namespace, label: str = "") -> Path:
    from pruneinit.experiments import Pace, Start, run
    from pruneinit.train import Epoch

    name, epochs = label or recipe.name, recipe.training.epochs
    with progress(name) as advance:
        latest, pace = [""], Pace(epochs)

        def on_start(start: Start) -> None:
            if start.state != "new":
                say(f"{name}: {start}")

        def on_step(epoch: int, step: int, steps: int, loss: float) -> None:
            advance((epoch - 1) * steps + step, epochs * steps, latest[0])
            line = pace(epoch, step, steps)
            if line is not None and not sys.stdout.isatty():
                say(f"{name}: {line}")

        def on_epoch(epoch: Epoch) -> None:
            latest[0] = f"test accuracy {epoch.test_accuracy:.1%}"
            if not sys.stdout.isatty():
                say(f"{name}: epoch {epoch.epoch}/{epochs}, loss {epoch.train_loss:.4g}, {latest[0]}")

        return run(
            recipe,
            settings.out,
            data_root=settings.data_dir,
            device=settings.device,
            force=settings.force,
            on_start=on_start,
            on_epoch=on_epoch,
            on_step=on_step,
        )


if __name__ == "__main__":
    sys.exit(main())
