"""The gradient at the output of a network that knows nothing yet: softmax minus label, drawn.

It is the only expectation of the theory without a quadrature: few classes share one draw of logits.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from pruneinit.errors import InputError
from pruneinit.meanfield.quadrature import Array

_MOST = 1 << 26  # Examples times classes: more do not fit into memory.
_DRAWS, _KEPT = 1 << 19, 512


class OutputGradient(NamedTuple):
    """∂L/∂y^L, the softmax minus the label, over a batch of B examples.

    Attributes:
        same: E[δ^2], for a class.
        agreed: |Σ_b δ_b|^2 / (B C), drawn: shape (networks,), ascending. What the examples agree on differs widely
            between networks, since few classes share one draw of logits.
        sums: Σ_b δ_b of a class: shape (K,), equally likely values that stand for all classes and networks.
        squares: Σ_b δ_b^2 that goes with each.
    """

    same: float
    agreed: Array
    sums: Array
    squares: Array

    def cross(self, examples: int, agreement: float) -> float:
        """E[δ_a δ_b] of two examples, in a network that agrees more than a share `agreement` of all networks."""
        if examples == 1:
            return 0.0
        return (float(np.quantile(self.agreed, agreement)) - self.same) / (examples - 1)


@functools.lru_cache(maxsize=256)
def output_gradient(classes: int, q: float, c: float, examples: int) -> OutputGradient:
    """The gradient of the cross entropy with labels that know nothing of the outputs; for one class, random signs."""
    generator = np.random.default_rng(0)
    if classes * examples > _MOST:
        raise InputError(
            f"examples times classes must be at most {_MOST:,}, got {examples:,} times {classes:,}: take fewer examples"
        )
    networks = max(4, _DRAWS // (classes * examples))
    at_once = max(1, _DRAWS // (classes * examples))  # A few large batches are drawn one by one.
    parts = []
    for _ in range(networks // at_once):
        if classes == 1:
            delta = generator.choice([-1.0, 1.0], (at_once, examples, 1))
        else:
            shared = generator.standard_normal((at_once, 1, classes))
            own = generator.standard_normal((at_once, examples, classes))
            labels = generator.integers(classes, size=(at_once, examples, 1))
            delta = _softmax(math.sqrt(q) * (math.sqrt(c) * shared + math.sqrt(1 - c) * own))
            np.put_along_axis(delta, labels, np.take_along_axis(delta, labels, 2) - 1, 2)
        parts.append((delta.sum(1), (delta**2).sum(1)))
    sums, squares = (np.concatenate(drawn) for drawn in zip(*parts, strict=True))
    agreed = np.sort((sums**2).sum(1)) / (classes * examples)
    # Groups of like sums stand for all, so that the one class in C that is the label is among them as often as it is.
    order = np.argsort(sums, axis=None)
    groups = [np.array_split(drawn.reshape(-1)[order], _KEPT) for drawn in (sums, squares)]
    means = [np.array([group.mean() for group in part if group.size]) for part in groups]
    return OutputGradient(float(squares.mean() / examples), agreed, means[0], means[1])


def _softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
