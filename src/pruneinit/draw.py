"""Random values for one weight, at unit scale: Gaussian, orthogonal, delta-orthogonal, sparse orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from pruneinit.weights import Weight

Mirrored = tuple[bool, bool]
"""Whether the second half of the outputs is the first half negated, and the same of the inputs."""

_FRUITLESS = 8  # rounds in a row that found no pair of rows with room for its turn


def normal(shape: tuple[int, ...], generator: Generator, dtype: torch.dtype) -> Tensor:
    """Standard normal values on the generator's device, drawn as float32 so that every type gets the same, rounded.

    Example:
        >>> normal((2, 3), torch.Generator().manual_seed(0), torch.float64).shape
        torch.Size([2, 3])
    """
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32).to(dtype)


def orthogonal(weight: Weight, generator: Generator, dtype: torch.dtype) -> Tensor:
    """Values of `weight` of variance 1 / fan-in whose matrices have orthogonal rows or columns, whichever are fewer.

    The matrices are outputs x fan-in (taps included), one for each group or attention projection.

    Example:
        >>> values = orthogonal(Weight("w", (2, 6), "linear", 6), torch.Generator().manual_seed(0), torch.float64)
        >>> (values @ values.T).round(decimals=6)
        tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    return _of_matrices(weight, lambda rows, columns: _haar(rows, columns, generator, dtype))


