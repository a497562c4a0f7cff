"""Batch normalisation of images whose batch lies innermost, compiled: channel by channel, as they fit the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pruneinit.errors import InputError
from pruneinit.train.products import compiled
from pruneinit.train.threads import each, shares


def normalise(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation by the moments of the batch itself, as in training.

    Args:
        x: [C, count], contiguous, float32 or float64 on the CPU.
        weight: [C] of the same type, or None for 1.
        bias: [C], likewise, or None for 0.
        eps: Added to the variance.

    Returns:
        The normalised [C, count]; and the mean and the (biased) variance of each channel, [C] and without gradients.

    Raises:
        InputError: Not as many weights or biases as channels.

    Example:
        >>> x = torch.tensor([[1.0, 3.0]])
        >>> found, mean, variance = normalise(x, None, torch.tensor([5.0]), 0.0)
        >>> found.tolist(), mean.tolist(), variance.tolist()
        ([[4.0, 6.0]], [2.0], [1.0])
    """
    for name, one in (("weight", weight), ("bias", bias)):
        if one is not None and tuple(one.shape) != (len(x),):  # the compiled loops would read what is not theirs
            raise InputError(f"{name} must be of shape [{len(x)}], got {list(one.shape)}")
    found: tuple[Tensor, Tensor, Tensor] = _Normalise.apply(x, weight, bias, eps)  # type: ignore[no-untyped-call]
    return found


class _Normalise(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        x = x.detach()
        found, (mean, variance) = torch.empty_like(x), x.new_empty(2, len(x))
        _by_channel(_moments, x, mean, variance)
        scale = (variance + eps).rsqrt()
        gain = scale if weight is None else scale * weight.detach()
        shift = torch.zeros_like(mean) if bias is None else bias.detach()
        _by_channel(_lines, x, mean, gain, shift, found)
        ctx.save_for_backward(x, mean, scale, gain)
        ctx.mark_non_differentiable(mean, variance)
        return found, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, gain = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)
        _by_channel(_back, x, mean, scale, gain, g.contiguous(), of_x, of_weight, of_bias)
        _, with_weight, with_bias, _ = ctx.needs_input_grad
        return of_x, of_weight if with_weight else None, of_bias if with_bias else None, None


def _by_channel(function: Callable[..., None], x: Tensor, *others: Tensor) -> None:
    """Compute what is of each channel by itself, where the first axis of all is that of the channels."""
    arrays = [one.numpy() for one in (x, *others)]
    each(shares(len(x), x.numel()), lambda first, last, _: compiled(function)(*(one[first:last] for one in arrays)))


# A run of numbers is added up in their own type, and the runs in double precision: exact enough for any count.
_RUN = 4096


def _moments(x: Any, means: Any, variances: Any) -> None:
    count = x.shape[1]
    for c in range(len(x)):
        total = 0.0
        for first in range(0, count, _RUN):
            run = x[c, first : first + _RUN]
            s = run[0] * 0  # a zero of its type
            for i in range(len(run)):
                s += run[i]
            total += s
        means[c] = total / count
        mean = means[c]
        total = 0.0
        for first in range(0, count, _RUN):
            run = x[c, first : first + _RUN]
            s = run[0] * 0
            for i in range(len(run)):
                s += (run[i] - mean) ** 2
            total += s
        variances[c] = total / count


def _lines(x: Any, means: Any, gains: Any, shifts: Any, out: Any) -> None:
    for c in range(len(x)):
        mean, gain, shift = means[c], gains[c], shifts[c]
        for i in range(x.shape[1]):
            out[c, i] = (x[c, i] - mean) * gain + shift


def _back(x: Any, means: Any, scales: Any, gains: Any, g: Any, out: Any, of_weights: Any, of_biases: Any) -> None:
    count = x.shape[1]
    for c in range(len(x)):
        mean, scale, gain = means[c], scales[c], gains[c]
        total, along = 0.0, 0.0
        for first in range(0, count, _RUN):
            run, of_run = x[c, first : first + _RUN], g[c, first : first + _RUN]
            s = t = run[0] * 0
            for i in range(len(run)):
                s += of_run[i]
                t += of_run[i] * (run[i] - mean)
            total, along = total + s, along + t
        of_biases[c], of_weights[c] = total, along * scale
        by_one, by_x = of_biases[c] / count, of_weights[c] * scale / count
        for i in range(count):
            out[c, i] = gain * (g[c, i] - by_one - (x[c, i] - mean) * by_x)
