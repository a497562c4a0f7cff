"""The connection sensitivity of weights, for the criteria that are made of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import Tensor


def sensitivity(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|W · ∂L/∂W| for each weight. A warning says if all of it is 0.

    Args:
        weights: The values to multiply by; not changed.
        gradients: For each weight its gradient, of its shape.

    Returns:
        For each gradient a tensor of its shape and dtype.

    Example:
        >>> import torch
        >>> sensitivity({"a": torch.tensor([1.0, -2.0])}, {"a": torch.tensor([-3.0, 4.0])})
        {'a': tensor([3., 8.])}
    """
    scores = {}
    for name, gradient in gradients.items():
        # In the gradient's dtype, float32 at least: a product of two small bfloat16 numbers underflows.
        scores[name] = (weights[name].to(gradient.dtype) * gradient).abs()
    if not any(bool(score.any()) for score in scores.values()):
        warnings.warn(
            "every score is 0, so that masks would go by position alone: no gradient reaches a weight; check that "
            "the inputs are not all zero, and what signal passes (diagnose)",
            stacklevel=3,
        )
    return scores
