"""The command line. Each command is a thin layer over the library, which it imports when it is asked for."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, Namespace
from rich.console import Console
from rich.markup import escape

import pruneinit
from pruneinit.errors import InputError, unknown

if TYPE_CHECKING:
    from pruneinit.experiments import Recipe

_ERROR, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for a user's error, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        settings = _parser(arguments).parse_args(arguments)
        if settings.subcommand is None:
            raise InputError(f"give a command: one of {', '.join(_COMMANDS)}; 'pruneinit --help' explains them")
        _COMMANDS[settings.subcommand][2](settings[settings.subcommand])
    except (InputError, ArgumentError) as error:
        message = str(error) if isinstance(error, InputError) else _plain(str(error))
        print(f"pruneinit: error: {message}", file=sys.stderr)
        return _ERROR
    except KeyboardInterrupt:
        print("pruneinit: interrupted; the same command goes on from the last whole epoch", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _parser(arguments: Sequence[str]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="pruneinit",
        description="Prune neural networks at initialization so that what is left still trains.",
        version=pruneinit.__version__,
        exit_on_error=False,
    )
    commands = parser.add_subcommands(required=False, metavar="COMMAND")
    asked = next((word for word in arguments if word in _COMMANDS), None)
    for name, (summary, fill, _) in _COMMANDS.items():
        command = ArgumentParser(description=f"{summary}.", exit_on_error=False)
        # Only the command asked for gets its flags: making those of a recipe takes time, and `--help` shows none.
        if name == asked:
            fill(command)
        commands.add_subcommand(name, command, help=summary)
    return parser


# -- flags -----------------------------------------------------------------------------------------------------------


def _recipe_flags(parser: ArgumentParser) -> None:
    from pruneinit.experiments import Recipe

    parser.add_argument("--config", action="config", help="a recipe in YAML; flags that follow override it")
    parser.add_class_arguments(Recipe)
    parser.add_argument("--data_dir", type=str | None, default=None, help="where data sets are [$PRUNEINIT_DATA]")
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, cuda:1; a GPU if there is one")


def _run_flags(parser: ArgumentParser) -> None:
    _recipe_flags(parser)
    parser.add_argument("--out", type=str, default="runs", help="the folder of all runs")
    parser.add_argument("--force", action=ActionYesNo, default=False, help="begin anew, also what is finished")


def _edge_flags(parser: ArgumentParser) -> None:
    parser.add_argument("activations", nargs="*", type=str, default=[], help="names of activations; all if none")
    parser.add_argument("--sigma_b", type=list[float] | None, default=None, help="bias scales [the activation's own]")


def _data_flags(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=["list", "download", "check"], help="what to do")
    parser.add_argument("names", nargs="*", type=str, default=[], help="data sets")
    parser.add_argument("--data_dir", type=str | None, default=None, help="where data sets are [$PRUNEINIT_DATA]")


def _report_flags(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=str, help="the folder of a run, or one that holds runs")


# -- commands --------------------------------------------------------------------------------------------------------


def _run(settings: Namespace) -> None:
    from pruneinit.report import read_run, result_table

    folder = _carry_out(_recipe(settings), settings)
    console = _console()
    console.print(result_table([(folder.name, read_run(folder))]))
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def _compare(settings: Namespace) -> None:
    from pruneinit.data import load
    from pruneinit.experiments import three_ways
    from pruneinit.report import read_run, result_table, write_comparison

    recipe = _recipe(settings)
    runs = []
    for label, way in three_ways(recipe, load(recipe.data, settings.data_dir)):
        runs.append((label, _carry_out(way, settings, label)))
    title = f"{recipe.model} on {recipe.data}, {100 * recipe.sparsity:.4g} % of the weights removed before training"
    page = Path(settings.out) / f"comparison-{recipe.hash}.html"
    write_comparison(runs, page, title=title)
    console = _console()
    console.print(result_table([(label, read_run(folder)) for label, folder in runs], title=title))
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


def _diagnose(settings: Namespace) -> None:
    from pruneinit import current_masks, diagnose
    from pruneinit.data import load
    from pruneinit.experiments.prepare import network, prepare_, scoring_batch
    from pruneinit.report import Stage, moments_table
    from pruneinit.train import distributed

    recipe = _recipe(settings)
    with distributed(settings.device) as world:  # checks that there is such a device
        device = world.device
    dataset = load(recipe.data, settings.data_dir)
    if recipe.validation:
        dataset = dataset.hold_out(recipe.validation, recipe.seed)
    dataset = dataset.to(device)
    model = network(recipe, dataset).to(device)
    events: list[Any] = []
    prepare_(model, recipe, dataset, events.append)
    stages = [
        Stage(event["stage"], tuple((layer["name"], layer["value"]) for layer in event["layers"]))
        for event in events
        if event["event"] == "moments"
    ]
    masks = current_masks(model)
    found = diagnose(model, [scoring_batch(recipe, dataset)], norm=recipe.norm)
    console = _console()
    console.print(_densities(found.layers, f"{recipe.model}, {masks.kept:,} of {masks.total:,} weights kept"))
    console.print(moments_table(stages))
    console.print(found.verdict)


def _densities(layers: Sequence[Any], title: str) -> Any:
    from pruneinit.report import Layer, layer_table

    return layer_table([Layer(x.name, x.kind, tuple(x.shape), x.total, x.kept) for x in layers], title=title)


def _edge(settings: Namespace) -> None:
    from rich.table import Table

    from pruneinit.meanfield import NAMED, depth_scales, edge_of_chaos
    from pruneinit.meanfield import default_sigma_b as default

    table = Table(title="Edge of Chaos: where χ = 1, so that neither signals nor gradients vanish or explode")
    for column in ("activation", "σ_b", "σ_w", "σ_w²", "q", "depth scale of q"):
        table.add_column(column, justify="left" if column == "activation" else "right")
    left_out = []
    for name in settings.activations or sorted(NAMED):
        try:
            for sigma_b in settings.sigma_b or [default(name)]:
                edge = edge_of_chaos(name, sigma_b)
                scale = depth_scales(name, edge.sigma_w, sigma_b)[0]
                row = (sigma_b, edge.sigma_w, edge.sigma_w**2, edge.q, scale)
                table.add_row(name, *(f"{value:.6g}" for value in row))
        except InputError as error:
            if settings.activations:
                raise
            left_out.append(str(error))
    console = _console()
    console.print(table)
    for line in left_out:
        console.print(line, highlight=False)


def _data(settings: Namespace) -> None:
    from pruneinit.data import DATASETS, data_root, download, load

    console = _console()
    root = data_root(settings.data_dir)
    for name in settings.names:
        if name not in DATASETS:
            raise unknown("data set", name, DATASETS)
    if settings.action == "list":
        console.print(f"data sets, below {root}: {', '.join(DATASETS)}", soft_wrap=True)
    if settings.action != "list" and not settings.names:
        raise InputError(f"name the data sets to {settings.action}: some of {', '.join(DATASETS)}")
    for name in settings.names:
        if settings.action == "download":
            with _progress(f"download {name}") as advance:
                download(name, root, progress=lambda file, done, size: advance(done, size or 0, file))
        found = load(name, root)
        console.print(f"{name}: {len(found.train):,} + {len(found.test):,} images of {found.shape}", highlight=False)


def _report(settings: Namespace) -> None:
    from pruneinit.report import write_index, write_report

    folder = Path(settings.folder)
    single = (folder / "recipe.yaml").is_file()
    if not single:
        recipes = sorted(folder.glob("*/recipe.yaml"))
        if folder.is_dir() and not recipes:
            raise InputError(
                f"{folder} holds no runs: expected folders with a recipe.yaml, as 'pruneinit run' makes them"
            )
        for recipe in recipes:
            with contextlib.suppress(InputError):  # the index names the runs that cannot be read, and why
                write_report(recipe.parent)
    page = write_report(folder) if single else write_index(folder)
    _console().print(f"report: {page}", soft_wrap=True, highlight=False)


_COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None], Callable[[Namespace], None]]] = {
    "run": ("carry out one recipe: initialise, prune, rescale, train, save, report", _run_flags, _run),
    "compare": ("prune the same network three ways, and show what the Edge of Chaos is for", _run_flags, _compare),
    "diagnose": ("look at a pruned network before training it", _recipe_flags, _diagnose),
    "edge": ("Edge-of-Chaos points of activations", _edge_flags, _edge),
    "data": ("list, download and check data sets", _data_flags, _data),
    "report": ("write the page of a run, or the index of a folder of runs", _report_flags, _report),
}


# -- helpers ---------------------------------------------------------------------------------------------------------


def _console() -> Console:
    """Where results are printed; under torchrun only the first process prints."""
    console = Console(quiet=os.environ.get("RANK", "0") != "0")
    console.on_broken_pipe = _fall_silent  # type: ignore[method-assign]  # not the exit code 1 of rich
    return console


def _recipe(settings: Namespace) -> Recipe:
    import dataclasses

    from pruneinit.experiments import Recipe
    from pruneinit.train import Training

    values = {field.name: settings[field.name] for field in dataclasses.fields(Recipe)}
    training = values["training"]
    if isinstance(training, Namespace):
        values["training"] = Training(**training.as_dict())
    return Recipe(**values)


def _carry_out(recipe: Recipe, settings: Namespace, label: str = "") -> Path:
    from pruneinit.experiments import Pace, Start, run
    from pruneinit.train import Epoch

    name, epochs = label or recipe.name, recipe.training.epochs
    with _progress(name) as advance:
        latest, pace = [""], Pace(epochs)

        def on_start(start: Start) -> None:
            if start.state != "new":
                _say(f"{name}: {start}")

        def on_step(epoch: int, step: int, steps: int, loss: float) -> None:
            advance((epoch - 1) * steps + step, epochs * steps, latest[0])
            line = pace(epoch, step, steps)
            if line is not None and not sys.stdout.isatty():
                _say(f"{name}: {line}")

        def on_epoch(epoch: Epoch) -> None:
            latest[0] = f"test accuracy {epoch.test_accuracy:.1%}"
            if not sys.stdout.isatty():
                _say(f"{name}: epoch {epoch.epoch}/{epochs}, loss {epoch.train_loss:.4g}, {latest[0]}")

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


def _say(line: str) -> None:
    """Print a line at once. Where nobody reads any more (`| head`), the run goes on in silence."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _fall_silent()


