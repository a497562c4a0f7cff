"""What `--help` of a command prints: a line or two for each flag, in groups, with the default behind it."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from jsonargparse import ArgumentParser

# Which flags of a recipe belong together; `*` stands for any ending. What is in no group comes last.
GROUPS: Mapping[str, Sequence[str]] = {
    "data": ("data", "data_dir", "validation", "train_images"),
    "network": ("model", "depth", "width", "activation", "init", "sigma_w", "sigma_b", "mirrored", "residuals"),
    "pruning": (
        "criterion",
        "sparsity",
        "scope",
        "rounds",
        "rescale_between",
        "sanity",
        "norm",
        "score_images",
        "rescale",
        "fold",
    ),
    "training": ("training.*",),
}
_LEFT = 35  # columns of the flags
_METAVARS: Mapping[Any, str] = {int: "N", float: "X", bool: "true|false", str: "NAME"}
_SHORT = {"print_config": "Print the recipe that these flags make, and exit.", "help": "Show this help and exit."}


class Command(ArgumentParser):
    """A parser of one command, whose help is short enough to be read."""

    def format_help(self, *_: Any) -> str:
        """The text of `--help`: usage, arguments, and flags in groups."""
        actions = [action for action in self._actions if _shown(action)]
        if _untrained(actions):
            actions = [action for action in actions if not action.dest.startswith("training.")]
        words = [action for action in actions if not action.option_strings]
        flags = [action for action in actions if action.option_strings]
        usage = " ".join(["usage:", self.prog.replace("[options] ", ""), *map(_word, words), "[--FLAG VALUE ...]"])
        parts = [usage, "", f"{self.description} Defaults in [brackets]."]
        width = shutil.get_terminal_size().columns
        for title, chosen in (("arguments", words), *_grouped(flags)):
            if chosen:
                parts += ["", f"{title}:", *(line for action in chosen for line in _lines(action, width))]
        return "\n".join([*parts, ""])


def _shown(action: Action) -> bool:
    """`--training FILE` is left out: `--config` says the same and more."""
    return action.help != SUPPRESS and action.dest != "training"


def _untrained(actions: Sequence[Action]) -> bool:
    """Whether the command trains nothing: it takes a recipe with its training, and does not read that part."""
    return any(action.dest == "page" for action in actions)


def _grouped(flags: Sequence[Action]) -> Iterable[tuple[str, list[Action]]]:
    """The flags by group, in the order of the groups; a command without a recipe has one group."""
    recipe = any(flag.dest == "criterion" for flag in flags)
    left = list(flags)
    for title, names in GROUPS.items() if recipe else ():
        patterns = [re.compile(re.escape(name).replace(r"\*", ".*")) for name in names]
        chosen = [flag for pattern in patterns for flag in left if pattern.fullmatch(flag.dest)]
        left = [flag for flag in left if flag not in chosen]
        yield title, chosen
    yield "this command" if recipe else "flags", left


def _word(action: Action) -> str:
    name = "|".join(action.choices) if action.choices else action.dest.upper()
    return {"*": f"[{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _lines(action: Action, width: int) -> list[str]:
    text = _text(action)
    left = f"  {_left(action)}"
    room = max(width - _LEFT - 1, 30)
    wrapped = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    if len(left) > _LEFT - 1:
        return [left, *(" " * _LEFT + line for line in wrapped)]
    return [f"{left:<{_LEFT}}{wrapped[0]}".rstrip(), *(" " * _LEFT + line for line in wrapped[1:])]


def _left(action: Action) -> str:
    if not action.option_strings:
        return _word(action)
    names = ", ".join(name for name in action.option_strings if not name.startswith("--no_") and not name.endswith("+"))
    return f"{names} {_metavar(action)}".rstrip()


def _metavar(action: Action) -> str:
    if action.dest in _SHORT or action.nargs == 0:
        return ""
    kind = _kind(action)
    name = str(action.metavar or "")
    if not name or name[0] in "[{":  # what jsonargparse makes of a type
        name = "[X,...]" if get_origin(kind) is tuple else _METAVARS.get(kind, "NAME")
    return f"{name} ..." if action.nargs == "+" else name


def _kind(action: Action) -> Any:
    """The type of a flag's value, without the None that stands for unset."""
    kind = getattr(action, "_typehint", None)
    if get_origin(kind) is tuple:
        return kind
    return next((one for one in get_args(kind) if one in _METAVARS), kind)


def _text(action: Action) -> str:
    text = _SHORT.get(action.dest) or re.sub(r'`"?([^`"]*)"?`', r"\1", action.help or "")
    choices = re.findall(r"[\w-]+", str(action.metavar)) if str(action.metavar).startswith("{") else []
    if choices and _kind(action) is not bool and not all(re.search(rf"\b{re.escape(c)}\b", text) for c in choices):
        text += f" One of {', '.join(choices)}."
    if not action.option_strings or action.nargs == 0 or action.dest in ("config", *_SHORT) or text.endswith("]"):
        return text
    default = action.default
    if isinstance(default, (list, tuple)):
        shown = ",".join(map(str, default))
    else:
        shown = "unset" if default is None else default if isinstance(default, str) else json.dumps(default)
    return f"{text} [{shown}]"
