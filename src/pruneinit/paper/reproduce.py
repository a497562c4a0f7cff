"""Carry out a study of the paper as far as the time allows, and write its table and figure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pruneinit.files import write_text
from pruneinit.paper.study import Findings, Means, Study
from pruneinit.paper.tables import csv_text
from pruneinit.report.standalone import standalone


@dataclass(frozen=True)
class Written:
    """What `reproduce` wrote.

    Attributes:
        folder: Where it is.
        findings: What it says.
        page: The page in Markdown, which names the others.
    """

    folder: Path
    findings: Findings
    page: Path


def reproduce(study: Study, out: str | os.PathLike[str], means: Means | None, *, scale: str = "small") -> Written:
    """Carry out what is missing of a study, the most telling cells first, and write what there is.

    A call goes on where the one before stopped, in whatever way it stopped. The folder is `out/NAME`, or
    `out/NAME-paper`; beside the results it gets `NAME.csv`, `NAME.md`, and `NAME.svg` where there is something to draw.

    Args:
        study: Which.
        out: The folder of all studies.
        means: What to compute with, and until when; None computes nothing and reads no data.
        scale: `"small"`, or `"paper"` for the networks and epochs of the paper.

    Raises:
        InputError: There is no such scale, data are missing, or files cannot be read or written.
    """
    folder = study.folder(Path(out), scale)
    study.grid(scale)
    if means is not None:
        study.carry_out(scale, folder, means)
    study.gather(folder)
    findings = study.findings(scale, folder)
    write_text(folder / f"{study.name}.csv", csv_text(findings.rows))
    if findings.figure is not None:
        write_text(folder / f"{study.name}.svg", standalone(findings.figure))
    page = folder / f"{study.name}.md"
    write_text(page, page_of(study, scale, findings))
    return Written(folder, findings, page)


def page_of(study: Study, scale: str, findings: Findings) -> str:
    """The page of one study in Markdown."""
    command = f"pruneinit reproduce {study.name}" + ("" if scale == "small" else f" --scale {scale}")
    drawing = [f"![{study.title}]({study.name}.svg)"] if findings.figure is not None else []
    parts = [
        f"# {study.title}",
        f"Written by `{command}`. Scale: {scale}. {' '.join(findings.progress)}",
        f"**The paper shows:** {study.shows}",
        f"**What differs:** {study.differs[scale]}",
        *drawing,
        *(["\n".join(f"- {line}" for line in findings.remarks)] if findings.remarks else []),
        findings.table,
        study.note,
    ]
    return "\n\n".join(parts) + "\n"
