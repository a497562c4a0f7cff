"""Random values for one weight, at unit scale: Gaussian, orthogonal, delta-orthogonal."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from pruneinit.weights import Weight


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
    parts = 3 if weight.name.endswith("in_proj_weight") else weight.groups
    if weight.out_dim == 1:
        inputs, outputs, *taps = weight.shape
        inputs //= parts
    else:
        outputs, inputs, *taps = weight.shape
        outputs //= parts
    columns = inputs * math.prod(taps)
    scale = math.sqrt(max(outputs, columns) / weight.fan_in)
    blocks = [
        _haar(outputs, columns, generator, dtype).reshape(outputs, inputs, *taps).transpose(0, weight.out_dim)
        for _ in range(parts)
    ]
    return scale * torch.cat(blocks)


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


def _haar(rows: int, columns: int, generator: Generator, dtype: torch.dtype) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer."""
    tall = normal((max(rows, columns), min(rows, columns)), generator, dtype)
    q, r = torch.linalg.qr(tall)
    # QR is unique up to signs: with a positive diagonal of r, q is uniform over the orthogonal matrices.
    uniform: Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(dtype)
    return uniform if rows >= columns else uniform.T
