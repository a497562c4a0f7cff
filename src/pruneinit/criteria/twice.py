"""Convolutions and batch normalisation whose second derivative costs little more than what it is made of.

PyTorch's own second derivatives of the two are right but slow on CPUs: that of a convolution runs another one whose
kernel is as large as the image, that of batch normalisation makes dozens of passes over its input. For a ResNet they
make a third of the cost of the product of the Hessian with a vector. The numbers are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Gradients = tuple[Tensor | None, ...]

_DIMENSIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class Twice(TorchFunctionMode):
    """While active, `torch.conv1d` to `conv3d` and batch normalisation are the functions of this file.

    Running statistics are not updated. What is out of the ordinary (autocast, mixed types, padding by name, images
    without a batch) is left to PyTorch.

    Example:
        >>> x, w = torch.ones(1, 1, 3), torch.ones(1, 1, 2, requires_grad=True)
        >>> with Twice():
        ...     torch.conv1d(x, w).grad_fn.name()
        '_ConvolutionBackward'
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DIMENSIONS:
            return _convolution(_DIMENSIONS[func], func, *args, **kwargs)
        if func is functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _convolution(
    dimensions: int,
    native: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    ordinary = _alike(input, weight, bias) and input.dim() == weight.dim() and not isinstance(padding, str)
    if not ordinary:
        return native(input, weight, bias, stride, padding, dilation, groups)
    numbers = [[n] * dimensions if isinstance(n, int) else list(n) for n in (stride, padding, dilation)]
    numbers = [n * dimensions if len(n) == 1 else n for n in numbers]
    output: Tensor = _apply(_Convolution, input, weight, bias, (*numbers, False, [0] * dimensions, groups))
    return output


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if weight is None or bias is None or not _alike(input, weight, bias):
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    if not training and running_mean is not None and running_var is not None:
        scale = weight * (running_var + eps).rsqrt()
        return torch.addcmul(_channels(bias - running_mean * scale, input), input, _channels(scale, input))
    output: Tensor = _apply(_BatchNorm, input, weight, bias, eps)
    return output


def _alike(input: Tensor, *others: Tensor | None) -> bool:
    """Whether all are real tensors of one type, and autocast will not change that."""
    alike = all(other is None or other.dtype == input.dtype for other in others)
    return alike and input.is_floating_point() and not torch.is_autocast_enabled(input.device.type)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    return function.apply(*arguments)  # type: ignore[no-untyped-call]  # PyTorch gives it no types


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, numbers: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.numbers = numbers
        return torch.convolution(x, w, bias, *numbers)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Gradients:
        needed = list(ctx.needs_input_grad[:3])
        return *_apply(_ConvolutionSlopes, slope, *ctx.saved_tensors, needed, ctx.numbers), None


class _ConvolutionSlopes(torch.autograd.Function):
    """The gradients of a convolution y = x * w + b by x, w and b, each linear in the gradient by y."""

    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, x: Tensor, w: Tensor, needed: list[bool], numbers: tuple[Any, ...]
    ) -> Gradients:
        ctx.save_for_backward(slope, x, w)
        ctx.numbers = numbers
        ctx.set_materialize_grads(False)
        return _convolution_backward(slope, x, w, numbers, needed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_x: Tensor | None, by_w: Tensor | None, by_b: Tensor | None) -> Gradients:
        slope, x, w = ctx.saved_tensors
        for_slope = None
        for a, b in ((by_x, w), (x, by_w)):
            if a is not None and b is not None:
                part = torch.convolution(a, b, None, *ctx.numbers)
                for_slope = part if for_slope is None else for_slope.add_(part)
        # Each of the two needs one of by_x and by_w alone, and both together cost less than one after the other.
        needed = [by_w is not None and ctx.needs_input_grad[1], by_x is not None, False]
        a, b = (x if by_x is None else by_x), (w if by_w is None else by_w)
        for_x, for_w, _ = _convolution_backward(slope, a, b, ctx.numbers, needed)
        if by_b is not None:
            part = _channels(by_b, slope)
            for_slope = part.expand_as(slope) if for_slope is None else for_slope.add_(part)
        return for_slope, for_x, for_w, None, None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, mean, inverse = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Gradients:
        return *_apply(_BatchNormSlopes, slope, *ctx.saved_tensors, ctx.eps), None


class _BatchNormSlopes(torch.autograd.Function):
    """The gradients of batch normalisation by its input, weight and bias, each linear in the gradient by the output."""

    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float
    ) -> Gradients:
        for_x, for_weight, for_bias = _batch_norm_backward(slope, x, weight, mean, inverse, eps)
        ctx.save_for_backward(slope, x, weight, mean, inverse, for_weight, for_bias)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return for_x, for_weight, for_bias

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_x: Tensor | None, by_weight: Tensor | None, by_bias: Tensor | None) -> Gradients:
        """The gradients of <by_x, dx> + <by_weight, dweight> + <by_bias, dbias> by the slope, the input and the weight.

        Here dx = weight/σ (s - mean(s) - z mean(s z)), dweight = sum(s z) and dbias = sum(s) for a slope s, where z is
        the normalised input, (x - mean(x))/σ. The first is symmetric in s, so its gradient by s is itself at by_x.
        """
        slope, x, weight, mean, inverse, slope_z, slope_1 = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        s, s_z = slope_1 / n, slope_z / n
        for_slope = for_weight = None
        # The gradient by the input is a sum of by_x, slope, z and 1, with these factors for each channel.
        of_by_x = of_slope = of_z = rest = torch.zeros_like(weight)
        if by_x is not None:
            for_slope, u_z, u = _batch_norm_backward(by_x, x, weight, mean, inverse, ctx.eps)
            u, u_z, u_s = u / n, u_z / n, (by_x * slope).mean([0, *range(2, x.dim())])
            bend = weight * inverse.square()
            of_by_x, of_slope = -bend * s_z, -bend * u_z
            of_z = -bend * (u_s - u * s - 3 * u_z * s_z)
            rest = bend * (s_z * u + u_z * s)
            for_weight = n * inverse * (u_s - u * s - u_z * s_z)
        if by_weight is not None:
            turn = inverse * by_weight
            of_slope, of_z, rest = of_slope + turn, of_z - turn * s_z, rest - turn * s
            part = torch.addcmul(_channels(-turn * mean, x), x, _channels(turn, x))
            for_slope = part if for_slope is None else for_slope.add_(part)
        if by_bias is not None:
            part = _channels(by_bias, x)
            for_slope = part.expand_as(x) if for_slope is None else for_slope.add_(part)
        of_x = of_z * inverse
        for_x = torch.addcmul(_channels(rest - of_x * mean, x), slope, _channels(of_slope, x))
        for_x.addcmul_(x, _channels(of_x, x))
        if by_x is not None:
            for_x.addcmul_(by_x, _channels(of_by_x, x))
        return for_slope, for_x, for_weight, None, None, None


def _batch_norm_backward(
    slope: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        slope, x, weight, None, None, mean, inverse, True, eps, [True, True, True]
    )
    return found


def _convolution_backward(
    slope: Tensor, x: Tensor, w: Tensor, numbers: tuple[Any, ...], needed: list[bool]
) -> Gradients:
    found: Gradients = torch.ops.aten.convolution_backward(slope, x, w, [w.shape[0]], *numbers, needed)
    return found


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """One value a channel, in a shape that broadcasts against [examples, channels, ...]."""
    return values.view(1, -1, *[1] * (like.dim() - 2))
