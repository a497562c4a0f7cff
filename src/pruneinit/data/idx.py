"""The idx format of MNIST and FashionMNIST: a magic number, big-endian sizes, then bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pruneinit.data.dataset import Dataset, Split
from pruneinit.data.sources import verified
from pruneinit.data.statistics import mean_and_std
from pruneinit.errors import InputError

_UNSIGNED_BYTE = 8
_GZIP = b"\x1f\x8b"

CLASSES: dict[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}


def read_idx(contents: bytes, what: str) -> Tensor:
    """Parse the contents of an idx file of unsigned bytes, gzipped or not.

    Args:
        contents: The file.
        what: Its name, for messages.

    Returns:
        A `uint8` tensor of the shape written in the file.

    Raises:
        InputError: It is not such a file, or not all of one.

    Example:
        >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "labels")
        tensor([7, 9], dtype=torch.uint8)
    """
    if contents[:2] == _GZIP:
        try:
            contents = gzip.decompress(contents)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{what} is not a whole gzip file ({error}); download it again") from error
    if len(contents) < 4 or contents[:2] != b"\0\0" or contents[2] != _UNSIGNED_BYTE:
        raise InputError(f"{what} is no idx file of unsigned bytes: expected it to begin with 00 00 08")
    start = 4 + 4 * contents[3]
    shape = np.frombuffer(contents[4:start], dtype=">u4").tolist() if len(contents) >= start else []
    if len(shape) != contents[3] or len(contents) - start != math.prod(shape):
        raise InputError(f"{what} is cut short or too long: its header says {shape}, {len(contents)} bytes are there")
    return torch.from_numpy(np.frombuffer(contents, dtype=np.uint8, offset=start).reshape(shape).copy())


def load_idx(name: str, root: Path) -> Dataset:
    """Load `mnist` or `fashion-mnist` from its four official files in `root`.

    Raises:
        InputError: A file is missing or altered.
    """
    train, test = _split(name, "train", root), _split(name, "t10k", root)
    mean, std = mean_and_std(train.images)
    # Neither set is augmented in the papers: a mirrored 3 is no 3.
    return Dataset(name, train, test, CLASSES[name], mean, std)


def _split(name: str, part: str, root: Path) -> Split:
    files = [f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"]
    images, labels = (read_idx(verified(name, file, root), file) for file in files)
    return Split(images[:, None], labels.long())
