"""Pickles of numbers, text and `uint8` arrays, read without running anything that a pickle asks for.

A pickle is a program: it may call whatever its reader can find. This reader finds three names, those that NumPy
wrote into the CIFAR files, and gives stand-ins of our own for them, so that no argument from a file reaches NumPy.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from pruneinit.errors import InputError


def read_pickle(contents: bytes, what: str) -> Any:
    """Read a pickle of containers, numbers, text and `uint8` arrays; Python 2 strings become `bytes`.

    Args:
        contents: The pickle.
        what: Its name, for messages.

    Returns:
        What was pickled, with `numpy.ndarray` for arrays.

    Raises:
        InputError: It holds or asks for anything else, or is not a whole pickle.

    Example:
        >>> read_pickle(pickle.dumps({"labels": [3, 1]}), "labels")
        {'labels': [3, 1]}
        >>> read_pickle(pickle.dumps(print), "labels")
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: labels is no CIFAR file: it asks for builtins.print; do not trust it, ...
    """
    try:
        return _finished(_Reader(io.BytesIO(contents), encoding="bytes").load())
    except InputError:
        raise
    except _Refused as error:
        raise InputError(f"{what} is no CIFAR file: {error}; do not trust it, download it again") from error
    except Exception as error:  # a damaged pickle can end in an error of any kind
        raise InputError(f"{what} is not a whole pickle ({type(error).__name__}); download it again") from error


class _Refused(Exception):
    """The pickle asks for something that no CIFAR file has."""


class _Dtype:
    """Stands for the `uint8` that an array file names; its state (byte order and the like) says nothing more."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands for an array until its bytes are read."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Refused("an array of an unknown kind")
        _, shape, dtype, by_columns, raw = state
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or not isinstance(dtype, _Dtype) or by_columns is not False or not isinstance(raw, bytes):
            raise _Refused("an array that is not uint8 in rows")
        if len(raw) != math.prod(shape):
            raise _Refused(f"an array of shape {shape} with {len(raw)} bytes")
        self.value = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


# The stand-ins of functions and classes are instances without attributes: a pickle may also set attributes of what
# it finds, and could so change a class or function of ours for good.


class _Ndarray:
    __slots__ = ()


class _Reconstruct:
    __slots__ = ()

    def __call__(self, *given: Any) -> _Array:
        if not given or not isinstance(given[0], _Ndarray):
            raise _Refused("it rebuilds something other than an array")
        return _Array()


class _MakeDtype:
    __slots__ = ()

    def __call__(self, *given: Any) -> _Dtype:
        if not given or given[0] not in (b"u1", "u1"):
            raise _Refused(f"it holds an array of {given[:1]!r}, expected uint8")
        return _Dtype()


_STAND_INS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    ("numpy", "ndarray"): _Ndarray(),
    ("numpy", "dtype"): _MakeDtype(),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _STAND_INS:
            raise _Refused(f"it asks for {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any, /) -> Any:
        raise _Refused("it asks for an object kept elsewhere")


def _finished(read: Any) -> Any:
    """Replace the stand-ins of arrays by NumPy's arrays; no other stand-in may be left over."""
    if isinstance(read, _Array):
        if read.value is None:
            raise _Refused("an array without contents")
        return read.value
    if isinstance(read, dict):
        return {key: _finished(value) for key, value in read.items()}
    if isinstance(read, (list, tuple)):
        return type(read)(_finished(value) for value in read)
    if isinstance(read, (int, float, str, bytes, type(None))):
        return read
    raise _Refused(f"it holds a {type(read).__name__.lstrip('_')}")
