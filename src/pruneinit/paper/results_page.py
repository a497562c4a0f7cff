"""One page of all studies, made from the files of their results."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pruneinit.files import write_text
from pruneinit.paper.study import NOTE, Findings, Study

_HEAD = """# The paper, carried out again

Every figure and table of *Robust Pruning at Initialization* (arXiv 2002.08797), ours beside the published numbers. This
page is written by `pruneinit reproduce docs` from the files below `{out}`, which `pruneinit reproduce NAME` computes
([how](reproduce.md)); no measured number in it is typed by hand. {note}"""


def write_results_page(studies: Iterable[Study], out: str | os.PathLike[str], page: str | os.PathLike[str]) -> Path:
    """Write the page of all studies that there are results of.

    Args:
        studies: In the order of the page.
        out: The folder of all studies.
        page: The file to write; its links lead from there to the files of the studies.

    Raises:
        InputError: A file cannot be read or written, or is damaged.
    """
    target, root = Path(page), Path(out)
    parts = [_HEAD.format(out=root.name, note=NOTE)]
    lacking = []
    for study in studies:
        for scale in study.scales:
            folder = study.folder(root, scale)
            if (folder / study.results_file).is_file():
                parts.append(section(study, scale, study.findings(scale, folder), _link(folder, target.parent)))
            else:
                lacking.append(f"{study.name} ({scale})")
    if lacking:
        parts.append(f"Not computed yet: {', '.join(lacking)}.")
    write_text(target, "\n\n".join(parts) + "\n")
    return target


def section(study: Study, scale: str, findings: Findings, link: str) -> str:
    """What the page says of one study at one scale."""
    drawing = [f"![{study.title}]({link}/{study.name}.svg)"] if findings.figure is not None else []
    parts = [
        f"## {study.title} ({scale})",
        f"*The paper shows.* {study.shows}",
        *drawing,
        findings.summary,
        f"*What explains the difference.* {study.differs[scale]} {' '.join(findings.remarks)}".rstrip(),
        f"[All entries]({link}/{study.name}.md), [as CSV]({link}/{study.name}.csv). {' '.join(findings.progress)}",
    ]
    return "\n\n".join(parts)


def _link(folder: Path, page: Path) -> str:
    return Path(os.path.relpath(folder, page)).as_posix()
