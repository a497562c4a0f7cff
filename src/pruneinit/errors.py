"""The error a person can mend: what was given, what was expected, what to do.

Everything a user can get wrong raises `InputError`, so that the command line can show one line and exit with 2
while a mistake of ours still shows its traceback.
"""

from __future__ import annotations

import difflib
import math
import numbers
import sys
from collections.abc import Iterable


class InputError(ValueError):
    """Something given from outside is wrong; the message says what, and what to do about it."""


def unknown(kind: str, given: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not one of `known`, with the nearest one that is.

    Example:
        >>> str(unknown("criterion", "snap", ["magnitude", "random", "snip"]))
        "unknown criterion 'snap': expected one of magnitude, random, snip; did you mean 'snip'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    # A long list would bury the hint, which is what the reader needs.
    expected = "" if near and len(names) > 20 else f": expected one of {', '.join(names)}"
    return InputError(f"unknown {kind} {given!r}{expected}" + (f"; did you mean {near[0]!r}?" if near else ""))


def check_sparsity(sparsity: float) -> float:
    """Return `sparsity` if it is a number in [0, 1), else raise `InputError`.

    Example:
        >>> check_sparsity(98)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: sparsity must be in [0, 1), got 98; did you mean 0.98?
    """
    if not isinstance(sparsity, numbers.Real) or isinstance(sparsity, bool):
        raise InputError(f"sparsity must be a number in [0, 1), got {sparsity!r}")
    if 0 <= sparsity < 1:
        return float(sparsity)
    if abs(sparsity) > sys.float_info.max:  # infinite, or a whole number beyond all floats
        raise InputError(f"sparsity must be in [0, 1), got {'inf' if sparsity > 0 else '-inf'}")
    hint = f"; did you mean {sparsity / 100:g}?" if 1 < sparsity < 100 else ""
    raise InputError(f"sparsity must be in [0, 1), got {sparsity:g}{hint}")


def check_whole(name: str, value: int) -> int:
    """Return `value` if it is a whole number of at least 1, else raise `InputError`.

    Example:
        >>> check_whole("rounds", 0)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: rounds must be a whole number, at least 1, got 0
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number, at least 1, got {value!r}")
    return int(value)


def check_positive(name: str, value: float) -> None:
    """See that a hyper-parameter is a finite number above 0.

    Raises:
        InputError: It is not.

    Example:
        >>> check_positive("temperature", 0)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: temperature must be a number above 0, got 0
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value < math.inf:
        raise InputError(f"{name} must be a number above 0, got {value!r}")


def check_seed(seed: int) -> int:
    """Return `seed` if it is a whole number, else raise `InputError`.

    Example:
        >>> check_seed(None)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: seed must be a whole number, got None
    """
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
        raise InputError(f"seed must be a whole number, got {seed!r}")
    return int(seed)


def check_flag(name: str, value: bool) -> bool:
    """Return `value` if it is true or false, else raise `InputError`: any other text, "no" too, would count as true.

    Example:
        >>> check_flag("effective", "no")
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: effective must be True or False, got 'no'
    """
    if value not in (True, False):
        raise InputError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_model(model: object) -> None:
    """See that what was given as a model is one; this file does without PyTorch, so it looks at what it can do.

    Raises:
        InputError: It is something else, or the class of a model.

    Example:
        >>> check_model(None)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: the model must be a torch.nn.Module, got None
    """
    if isinstance(model, type):
        raise InputError(f"the model is a class: make one of it, {model.__name__}(...)")
    if not hasattr(model, "named_parameters"):
        given = "None" if model is None else f"a {type(model).__name__}"
        raise InputError(f"the model must be a torch.nn.Module, got {given}")
