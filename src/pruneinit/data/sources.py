"""What the official files of each data set are called, their published MD5s, and where they are public."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pruneinit.errors import InputError, unknown

ROOT_VARIABLE = "PRUNEINIT_DATA"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """The official files of one data set.

    Attributes:
        folder: Where the files lie below the data root.
        files: File name to MD5, for the files that are read.
        addresses: Public address to the MD5 of what it serves; archives are unpacked into the data root.
        alternatives: MD5s of the same files unpacked, `train-images-idx3-ubyte` for `train-images-idx3-ubyte.gz`.
    """

    folder: str
    files: dict[str, str]
    addresses: dict[str, str]
    alternatives: dict[str, str]


def _idx(folder: str, address: str, packed: tuple[str, ...], plain: tuple[str, ...]) -> Source:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = {f"{name}-ubyte.gz": md5 for name, md5 in zip(names, packed, strict=True)}
    alternatives = {f"{name}-ubyte": md5 for name, md5 in zip(names, plain, strict=True)}
    return Source(folder, files, {address + name: md5 for name, md5 in files.items()}, alternatives)


SOURCES: dict[str, Source] = {
    "mnist": _idx(
        "MNIST/raw",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        (
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    ),
    "fashion-mnist": _idx(
        "FashionMNIST/raw",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
    "cifar10": Source(
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        {"https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
        {},
    ),
    "cifar100": Source(
        "cifar-100-python",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        {"https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
        {},
    ),
    "tiny-imagenet": Source(
        "tiny-imagenet-200",
        {},  # 120,000 images: their archive has a published MD5, they have not
        {"http://cs231n.stanford.edu/tiny-imagenet-200.zip": "90528d7ca1a48142e341f4ef8d21d0de"},
        {},
    ),
}


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder data sets are read from: `root`, else `$PRUNEINIT_DATA`, else `~/.cache/pruneinit/data`.

    Example:
        >>> data_root("sets").as_posix()
        'sets'
    """
    chosen = root if root is not None else os.environ.get(ROOT_VARIABLE) or "~/.cache/pruneinit/data"
    return Path(chosen).expanduser()


def verified(name: str, file: str, root: Path) -> bytes:
    """Read one official file of the data set `name`, or its unpacked form, and compare its MD5 with the published one.

    Args:
        name: A key of `SOURCES`.
        file: A key of its `files`.
        root: The data root.

    Returns:
        The contents of the file as it lies there (compressed, if it is).

    Raises:
        InputError: The file is missing, or not the published one.
    """
    source = SOURCES[name]
    path = root / source.folder / file
    expected = source.files[file]
    plain = file.removesuffix(".gz")
    if not path.is_file() and plain in source.alternatives and path.with_name(plain).is_file():
        path, expected = path.with_name(plain), source.alternatives[plain]
    if not path.is_file():
        raise InputError(
            f"no file {path}: expected the official file of {name}; run `pruneinit data download {name}`, or set "
            f"{ROOT_VARIABLE} to the folder that holds {source.folder}"
        )
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    found = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    if found != expected:
        raise InputError(
            f"{path} is not the official file of {name} or not all of it: expected MD5 {expected}, got {found} for "
            f"{len(contents)} bytes; delete it and run `pruneinit data download {name}`"
        )
    return contents


def source_of(name: str) -> Source:
    """The public source of a data set.

    Raises:
        InputError: There is none under that name.

    Example:
        >>> source_of("cifar100").folder
        'cifar-100-python'
    """
    if name not in SOURCES:
        raise unknown("data set to download", name, SOURCES)
    return SOURCES[name]


def md5_of(path: Path) -> str:
    """The MD5 of a file of any size."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
