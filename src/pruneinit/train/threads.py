"""Compiled loops shared among threads, as many as PyTorch is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

_ENOUGH = 1_000_000
"""Products that are worth a thread of their own: some tenth of a millisecond."""


def shares(rows: int, products: int) -> list[int]:
    """Where each thread's share of the rows begins, and where the last one ends.

    Args:
        rows: What can be shared.
        products: Of all rows together; a few are not worth a second thread.

    Example:
        >>> shares(8, 1000)
        [0, 8]
    """
    parts = max(1, min(torch.get_num_threads(), rows, products // _ENOUGH))
    return [rows * part // parts for part in range(parts + 1)]


def each(found: Sequence[int], compute: Callable[[int, int, int], None]) -> None:
    """Compute each share, by its first row, the one behind its last, and its number, without the GIL if it can.

    Example:
        >>> each([0, 8], lambda first, last, number: print(first, last, number))
        0 8 0
    """
    if len(found) == 2:
        compute(found[0], found[1], 0)
    else:
        list(_threads(len(found) - 1).map(compute, found[:-1], found[1:], range(len(found) - 1)))


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "pruneinit")
