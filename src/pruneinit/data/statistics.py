"""The mean and standard deviation of pixels, per channel, exact."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_and_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of `uint8` images, scaled to [0, 1].

    Counting how often each of the 256 values occurs loses nothing and needs no copy of the images in floats.

    Args:
        images: `uint8` `[N, C, H, W]`.

    Returns:
        Two tuples of C numbers; the standard deviation is that of the pixels themselves (divided by their number).

    Example:
        >>> mean_and_std(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2))
        ((0.5,), (0.5,))
    """
    return moments_of(histograms(images))


def histograms(images: Tensor) -> Tensor:
    """How often each value occurs in each channel: `int64` `[C, 256]`."""
    return torch.stack([torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])])


def moments_of(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, on the scale [0, 1], of the values counted by `histograms`."""
    share = counts.cpu().double() / counts.sum(dim=1, keepdim=True).cpu()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(dim=1)
    return tuple(mean.tolist()), tuple(variance.sqrt().tolist())
