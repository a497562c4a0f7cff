"""The command line: reads it, has its command carried out, and says in one line what a person can mend."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

_ERROR, _INTERRUPTED = 2, 130

# Each is carried out by the file of its name in `commands`, which is imported when it is given.
_COMMANDS = {
    "run": "carry out one recipe: initialise, prune, rescale, train, save, report",
    "compare": "prune the same network in several ways, and show what the Edge of Chaos is for",
    "sweep": "carry out what is missing of a grid of recipes, in several processes",
    "reproduce": "carry out a figure or table of the paper again, and set it beside what it reports",
    "diagnose": "will it train? Look at a pruned network before training it, and at what would help",
    "edge": "Edge-of-Chaos points and phase diagrams of activations",
    "data": "list, download and check data sets",
    "report": "write the page of a run, of all results of sweeps, or the index of a folder of runs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for a user's error, 3 for a collapse, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = None
    try:
        # All that takes time to import is imported from here on, where a Ctrl-C is met.
        from pruneinit.errors import InputError
        from pruneinit.flags import parse

        try:
            settings = parse(arguments, _COMMANDS)
            command = settings.subcommand
            if command is None:
                raise InputError(f"give a command: one of {', '.join(_COMMANDS)}; 'pruneinit --help' explains them")
            carry_out = import_module(f"pruneinit.commands.{command}").carry_out
            code: int | None = carry_out(settings[command])
            return code or 0
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


if __name__ == "__main__":
    sys.exit(main())
