"""Which data sets lie below a data root, without reading their images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pruneinit.data.loading import DATASETS
from pruneinit.data.sources import SOURCES, Source, data_root

State = Literal["present", "missing", "incomplete"]
_MODULE = "sklearn"
_IMAGENET = "imagenet"
# Images to train on and to test on, their size, and what there is to fetch.
_SIZES = {
    "digits": ("1,438 + 359", "8×8", ""),
    "mnist": ("60,000 + 10,000", "28×28", "12 MB"),
    "fashion-mnist": ("60,000 + 10,000", "28×28", "31 MB"),
    "cifar10": ("50,000 + 10,000", "32×32, colour", "170 MB"),
    "cifar100": ("50,000 + 10,000", "32×32, colour", "169 MB"),
    "tiny-imagenet": ("100,000 + 10,000", "64×64, colour", "248 MB"),
    _IMAGENET: ("1,281,167 + 50,000", "colour", "about 150 GB"),
}


@dataclass(frozen=True)
class Presence:
    """What is there of one data set.

    Attributes:
        name: As `load` takes it.
        images: How many there are to train on and to test on.
        shape: How large they are.
        state: `present` says that all files are there, not that they are whole: `load` checks that.
        advice: How to get what is not there; empty if all is.
    """

    name: str
    images: str
    shape: str
    state: State
    advice: str


def presence(root: str | os.PathLike[str] | None = None) -> list[Presence]:
    """What is there of each data set that has a name.

    Args:
        root: The data root, as in `load`.

    Example:
        >>> [(one.name, one.state) for one in presence("/nowhere")][:2]
        [('digits', 'present'), ('mnist', 'missing')]
    """
    place = data_root(root)
    found = []
    for name in DATASETS:
        images, shape, size = _SIZES[name]
        state, advice = _look(name, place, size)
        found.append(Presence(name, images, shape, state, "" if state == "present" else advice))
    return found


def _look(name: str, root: Path, size: str) -> tuple[State, str]:
    if name not in SOURCES and name != _IMAGENET:
        state: State = "present" if find_spec(_MODULE) else "missing"
        return state, "pip install 'pruneinit[digits]'"
    if name == _IMAGENET:
        folder = root / _IMAGENET
        return _folders(folder), f"{size} from image-net.org, as {folder}/train/CLASS/* and val/CLASS/*"
    source = SOURCES[name]
    folder = root / source.folder
    state = _files(source, folder) if source.files else _folders(folder)
    archives = (root / f"{address.rpartition('/')[2]}.part" for address in source.addresses)
    if state == "missing" and any(archive.is_file() for archive in archives):
        state = "incomplete"
    return state, f"pruneinit data download {name} ({size})"


def _files(source: Source, folder: Path) -> State:
    there = [
        (folder / file).is_file()
        or (file.removesuffix(".gz") in source.alternatives and (folder / file.removesuffix(".gz")).is_file())
        for file in source.files
    ]
    begun = any(there) or any(folder.glob("*.part"))
    return "present" if all(there) else "incomplete" if begun else "missing"


def _folders(folder: Path) -> State:
    there = [(folder / part).is_dir() and any((folder / part).iterdir()) for part in ("train", "val")]
    return "present" if all(there) else "incomplete" if folder.is_dir() else "missing"
