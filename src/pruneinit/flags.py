"""The flags of each command, and what is said where they cannot be understood."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import yaml
from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, Namespace

import pruneinit
from pruneinit.errors import InputError, unknown
from pruneinit.helptext import Command

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "tuple": "numbers in brackets, '[0.5,0.75]'",
}
_RECIPE_ENDINGS = (".yaml", ".yml", ".json")


def parse(arguments: Sequence[str], commands: Mapping[str, str]) -> Namespace:
    """Read a command line; `subcommand` of the result is None where no command was given.

    Args:
        arguments: The words behind `pruneinit`.
        commands: The name of each command and what it does.

    Raises:
        InputError: Something in it cannot be understood.
    """
    asked = next((word for word in arguments if word in commands), None)
    for option, value in pairwise([*(part for word in arguments for part in word.split("=", 1)), ""]):
        if option == "--config":
            _check_recipe(value)
    # Abbreviations would turn a flag that is added later into an error of a command line that worked before.
    whole = ArgumentParser(
        prog="pruneinit",
        description="Prune neural networks at initialization so that what is left still trains.",
        version=pruneinit.__version__,
        exit_on_error=False,
        allow_abbrev=False,
    )
    listed = whole.add_subcommands(required=False, metavar="COMMAND")
    known: list[str] = []
    for name, summary in commands.items():
        command = Command(description=f"{summary[0].upper()}{summary[1:]}.", exit_on_error=False, allow_abbrev=False)
        # Only the command asked for gets its flags: making those of a recipe takes time, and `--help` shows none.
        if name == asked:
            _FLAGS[name](command)
            options = [option for action in command._actions for option in action.option_strings]
            known = [option.removeprefix("--") for option in options if option.startswith("--")]
        listed.add_subcommand(name, command, help=summary)
    try:
        return whole.parse_args(list(arguments))
    except ArgumentError as error:
        raise InputError(_plain(str(error), asked or "", known, commands)) from error
    except OverflowError as error:
        raise InputError("a whole number is beyond all floats: expected settings below 1e308") from error


def numbers(name: str, words: Sequence[str] | None) -> list[float]:
    """The numbers of a flag that takes several, written `0.5 1` or as the list `[0.5, 1]`.

    Example:
        >>> numbers("sigma_b", ["0.5", "1"]), numbers("sigma_b", ["[0.5,1]"]), numbers("sigma_b", None)
        ([0.5, 1.0], [0.5, 1.0], [])
    """
    found = []
    for word in re.split(r"[\s,]+", " ".join(words or ()).replace("[", " ").replace("]", " ").strip()):
        try:
            found += [float(word)] if word else []
        except ValueError:
            raise InputError(f"{name} must be one or more numbers, '--{name} 0.5 1', got {word!r}") from None
    return found


def in_files(paths: Sequence[object] | None) -> dict[str, object]:
    """The settings that recipe files name, later files before earlier ones; `paths` is what `--config` was given."""
    found: dict[str, object] = {}
    for path in paths or ():
        found |= yaml.safe_load(Path(str(path)).read_text(encoding="utf-8"))
    return found


# -- flags -----------------------------------------------------------------------------------------------------------


def _place_flags(parser: Command) -> None:
    parser.add_argument(
        "--data_dir", metavar="FOLDER", type=str | None, default=None, help="Where data sets are [$PRUNEINIT_DATA]"
    )
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda or cuda:1 [a GPU if there is one]")


def _recipe_flags(parser: Command) -> None:
    from pruneinit.experiments import Recipe

    parser.add_argument(
        "--config", action="config", metavar="FILE", help="A recipe in YAML; flags that follow override it."
    )
    parser.add_class_arguments(Recipe)
    _place_flags(parser)


def _run_flags(parser: Command) -> None:
    _recipe_flags(parser)
    parser.add_argument("--out", metavar="FOLDER", type=str, default="runs", help="The folder of all runs.")
    parser.add_argument("--force", action=ActionYesNo, default=False, help="Begin anew, also what is finished.")


def _sweep_flags(parser: Command) -> None:
    parser.add_argument("grid", type=str, metavar="GRID.yaml", help="The grid: name, recipe, rows, over, choose.")
    parser.add_argument("--out", metavar="FOLDER", type=str, default="sweeps", help="The folder of all sweeps.")
    parser.add_argument(
        "--executor",
        type=Literal["processes", "ray"],
        default="processes",
        help="processes of this machine, or ray: a cluster of machines.",
    )
    parser.add_argument("--workers", type=int | None, default=None, help="Processes [as many as cores]")
    parser.add_argument("--threads", type=int, default=1, help="Of each cell.")
    parser.add_argument(
        "--beside",
        type=int,
        default=1,
        help="Train so many small fully connected networks side by side, as 8; prepare others once for all rates.",
    )
    parser.add_argument(
        "--address", type=str | None, default=None, help="Of the Ray cluster, auto for the one here [$RAY_ADDRESS]"
    )
    parser.add_argument(
        "--gpus_per_cell", type=float, default=0.0, help="GPUs of the cluster that a cell takes, as 0.25."
    )
    parser.add_argument("--shard", type=str, default="1/1", help="Only the i-th of n parts, i/n, for job arrays.")
    parser.add_argument("--retry", action=ActionYesNo, default=False, help="Compute anew what has failed.")
    _place_flags(parser)


def _reproduce_flags(parser: Command) -> None:
    parser.add_argument(
        "study",
        type=str,
        metavar="NAME",
        help="densities, ffnn-grid, vcnn, cifar, tiny-imagenet, imagenet, vgg, edge, edge-mnist, edge-vcnn, "
        "edge-cifar; docs: a page of all.",
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        type=str,
        default="20min",
        help="90s, 20min, 2h30min, unlimited; 0 only draws again.",
    )
    parser.add_argument("--scale", type=str, default="small", help="small, or paper for the paper's own networks.")
    parser.add_argument("--out", metavar="FOLDER", type=str, default="results", help="The folder of all studies.")
    parser.add_argument(
        "--workers", type=int | None, default=None, help="Processes [as many as cores; at most 8 that share a GPU]"
    )
    parser.add_argument("--retry", action=ActionYesNo, default=False, help="Compute anew what has failed.")
    parser.add_argument(
        "--cell",
        metavar="WORDS",
        type=str | None,
        default=None,
        help="Compute one cell anew and say what is recorded of it: its hash, or row and values. Writes nothing.",
    )
    parser.add_argument(
        "--page", metavar="FILE", type=str, default="docs/results.md", help="The page that docs writes, in Markdown."
    )
    _place_flags(parser)


def _diagnose_flags(parser: Command) -> None:
    parser.add_argument(
        "network",
        nargs="?",
        type=str,
        help="A function that builds your own network, package.module:function; it takes no arguments, and draws the "
        "weights itself. The flags of data and pruning say what is done to it, and --residuals. None for --model.",
    )
    _recipe_flags(parser)
    parser.add_argument(
        "--page", metavar="FILE", type=str | None, default=None, help="A page with pictures, .html. [none]"
    )
    parser.add_argument(
        "--fail-on-collapse", action=ActionYesNo, default=False, help="Exit with 3 where a layer or the signal is lost."
    )


def _edge_flags(parser: Command) -> None:
    parser.add_argument("activations", nargs="*", type=str, default=[], help="Activations, as tanh gelu; all if none.")
    parser.add_argument(
        "--sigma_b",
        nargs="+",
        metavar="X",
        type=str,
        default=None,
        help="One or more bias scales [tanh 0.2, relu 0 ...]",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=str | None, default=None, help="Phase diagrams: a page .html, or one .svg [none]"
    )


def _data_flags(parser: Command) -> None:
    parser.add_argument("action", choices=["list", "download", "check"], help="What to do.")
    parser.add_argument("names", nargs="*", type=str, default=[], help="Data sets.")
    parser.add_argument(
        "--data_dir", metavar="FOLDER", type=str | None, default=None, help="Where data sets are [$PRUNEINIT_DATA]"
    )


def _report_flags(parser: Command) -> None:
    parser.add_argument("folder", type=str, help="The folder of a run, or one that holds runs or sweeps.")


_FLAGS: dict[str, Callable[[Command], None]] = {
    "run": _run_flags,
    "compare": _run_flags,
    "sweep": _sweep_flags,
    "reproduce": _reproduce_flags,
    "diagnose": _diagnose_flags,
    "edge": _edge_flags,
    "data": _data_flags,
    "report": _report_flags,
}


# -- errors ----------------------------------------------------------------------------------------------------------


def _check_recipe(path: str) -> None:
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except IsADirectoryError:
        held = " (its recipe is recipe.yaml)" if (Path(path) / "recipe.yaml").is_file() else ""
        raise InputError(f"--config {path} is a folder: expected a recipe, a YAML file{held}") from None
    except OSError as error:
        raise InputError(f"cannot read --config {path}: {error.strerror}; expected a recipe, a YAML file") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # not UTF-8, an impossible date, a bottomless list
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"--config {path} is not YAML text{place}: expected settings like 'model: mlp'") from None
    if not isinstance(settings, dict):
        kind = "nothing" if settings is None else type(settings).__name__
        raise InputError(f"--config {path} is no recipe: expected settings like 'model: mlp', got {kind}")
    try:
        json.dumps(settings, default=str)
    except ValueError:
        raise InputError(f"--config {path} is no recipe: a setting holds itself, by an anchor '&'") from None


def _plain(message: str, command: str, known: Sequence[str], commands: Mapping[str, str]) -> str:
    """What jsonargparse says in several lines in one, with the nearest setting for a misspelt one."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    left_over = re.search(r"[Uu]nrecognized arguments: (\S+)", text)
    if left_over and not left_over.group(1).startswith("-"):
        return _word(left_over.group(1), command, known)
    misspelt = re.search(r"(?:does not accept option|[Uu]nrecognized arguments:) '?(?:--)?([\w.]+)", text)
    if misspelt:
        return _unknown(misspelt.group(1), command, known)
    lacking = re.search(r"arguments are required: (?:\w+\.)?(\w+)", text)
    if lacking:
        return f"pruneinit {command} needs {lacking.group(1).upper()}; 'pruneinit {command} --help' explains it"
    wrong = re.search(r"invalid choice: '([^']+)' \(choose from 'run'", text)
    if wrong:
        return str(unknown("command", wrong.group(1), commands))
    choice = re.match(r'Parser key "([\w.]+)":.*Literal\[(.*)\]\. Got value: (.*)', text)
    if choice:
        return str(unknown(choice.group(1), choice.group(3), re.findall(r"'([^']+)'", choice.group(2))))
    maybe = re.match(r'Parser key "([\w.]+)":.*Union.*?Subtypes: \[<class \'(\w+)\'>.*Given value: (.*)', text)
    if maybe:
        return f"{maybe.group(1)} must be {_KINDS.get(maybe.group(2), maybe.group(2))}, got {maybe.group(3)}"
    value = re.match(r'Parser key "([\w.]+)":\s*Expected a (.*)\. Got value: (.*)', text)
    if value:
        kind = re.sub(r"<class '(\w+)'>", r"\1", value.group(2))
        return f"{value.group(1)} must be {_KINDS.get(kind, 'a ' + kind)}, got {value.group(3)}"
    return text


def _unknown(name: str, command: str, known: Sequence[str]) -> str:
    near = [*(k for k in known if k.startswith(name)), *difflib.get_close_matches(name, known, n=1, cutoff=0.5)]
    hint = f"did you mean {near[0]!r}?" if near else f"'pruneinit {command} --help' lists them"
    return f"unknown setting {name!r}; {hint}"


def _word(word: str, command: str, known: Sequence[str]) -> str:
    """A word that no flag takes: most often a recipe without `--config`."""
    if "config" in known and word.endswith(_RECIPE_ENDINGS):
        return f"pruneinit {command} takes flags only, got {word!r}; did you mean --config {word}?"
    flag = f"; did you mean --{word}?" if word in known else ""
    return f"pruneinit {command} takes no word {word!r} there: expected flags, '--NAME VALUE'{flag}"
