"""From a name to a data set."""

from __future__ import annotations

import os
from pathlib import Path

from pruneinit.data.cifar import load_cifar
from pruneinit.data.dataset import Dataset
from pruneinit.data.digits import load_digits
from pruneinit.data.folders import load_folder
from pruneinit.data.idx import load_idx
from pruneinit.data.sources import data_root
from pruneinit.errors import InputError, unknown

_FOLDERS = {"tiny-imagenet": "tiny-imagenet-200", "imagenet": "imagenet"}
_ANY_FOLDER = "folder:"
DATASETS: tuple[str, ...] = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", *_FOLDERS)
"""The names `load` knows, besides `folder:PATH`."""


def load(
    name: str, root: str | os.PathLike[str] | None = None, *, size: int | None = None, limit: int = 8 << 30
) -> Dataset:
    """Load a data set by its name; files are checked against their published MD5s.

    Args:
        name: One of `DATASETS`, or `folder:PATH` for a folder of images below the data root or anywhere.
            `digits` needs no files.
        root: The data root; None is `$PRUNEINIT_DATA`, else `~/.cache/pruneinit/data`.
        size: For folders of images: scale and cut all to `size` x `size`.
        limit: For folders of images: bytes of decoded images to hold in memory; a larger set is read from its files
            batch by batch.

    Returns:
        The data set, on the CPU, without a validation split (`Dataset.hold_out` makes one).

    Raises:
        InputError: An unknown name, or files that are missing, damaged or altered.

    Example:
        >>> load("digits").classes
        ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    place = data_root(root)
    try:
        return _load(name, place, size, limit)
    except OSError as error:
        where = error.filename or place
        raise InputError(f"cannot read {where} of {name}: {error.strerror}; check its permissions") from error


def _load(name: str, place: Path, size: int | None, limit: int) -> Dataset:
    folder = _folder(name, place)
    if folder is not None:
        return load_folder(name, folder, size=size, limit=limit)
    if size is not None:
        raise InputError(f"size is for folders of images; the images of {name} have a size of their own")
    if name == "digits":
        return load_digits()
    if name in ("mnist", "fashion-mnist"):
        return load_idx(name, place)
    if name in ("cifar10", "cifar100"):
        return load_cifar(name, place)
    raise unknown("data set", name, DATASETS)


def _folder(name: str, root: Path) -> Path | None:
    if name.startswith(_ANY_FOLDER):
        return root / Path(name.removeprefix(_ANY_FOLDER)).expanduser()
    return root / _FOLDERS[name] if name in _FOLDERS else None
