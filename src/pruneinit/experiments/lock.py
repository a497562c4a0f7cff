"""One process at a time in a folder, by a lock that the system takes back when its holder dies."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pruneinit.errors import InputError

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
_TRIES = 100


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other processes out of it; on leaving, folders made here that are still empty are gone.

    The lock is a file in the folder, which also shows that the folder can be written before anything in it is changed.
    Where the system has no such locks, nobody is kept out.

    Args:
        folder: Where to work.

    Raises:
        InputError: Another process is at work there, or the folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     with alone(Path(root, "runs", "a")):
        ...         inside = sorted(path.name for path in Path(root).rglob("*"))
        ...     inside, list(Path(root).iterdir())
        (['.lock', 'a', 'runs'], [])
    """
    made: list[Path] = []
    try:
        handle = _taken(folder / LOCK, made)
        if handle is None:
            raise InputError(
                f"another process is working on {folder}; wait for it, or choose another folder with --out"
            )
        try:
            yield
        finally:
            _give_back(handle, folder / LOCK)
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # it is not empty: the work has left something, or somebody else has
                place.rmdir()


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim what the file `path` stands for: True while this process alone holds it, False where another one does.

    The folder of the file is made; the file is gone once the claim is given back. That of a holder who was killed
    keeps nobody out.

    Raises:
        InputError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with claimed(Path(folder, "cell")) as first, claimed(Path(folder, "cell")) as second:
        ...         first, second
        (True, False)
    """
    handle = _taken(path, [])
    if handle is None:
        yield False
        return
    try:
        yield True
    finally:
        _give_back(handle, path)


def _taken(path: Path, made: list[Path]) -> int | None:
    """The open, locked file, or None where another process holds it.

    `made` gets the folders that were made for it, the deepest first.
    """
    folder = path.parent
    for attempt in range(_TRIES):
        try:
            made += [place for place in (folder, *folder.parents) if place not in made and not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            # Another process that leaves may remove the folder between the last two lines.
            if isinstance(error, FileNotFoundError) and attempt + 1 < _TRIES:
                continue
            raise InputError(f"cannot write {folder}: {error.strerror}; choose a folder you may write to") from error
        if not _locked(handle):
            os.close(handle)
            return None
        if _is(handle, path):
            return handle
        os.close(handle)  # its last holder removed it before it was locked here: it keeps nobody out
    return None


def _locked(handle: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
    return True


def _is(handle: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _give_back(handle: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        if _is(handle, path):
            path.unlink()  # while it is still locked, so that nobody else's is removed
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a child process may hold the file open for longer
    os.close(handle)
