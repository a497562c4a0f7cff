"""The connection sensitivity of weights, for the criteria that are made of it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pruneinit.criteria.gradients import slices
from pruneinit.criteria.unreached import warn_if_zero


def sensitivity_(gradients: dict[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|W · ∂L/∂W| for each weight, in the memory of the gradients. A warning says if all of it is 0.

    Args:
        gradients: For each weight its gradient, of its shape; they become the scores.
        weights: The values to multiply by; not changed.

    Returns:
        The gradients' dictionary.

    Example:
        >>> import torch
        >>> sensitivity_({"a": torch.tensor([[-3.0], [4.0]])}, {"a": torch.tensor([[1.0], [-2.0]])})
        {'a': tensor([[3.],
                [8.]])}
    """
    for name, gradient in gradients.items():
        # In the gradient's dtype, float32 at least: a product of two small bfloat16 numbers underflows.
        for score, values in slices(gradient, weights[name]):
            score.mul_(values).abs_()
    warn_if_zero(gradients)
    return gradients