def sparse_orthogonal(
    weight: Weight,
    kept: int,
    generator: Generator,
    dtype: torch.dtype,
    mirrored: Mirrored = (False, False),
    start: Tensor | None = None,
    *,
    unshifted: float = 0.0,
) -> Tensor:
    """As `orthogonal`, with at most `kept` values that are not 0, spread evenly; where too few, some rows are empty.

    A matrix of which all are kept is Haar-random. Convolutions shift each channel by one tap of its own and turn
    channels into each other, so that with periodic borders and stride 1 they keep the norm of images too. With
    `unshifted` that share of the channels stays where it is, for borders at which a shift loses something.

    Where outputs are mirrored, the second half of them are the first half's negatives, and where inputs are, so are
    the columns of the second half; the matrix of one half is then the orthogonal one.

    A `start` that `disjoint` has made, of the numbers of the narrower and the wider side, fixes the directions of the
    wider side that the matrix leads to or from: two layers with one start, into it and out of it, are an isometry.

    Example:
        >>> weight = Weight("w", (4, 4), "linear", 4)
        >>> values = sparse_orthogonal(weight, 8, torch.Generator().manual_seed(0), torch.float64)
        >>> (values @ values.T).round(decimals=6).abs(), int(values.count_nonzero())
        (tensor([[1., 0., 0., 0.],
                [0., 1., 0., 0.],
                [0., 0., 1., 0.],
                [0., 0., 0., 1.]], dtype=torch.float64), 8)
    """
    parts, halves, taps = _parts(weight), (1 + mirrored[0], 1 + mirrored[1]), math.prod(weight.shape[2:])
    room = kept // math.prod(halves)
    shares = iter([(room + part) // parts for part in range(parts)])  # all of it, as evenly as can be

    def make(rows: int, columns: int) -> Tensor:
        own = next(shares)
        outputs, inputs = rows // halves[0], columns // taps // halves[1]
        if own >= outputs * inputs * taps and taps == 1 and start is None:  # nothing is to be 0
            matrix = _haar(outputs, inputs, generator, dtype)
        else:
            matrix = _sparse(outputs, inputs, taps, own, generator, start, unshifted).to(dtype)
        if mirrored[1]:
            matrix = torch.cat([matrix, -matrix], 1) / math.sqrt(2)
        return torch.cat([matrix, -matrix]) if mirrored[0] else matrix

    return _of_matrices(weight, make)


def delta_orthogonal(weight: Weight, generator: Generator, dtype: torch.dtype) -> Tensor:
    """Values of a convolution that is an orthogonal matrix on its centre tap and 0 elsewhere.

    Example:
        >>> conv = Weight("w", (2, 2, 3), "conv", 6)
        >>> delta_orthogonal(conv, torch.Generator().manual_seed(0), torch.float32)[:, :, [0, 2]].count_nonzero().item()
        0
    """
    values = torch.zeros(weight.shape, dtype=dtype, device=generator.device)
    channels = weight.shape[:2]
    fan_in = channels[0] / weight.groups if weight.out_dim == 1 else channels[1]
    matrix = Weight(weight.name, channels, weight.kind, fan_in, weight.out_dim, weight.groups)
    centre = values
    for taps in weight.shape[2:]:
        centre = centre.select(2, taps // 2)
    centre.copy_(orthogonal(matrix, generator, dtype))
    return values


def _parts(weight: Weight) -> int:
    """How many matrices it has: one for each group or attention projection."""
    return 3 if weight.name.endswith("in_proj_weight") else weight.groups


def _of_matrices(weight: Weight, make: Callable[[int, int], Tensor]) -> Tensor:
    """Values of variance 1 / fan-in from what makes matrices, outputs x inputs, of variance 1 / inputs."""
    parts = _parts(weight)
    if weight.out_dim == 1:
        inputs, outputs, *taps = weight.shape
        inputs //= parts
    else:
        outputs, inputs, *taps = weight.shape
        outputs //= parts
    columns = inputs * math.prod(taps)
    blocks = [make(outputs, columns).reshape(outputs, inputs, *taps).transpose(0, weight.out_dim) for _ in range(parts)]
    return math.sqrt(columns / weight.fan_in) * torch.cat(blocks)


def _haar(rows: int, columns: int, generator: Generator, dtype: torch.dtype) -> Tensor:
    """A random matrix with orthogonal rows or columns, whichever are fewer; its rows have the mean square length 1."""
    tall = normal((max(rows, columns), min(rows, columns)), generator, dtype)
    q, r = torch.linalg.qr(tall)
    # QR is unique up to signs: with a positive diagonal of r, q is uniform over the orthogonal matrices.
    uniform: Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(dtype)
    return math.sqrt(max(rows, columns) / columns) * (uniform if rows >= columns else uniform.T)


def disjoint(rows: int, columns: int, taps: int, kept: int, generator: Generator, unshifted: float = 0.0) -> Tensor:
    """Orthonormal rows that share no column, with one tap a column and at most `kept` entries: [rows, columns, taps].

    Example:
        >>> matrix = disjoint(2, 6, 1, 6, torch.Generator().manual_seed(0))
        >>> (matrix[..., 0] != 0).sum(1).tolist(), (matrix[..., 0] != 0).sum(0).tolist()
        ([3, 3], [1, 1, 1, 1, 1, 1])
    """
    device = generator.device
    matrix = torch.zeros(rows, columns, taps, dtype=torch.float64, device=device)
    own = torch.randperm(columns, generator=generator, device=device)[:kept]
    tap: Tensor | int = 0
    if taps > 1:  # all alike
        places = torch.arange(len(own), device=device) % taps
        tap = torch.randperm(taps, generator=generator, device=device)[places]
        if unshifted:
            number = _whole(unshifted * len(own), generator)
            tap[torch.randperm(len(own), generator=generator, device=device)[:number]] = taps // 2
    matrix[torch.arange(len(own), device=device) % rows, own, tap] = normal((len(own),), generator, torch.float64)
    matrix /= matrix.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]
    return matrix


def _whole(number: float, generator: Generator) -> int:
    """A fraction goes up as often as it is large, since a channel of its own group is half a channel too."""
    whole = math.floor(number)
    part = number - whole
    return whole + int(part > 0 and float(torch.rand((), generator=generator, device=generator.device)) < part)


def _sparse(
    rows: int,
    columns: int,
    taps: int,
    kept: int,
    generator: Generator,
    start: Tensor | None,
    unshifted: float,
) -> Tensor:
    """As `_haar` with at most `kept` entries that are not 0, [rows, columns, taps] (float64).

    It begins with rows that share no column, and one tap a column: a shift of each input channel, and an orthogonal
    matrix. Then rows are turned in pairs, and columns too where there are taps, which keeps it a convolution that
    changes no norm.
    """
    if rows > columns:
        tall = _sparse(columns, rows, taps, kept, generator, start, unshifted).transpose(0, 1)
        return tall * math.sqrt(rows / columns)
    if start is None:
        start = disjoint(rows, columns, taps, kept, generator, unshifted)
    return turned(start, kept, generator)


def turned(matrix: Tensor, kept: int, generator: Generator) -> Tensor:
    """Orthonormal rows [rows, columns, taps] turned into each other as long as no more than `kept` entries are not 0.

    Example:
        >>> rows = turned(torch.eye(4)[..., None].double(), 8, torch.Generator().manual_seed(0))[..., 0]
        >>> int(rows.count_nonzero()), torch.allclose(rows @ rows.T, torch.eye(4).double())
        (8, True)
    """
    matrix = matrix.clone()
    free, fruitless = kept - int(matrix.count_nonzero()), 0
    while free > 0 and fruitless < _FRUITLESS:
        used = free
        for side in range(2 if matrix.shape[2] > 1 else 1):
            free -= _turn_pairs_(matrix.transpose(0, side), free, generator)
        fruitless = 0 if free < used else fruitless + 1
    return matrix


def _turn_pairs_(matrix: Tensor, free: int, generator: Generator) -> int:
    """Turn disjoint pairs of rows by random angles, as many as there is room for; how many entries that took.

    Two orthonormal rows stay so, and both have the entries of either. As each row is in one pair, all fill up alike.
    """
    device = generator.device
    order = torch.randperm(len(matrix), generator=generator, device=device)
    pairs = order[: len(matrix) // 2 * 2].view(-1, 2)
    used = matrix[pairs].flatten(2) != 0
    more = 2 * used.any(1).sum(1) - used.sum((1, 2))
    pairs, more = pairs[more.cumsum(0) <= free], more[more.cumsum(0) <= free]
    angles = torch.rand(len(pairs), generator=generator, device=device, dtype=torch.float64) * math.tau
    turns = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], 1).view(-1, 2, 2)
    matrix[pairs] = torch.einsum("pab,pb...->pa...", turns, matrix[pairs])
    return int(more.sum())
