"""CIFAR-10 and CIFAR-100 from their official Python files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruneinit.data.dataset import Dataset, Split
from pruneinit.data.pickles import read_pickle
from pruneinit.data.sources import verified
from pruneinit.data.statistics import mean_and_std
from pruneinit.errors import InputError

_IMAGE = (3, 32, 32)
_FILES = {
    "cifar10": ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"], "batches.meta"),
    "cifar100": (["train"], ["test"], "meta"),
}
_LABELS = {"cifar10": b"labels", "cifar100": b"fine_labels"}
_NAMES = {"cifar10": b"label_names", "cifar100": b"fine_label_names"}


def load_cifar(name: str, root: Path) -> Dataset:
    """Load `cifar10` or `cifar100` (fine labels) from its official files in `root`.

    Raises:
        InputError: A file is missing or altered.
    """
    train_files, test_files, meta_file = _FILES[name]
    classes = _entry(_read(name, meta_file, root), _NAMES[name], list, meta_file)
    train, test = (_split(name, files, root) for files in (train_files, test_files))
    mean, std = mean_and_std(train.images)
    names = tuple(label.decode() for label in classes)
    return Dataset(name, train, test, names, mean, std, padding=4, flip=True)


def _split(name: str, files: Sequence[str], root: Path) -> Split:
    images, labels = [], []
    for file in files:
        batch = _read(name, file, root)
        pixels = _entry(batch, b"data", np.ndarray, file)
        if pixels.ndim != 2 or pixels.shape[1] != np.prod(_IMAGE):
            raise InputError(f"{file} holds images of shape {pixels.shape}, expected rows of {np.prod(_IMAGE)} bytes")
        images.append(pixels)
        labels += _entry(batch, _LABELS[name], list, file)
    # The pixels lie plane by plane already: red, green, blue.
    stacked = torch.from_numpy(np.concatenate(images).reshape(-1, *_IMAGE))
    return Split(stacked, torch.tensor(labels, dtype=torch.int64))


def _read(name: str, file: str, root: Path) -> Any:
    return read_pickle(verified(name, file, root), file)


def _entry(batch: Any, key: bytes, kind: type, file: str) -> Any:
    found = batch.get(key) if isinstance(batch, dict) else None
    if not isinstance(found, kind):
        raise InputError(f"{file} has no {kind.__name__} {key.decode()!r}: is it a file of another data set?")
    return found
