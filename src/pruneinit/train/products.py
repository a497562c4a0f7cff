"""Compiled products of sparse weights with columns of examples: the survivors of the same layer of many networks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruneinit.errors import InputError

Indices = NDArray[np.int32]

DTYPES = (torch.float32, torch.float64)
"""What there are products of."""


@functools.cache
def available() -> bool:
    """Whether numba is there, which compiles the products."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def require() -> None:
    """Refuse to go on where there is no numba.

    Raises:
        InputError: It is not installed.
    """
    if not available():
        raise InputError("products by survivors need numba, which is not installed: pip install 'pruneinit[sweep]'")


@dataclass(frozen=True)
class Pattern:
    """Where the entries of a sparse matrix are: row i has those from `ends[i]` to `ends[i + 1]`, at `columns`."""

    ends: Indices
    columns: Indices

    @staticmethod
    def of(rows: Tensor, columns: Tensor, count: int) -> Pattern:
        """The pattern of `count` rows, from each entry's row, in ascending order, and column."""
        ends = torch.zeros(count + 1, dtype=torch.int32)
        ends[1:] = torch.bincount(rows, minlength=count).cumsum(0)
        return Pattern(ends.numpy(), columns.to(torch.int32).numpy())


@dataclass(frozen=True)
class Survived:
    """The survivors of K weights as one sparse matrix, block-diagonal or, for shared images, on top of each other.

    Attributes:
        kept: Which of the weights [K, out, in] they are; their values are in this order.
        pattern: Of the matrix [K out, K in], or [K out, in] for shared images.
        turned: Of the matrix transposed.
        order: Where each of the transposed matrix's values is among the values.
    """

    kept: Tensor
    pattern: Pattern
    turned: Pattern
    order: Tensor

    @staticmethod
    def of(kept: Tensor, *, shared: bool) -> Survived:
        """From a mask [K, out, in].

        Example:
            >>> survived = Survived.of(torch.tensor([[[True, False], [True, True]]]), shared=False)
            >>> survived.pattern.ends.tolist(), survived.pattern.columns.tolist(), survived.order.tolist()
            ([0, 1, 3], [0, 0, 1], [0, 1, 2])
        """
        count, out, inner = kept.shape
        block, row, column = kept.nonzero(as_tuple=True)
        rows, columns = block * out + row, column if shared else block * inner + column
        order = torch.argsort(columns * count * out + rows)  # by columns, and within one by rows
        across = inner if shared else count * inner
        pattern, turned = Pattern.of(rows, columns, count * out), Pattern.of(columns[order], rows[order], across)
        return Survived(kept, pattern, turned, order)

    def forward(self, values: Tensor, bias: Tensor, h: Tensor, out: Tensor) -> None:
        """Write W h + bias to `out` [rows, B], from `values` [kept], `bias` [rows] and `h` [columns, B]."""
        compiled(_sums)(self.pattern.ends, self.pattern.columns, values.numpy(), bias.numpy(), h.numpy(), out.numpy())

    def gradient(self, g: Tensor, h: Tensor, out: Tensor) -> None:
        """Write the survivors of g hᵀ to `out` [kept]."""
        compiled(_dots)(self.pattern.ends, self.pattern.columns, g.numpy(), h.numpy(), out.numpy())

    def back(self, values: Tensor, g: Tensor, out: Tensor) -> None:
        """Write Wᵀ g to `out` [columns, B]."""
        turned, nothing = values[self.order], out.new_zeros(len(out))
        compiled(_sums)(self.turned.ends, self.turned.columns, turned.numpy(), nothing.numpy(), g.numpy(), out.numpy())


@functools.cache
def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """A function on arrays as machine code, which is kept on disk where there is a folder for it."""
    import numba

    # Sums may be taken in any order, several numbers at a time. What is not finite is kept: it says what diverged.
    # Division by zero is infinite, not an error, which would have to be looked for at each number.
    options: Any = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True, "error_model": "numpy"}
    try:
        done: Callable[..., None] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder to keep what was compiled in
        done = numba.njit(**options)(function)
    return done


# Four entries at a time, so that a row of `out` or `g` is read a quarter as often: it took half of the time of one at a
# time, and of MKL's products. Eight at a time gained a tenth at most.


def _sums(ends: Any, columns: Any, values: Any, bias: Any, h: Any, out: Any) -> None:
    size = out.shape[1]
    for i in range(len(out)):
        row = out[i]
        row[:] = bias[i]
        n, end = ends[i], ends[i + 1]
        while n + 4 <= end:
            v0, v1, v2, v3 = values[n], values[n + 1], values[n + 2], values[n + 3]
            x0, x1, x2, x3 = h[columns[n]], h[columns[n + 1]], h[columns[n + 2]], h[columns[n + 3]]
            for b in range(size):
                row[b] += v0 * x0[b] + v1 * x1[b] + v2 * x2[b] + v3 * x3[b]
            n += 4
        while n < end:
            v0, x0 = values[n], h[columns[n]]
            for b in range(size):
                row[b] += v0 * x0[b]
            n += 1


def _dots(ends: Any, columns: Any, g: Any, h: Any, out: Any) -> None:
    size = g.shape[1]
    for i in range(len(g)):
        row = g[i]
        n, end = ends[i], ends[i + 1]
        while n + 4 <= end:
            x0, x1, x2, x3 = h[columns[n]], h[columns[n + 1]], h[columns[n + 2]], h[columns[n + 3]]
            out[n] = 0
            s0 = s1 = s2 = s3 = out[n]  # a zero of its type
            for b in range(size):
                s0 += row[b] * x0[b]
                s1 += row[b] * x1[b]
                s2 += row[b] * x2[b]
                s3 += row[b] * x3[b]
            out[n], out[n + 1], out[n + 2], out[n + 3] = s0, s1, s2, s3
            n += 4
        while n < end:
            x0 = h[columns[n]]
            out[n] = 0
            s0 = out[n]
            for b in range(size):
                s0 += row[b] * x0[b]
            out[n] = s0
            n += 1
