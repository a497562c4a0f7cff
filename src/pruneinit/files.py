"""Files that are whole or not there: atomic writes, and tensors in safetensors with a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pruneinit.errors import InputError

# One entry of the header holds everything: safetensors writes several in an order that changes from call to call,
# and equal contents should be equal files.
ENTRY = "pruneinit"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it takes the place of `path` in one step.

    A reader, or the next start after a kill, sees the old file or the new one, never half of one.

    Raises:
        InputError: The folder cannot be made or written, the disk is full, or `path` is no file.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise InputError(f"cannot write {target}: it is a folder; give the name of a file in it")
        if target.exists() and not target.is_file():
            raise InputError(f"cannot write {target}: it is a device or a pipe; give the name of a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}; choose a folder you may write to") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        # A crash of the machine, not only of the program, must find the bytes on the disk before the name.
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files for the owner alone; a result is to be read like any other new file.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(target)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Add `text` in UTF-8 to the end of a file, which is made if need be.

    Raises:
        InputError: It cannot be written, or the disk is full; the file is then as it was, as far as that can be had.
    """
    file = Path(path)
    try:
        before = file.stat().st_size if file.exists() else 0
        try:
            with open(file, "a", encoding="utf-8") as opened:
                opened.write(text)
        except OSError:
            with suppress(OSError):
                os.truncate(file, before)
            raise
    except OSError as error:
        raise InputError(
            f"cannot add to {file}: {error.strerror}; see to it that it can be written, and run the same again to go on"
        ) from error


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata to one safetensors file, atomically, with a checksum over both.

    Tensors may share memory; each is written in full. Nothing is pickled.

    Args:
        path: The file to write; its folder is made.
        tensors: Named tensors on any device.
        metadata: Anything JSON can hold.

    Raises:
        InputError: The file cannot be written.
    """
    flat = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps(metadata, sort_keys=True)
    entry = json.dumps({"checksum": _checksum(flat, text), "metadata": text})
    with replacing(path) as part:
        try:
            save_file(flat, part, metadata={ENTRY: entry})
        except SafetensorError as error:  # which is how it reports a full disk
            raise OSError(str(error)) from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote: the tensors (on the CPU) and the metadata.

    Raises:
        InputError: The file is missing, unreadable, truncated, altered, or not one of ours.
    """
    file = Path(path)
    _check_readable(file)
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is not a whole safetensors file ({error}); copy or save it again") from error
    if ENTRY not in header:
        raise InputError(f"{file} was not written by pruneinit: its header has no entry {ENTRY!r}")
    try:
        entry = json.loads(header[ENTRY])
        whole = entry["checksum"] == _checksum(tensors, entry["metadata"])
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{file} was altered: its contents do not match the checksum; copy or save it again")
    metadata: dict[str, Any] = json.loads(entry["metadata"])
    return tensors, metadata


def _check_readable(file: Path) -> None:
    expected = "expected a .safetensors file written by pruneinit"
    try:
        if file.is_dir():
            raise InputError(f"{file} is a folder: {expected}")
        if not file.is_file():
            raise InputError(f"no file {file}: {expected}")
        file.open("rb").close()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}; {expected} that you may read") from error


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
