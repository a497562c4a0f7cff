"""Measured tables go into the documents by command, so that no number in them is typed by hand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
_PLACES = ("data_dir", "out")  # where things lie does not change what is measured


def parse(parser: argparse.ArgumentParser, places: Collection[str] = _PLACES) -> tuple[argparse.Namespace, bool]:
    """Read the command line of a benchmark, and whether what it measures is to replace the committed results.

    It is at the default settings, which are the documented ones, or with `--write`. A quick try at other settings
    prints what it finds and leaves `results/` and `docs/` alone.

    Args:
        parser: With the benchmark's own flags, each with a default.
        places: The flags that do not change what is measured.
    """
    parser.add_argument("--write", action="store_true", help="write results/ and docs/ also at other settings")
    arguments = parser.parse_args()
    changed = [
        name
        for name, value in vars(arguments).items()
        if name not in (*places, "write") and value != parser.get_default(name)
    ]
    commit = arguments.write or not changed
    if not commit:
        print(f"not the documented {', '.join(changed)}: results/ and docs/ stay as they are (--write replaces them)")
    return arguments, commit


def write_results(name: str, results: Mapping[str, Any], commit: bool = True) -> None:
    """Keep what was measured as `results/NAME.json`; without `commit` print it instead."""
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    if not commit:
        print(text, end="")
        return
    path = PROJECT / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def put_table(
    document: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str,
    commit: bool = True,
    name: str = "table",
) -> None:
    """Replace what stands between `<!-- NAME -->` and the next `<!-- end -->` of a document; or print it."""
    lines = [" | ".join(cells) for cells in (header, ["---"] * len(header), *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    if not commit:
        print(f"{table}\n\n{note}")
        return
    path = PROJECT / "docs" / document
    before, mark, rest = path.read_text().partition(f"<!-- {name} -->")
    if not mark:
        raise SystemExit(f"{path} has no place <!-- {name} --> for the table")
    _, _, after = rest.partition("<!-- end -->")
    path.write_text(f"{before}{mark}\n{table}\n\n{note}\n<!-- end -->{after}")