def _fall_silent() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time left on a terminal, nothing in a log."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(escape(label), total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total or None, note=escape(note))


def _plain(message: str) -> str:
    """What jsonargparse says in several lines in one, with the nearest setting for a misspelt one."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    misspelt = re.search(r"(?:does not accept option|[Uu]nrecognized arguments:) '?(?:--)?([\w.]+)", text)
    if misspelt:
        return str(unknown("setting", misspelt.group(1), _settings()))
    command = re.search(r"invalid choice: '(\w+)' \(choose from 'run'", text)
    if command:
        return str(unknown("command", command.group(1), _COMMANDS))
    choice = re.match(r'Parser key "([\w.]+)":.*Literal\[(.*)\]\. Got value: (.*)', text)
    if choice:
        return str(unknown(choice.group(1), choice.group(3), re.findall(r"'([\w-]+)'", choice.group(2))))
    value = re.match(r'Parser key "([\w.]+)":\s*Expected a (.*)\. Got value: (.*)', text)
    if value:
        kind = re.sub(r"<class '(\w+)'>", r"\1", value.group(2)).replace("float", "number")
        return f"{value.group(1)} must be a {kind}, got {value.group(3)}"
    return text


def _settings() -> list[str]:
    import dataclasses

    from pruneinit.experiments import Recipe
    from pruneinit.train import Training

    nested = [f"training.{field.name}" for field in dataclasses.fields(Training)]
    return [field.name for field in dataclasses.fields(Recipe)] + nested + ["data_dir", "device", "out", "force"]


if __name__ == "__main__":
    sys.exit(main())
