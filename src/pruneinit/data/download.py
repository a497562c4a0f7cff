"""Fetch the official files of a data set, checked, whole or not there."""

from __future__ import annotations

import http.client
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pruneinit.data.sources import Source, data_root, md5_of, source_of
from pruneinit.errors import InputError

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and how many there will be (None: unknown)."""

_CHUNK = 1 << 18
_SECONDS = 30.0
_RANGE_REFUSED = 416
_PARTIAL = 206


def download(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch the official files of a data set; what is there and whole already is left alone.

    A broken download goes on where it stopped. Nothing is used before its MD5 is the published one.

    Args:
        name: `mnist`, `fashion-mnist`, `cifar10`, `cifar100` or `tiny-imagenet`.
        root: The data root, as in `load`.
        mirror: An address (http, https, file) under which files of the same names lie, instead of the public ones.
        progress: Called after every quarter of a megabyte.

    Returns:
        The folder with the data set's files.

    Raises:
        InputError: An unknown name, no connection, not the published files, or a folder that cannot be written.
    """
    source = source_of(name)
    place = data_root(root)
    folder = place / source.folder
    if _is_there(source, folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for address, md5 in source.addresses.items():
            file = address.rpartition("/")[2]
            url = address if mirror is None else f"{mirror.rstrip('/')}/{file}"
            if file in source.files:
                _fetch(url, folder / file, md5, progress)
            else:
                archive = place / file
                _fetch(url, archive, md5, progress)
                _unpack(archive, place, source)
                archive.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write below {place}: {reason}; make space or choose another data root") from error
    return folder


def _is_there(source: Source, folder: Path) -> bool:
    if not source.files:
        return folder.is_dir()  # `_unpack` puts such a folder there in one step
    return all(_is_whole(folder / file, md5) for file, md5 in source.files.items())


def _is_whole(path: Path, md5: str) -> bool:
    return path.is_file() and md5_of(path) == md5


def _fetch(url: str, target: Path, md5: str, progress: Progress | None) -> None:
    if _is_whole(target, md5):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        expected = _receive(url, part, target.name, progress)
    except urllib.error.HTTPError as error:
        raise InputError(f"cannot fetch {url}: the server answers {error.code} {error.reason}; try a mirror") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise InputError(f"cannot fetch {url} ({error}); check the connection and run it again to go on") from error
    received = part.stat().st_size
    if expected is not None and received < expected:
        raise InputError(f"{url} ended after {received} of {expected} bytes; run it again to go on from there")
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise InputError(f"{url} does not serve the published file: expected MD5 {md5}, got {found}; try a mirror")
    part.replace(target)


def _receive(url: str, part: Path, name: str, progress: Progress | None) -> int | None:
    """Append to `part` what it lacks; return how long it must be, if the server says so."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_REFUSED or not start:
            raise
        error.close()
        part.unlink()
        return _receive(url, part, name, progress)
    with response:
        if getattr(response, "status", None) != _PARTIAL:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                if progress is not None:
                    progress(name, file.tell(), total)
    return total


def _plain(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files and folders of an archive, refused where anything else is in it or leads out of it."""
    for member in archive:
        path = PurePosixPath(member.name)
        if not (member.isfile() or member.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.TarError(f"{member.name!r} is no file or folder inside of it")
        yield member


def _unpack(archive: Path, root: Path, source: Source) -> None:
    """Unpack beside the target, then move what belongs to the data set to its place."""
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{archive.name}.") as name:
        inside = Path(name)
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as opened:
                    opened.extractall(inside)  # leaves out drive letters, leading slashes and ".."
            else:
                with tarfile.open(archive) as opened_tar:
                    if hasattr(tarfile, "data_filter"):
                        opened_tar.extractall(inside, filter="data")
                    else:  # Python before 3.11.4
                        opened_tar.extractall(inside, members=_plain(opened_tar))
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise InputError(f"cannot unpack {archive}: {error}; check the space on the disk") from error
        unpacked, target = inside / source.folder, root / source.folder
        missing = [file for file in source.files if not (unpacked / file).is_file()]
        if missing or not unpacked.is_dir():
            raise InputError(f"{archive} lacks {source.folder}/{', '.join(missing)}: it is not the published archive")
        if not target.exists():
            unpacked.rename(target)
        for file in source.files:
            if (unpacked / file).is_file():
                (unpacked / file).replace(target / file)
