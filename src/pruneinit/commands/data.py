"""`pruneinit data`: which data sets there are, and getting them."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pruneinit.data import DATASETS, data_root, download, load
from pruneinit.data.presence import presence
from pruneinit.errors import InputError, unknown
from pruneinit.screen import open_console, progress


def carry_out(settings: Namespace) -> None:
    """List, download or check data sets."""
    console = open_console()
    root = data_root(settings.data_dir)
    for name in settings.names:
        if name not in DATASETS:
            raise unknown("data set", name, DATASETS)
    if settings.action == "list":
        _list(console, root)
    if settings.action != "list" and not settings.names:
        raise InputError(f"name the data sets to {settings.action}: some of {', '.join(DATASETS)}")
    for name in settings.names:
        if settings.action == "download":
            with progress(f"download {name}") as advance:
                download(name, root, progress=lambda file, done, size: advance(done, size or 0, file))
        found = load(name, root)
        console.print(f"{name}: {len(found.train):,} + {len(found.test):,} images of {found.shape}", highlight=False)


def _list(console: Console, root: Path) -> None:
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
