"""Values at unit scale; `test_initialize.py` looks at them in layers."""

import math

import pytest
import torch

from pruneinit.draw import delta_orthogonal, normal, orthogonal
from pruneinit.weights import Weight

KINDS = {
    "wide": Weight("w", (3, 8), "linear", 8),
    "tall": Weight("w", (8, 3), "linear", 3),
    "conv": Weight("w", (6, 4, 3, 3), "conv", 36),
    "groups": Weight("w", (6, 2, 3), "conv", 6, groups=3),
    "transposed": Weight("w", (4, 3, 2, 2), "conv_transpose", 2, out_dim=1, groups=2),
    "projections": Weight("a.in_proj_weight", (12, 4), "attention", 4),
}


@pytest.mark.parametrize("draw", [orthogonal, delta_orthogonal])
@pytest.mark.parametrize("kind", KINDS)
def test_total_energy_is_fixed(draw, kind):
    """Orthogonal values have no luck in their norm: entries of variance 1 / fan-in (of the centre tap alone)."""
    weight = KINDS[kind]
    values = draw(weight, torch.Generator().manual_seed(0), torch.float64)
    assert values.shape == weight.shape
    taps = math.prod(weight.shape[2:])
    fan_in = weight.fan_in
    if draw is delta_orthogonal and taps > 1:
        fan_in = (weight.shape[0] / weight.groups if weight.out_dim else weight.shape[1]) * taps
    assert values.square().sum().item() == pytest.approx(weight.numel / fan_in, rel=1e-12)


def test_normal_is_the_same_in_every_type():
    draws = [normal((50,), torch.Generator().manual_seed(3), t) for t in (torch.float32, torch.float64)]
    assert torch.equal(draws[0].double(), draws[1])
