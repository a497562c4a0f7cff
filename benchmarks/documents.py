"""Measured tables go into the documents by command, so that no number in them is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]


def write_results(name: str, results: Mapping[str, Any]) -> None:
    """Keep what was measured as `results/NAME.json`."""
    path = PROJECT / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def put_table(document: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> None:
    """Replace what stands between the markers `<!-- table -->` and `<!-- end -->` of a document."""
    path = PROJECT / "docs" / document
    before, _, rest = path.read_text().partition("<!-- table -->")
    _, _, after = rest.partition("<!-- end -->")
    lines = [" | ".join(cells) for cells in (header, ["---"] * len(header), *rows)]
    table = "\n".join(f"| {line} |" for line in lines)
    path.write_text(f"{before}<!-- table -->\n{table}\n\n{note}\n<!-- end -->{after}")
