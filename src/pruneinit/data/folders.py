"""Data sets that are folders of images: Tiny-ImageNet's layout and ImageNet's."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from pruneinit.data.dataset import Dataset, Split
from pruneinit.data.images import decode, file_split
from pruneinit.data.statistics import histograms, moments_of
from pruneinit.errors import InputError

_SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
_ANNOTATIONS = "val_annotations.txt"
_COUNTED = 10_000
"""Images of a streamed set that mean and standard deviation are computed from: decoding ImageNet takes hours."""


def load_folder(name: str, folder: Path, *, size: int | None = None, limit: int) -> Dataset:
    """Load a folder of images, `train/CLASS/...` and `val/CLASS/...`, or Tiny-ImageNet's `val/val_annotations.txt`.

    The validation images of the folder are the test split: the test labels of these sets were never published.
    Sets that fit `limit` are decoded once into memory. Larger ones are decoded batch by batch, and their mean and
    standard deviation come from 10,000 training images spread evenly over the classes' order.
    Augmentation is a crop shifted by up to 1/16 of the image (4 pixels at 64) and a flip, not the random resizing
    usual on ImageNet.

    Args:
        name: What to call the data set.
        folder: The folder that holds `train` and `val`.
        size: Scale and cut all images to `size` x `size`; needed when they differ in size.
        limit: Bytes of decoded images to hold in memory.

    Raises:
        InputError: A folder or file is missing, damaged or of another shape.
    """
    if size is not None and size < 1:
        raise InputError(f"the size of images must be 1 pixel or more, got {size}")
    classes = _class_folders(folder / "train", name)
    train = [(path, label) for label, c in enumerate(classes) for path in _images_below(folder / "train" / c)]
    test = list(_validation(folder / "val", classes))
    for part, files in (("train", train), ("val", test)):
        if not files:
            raise InputError(f"no images below {folder / part}: expected files ending in {', '.join(_SUFFIXES)}")
    channels, height, width = decode(train[0][0], size).shape
    shape = channels, height, width
    in_memory = (len(train) + len(test)) * math.prod(shape) <= limit
    splits = [file_split([p for p, _ in f], [y for _, y in f], size, shape, in_memory) for f in (train, test)]
    mean, std = _mean_and_std(splits[0], in_memory)
    padding = round(min(height, width) / 16)
    return Dataset(name, splits[0], splits[1], classes, mean, std, padding=padding, flip=True)


def _class_folders(train: Path, name: str) -> tuple[str, ...]:
    if not train.is_dir():
        raise InputError(
            f"no folder {train}: {name} is read from train/CLASS/* and val/CLASS/*; check the data root"
            + (f" or run `pruneinit data download {name}`" if name == "tiny-imagenet" else "")
        )
    classes = tuple(sorted(entry.name for entry in train.iterdir() if entry.is_dir()))
    if not classes:
        raise InputError(f"{train} has no folders: expected one for each class")
    return classes


def _images_below(folder: Path) -> Iterator[Path]:
    for place, below, files in os.walk(folder):
        below.sort()
        for file in sorted(files):
            if file.lower().endswith(_SUFFIXES):
                yield Path(place, file)


def _validation(val: Path, classes: tuple[str, ...]) -> Iterator[tuple[Path, int]]:
    labels = {name: label for label, name in enumerate(classes)}
    annotations = val / _ANNOTATIONS
    if annotations.is_file():
        try:
            lines = annotations.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{annotations} is no text ({error}); copy or download it again") from error
        for number, line in enumerate(lines, 1):
            file, _, rest = line.partition("\t")
            label = rest.partition("\t")[0]
            if label not in labels or Path(file).name != file:
                raise InputError(f"{annotations}, line {number}: expected FILE, tab, a class of train; got {line!r}")
            yield val / "images" / file, labels[label]
        return
    for folder in sorted(entry for entry in val.iterdir() if entry.is_dir()) if val.is_dir() else ():
        if folder.name not in labels:
            raise InputError(f"{folder} is no class of the training images; expected one of {len(classes)} names")
        for path in _images_below(folder):
            yield path, labels[folder.name]


def _mean_and_std(train: Split, in_memory: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    step = 1 if in_memory else max(1, len(train) // _COUNTED)
    counts = torch.zeros(train.shape[0], 256, dtype=torch.int64)
    for images, _ in train.fetch(torch.split(torch.arange(0, len(train), step), 256)):
        counts += histograms(images)
    return moments_of(counts)
