"""Models that are code and not only layers: choices, conditions, weights used in other ways, foreign machinery."""

import pytest
import torch
from torch import nn

from networks import live


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_branches_are_taken_as_the_example_takes_them():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.up(x) if x.sum() > 0 else self.down(x)

    assert live(Branching(), torch.ones(1, 2)).counts == {"up.weight": (4, 4), "down.weight": (0, 4)}
    assert live(Branching(), -torch.ones(1, 2)).counts == {"up.weight": (0, 4), "down.weight": (4, 4)}
    # Only the first example counts.
    assert live(Branching(), torch.tensor([[1.0, 1.0], [-9.0, -9.0]])).counts["up.weight"] == (4, 4)


def test_a_choice_is_a_path_for_what_it_is_made_of():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.value = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return torch.where(self.gate(x) > 0, self.value(x), 0.0)

    assert live(Gated(), torch.randn(1, 2)).sparsity == 0
    assert live(Gated(), torch.randn(1, 2), {"value.weight": torch.zeros(2, 2)}).counts["gate.weight"] == (4, 4)

    class Overwritten(Gated):
        def forward(self, x):
            value = self.value(x)
            value[self.gate(x) < 100] = 0  # all, for this example
            return value

    assert live(Overwritten(), torch.randn(1, 2)).sparsity == 0

    class Chosen(Gated):
        def forward(self, x):
            return nn.functional.one_hot(self.gate(x).argmax(1), 2)

    assert live(Chosen(), torch.randn(1, 2)).counts == {"gate.weight": (4, 4), "value.weight": (0, 4)}


def rectified_by_where(x):
    return torch.where(x > 0, x, 0.0)


def rectified_by_mask(x):
    return x.masked_fill(x < 0, 0.0)


def rectified_in_place(x):
    x[x < 0] = 0
    return x


def leaking_in_place(x):
    x[x < 0] *= 0.1
    return x


@pytest.mark.parametrize("rectify", [rectified_by_where, rectified_by_mask, rectified_in_place, leaking_in_place])
def test_an_activation_lets_pass_what_it_stops_for_the_example(rectify):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(rectify(self.first(x)))

    mask = torch.ones(8, 2)
    mask[3] = 0
    found = live(Net(), torch.ones(1, 2), {"first.weight": mask})
    assert found.counts["first.weight"] == (14, 16)
    # What was packed together by a mask depends on all of it.
    assert found.counts["last.weight"] == ((16, 16) if rectify is leaking_in_place else (14, 16))


def test_parameters_that_are_zero_now_let_a_signal_through_and_zero_constants_do_not():
    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.layer, self.scale = nn.Linear(2, 2), scale

        def forward(self, x):
            return self.scale.reshape(1, -1) * self.layer(x)

    assert live(Scaled(nn.Parameter(torch.zeros(2))), torch.randn(1, 2)).kept == 4
    assert live(Scaled(torch.tensor([0.0, 2.0])), torch.randn(1, 2))["layer.weight"].tolist() == [[0, 0], [1, 1]]


def test_a_pruned_weight_that_has_something_added_to_it_still_passes_a_signal():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return nn.functional.linear(self.first(x), self.second.weight + torch.eye(2))

    found = live(Shifted(), torch.randn(1, 2), {"second.weight": [[0, 0], [0, 1]]})
    assert found.counts == {"first.weight": (4, 4), "second.weight": (1, 4)}


def test_weights_that_are_used_in_other_ways_than_by_their_layer():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(3, 2)

        def forward(self, x):
            low_rank = self.b.weight @ self.a.weight
            norm = self.c.weight / self.c.weight.norm(dim=1, keepdim=True)
            return nn.functional.linear(x, low_rank) @ norm[:, :2]

    found = live(Odd(), torch.randn(1, 2), {"a.weight": [[1, 0], [0, 0]], "c.weight": [[1, 0, 1], [1, 0, 0]]})
    assert found["a.weight"].tolist() == [[True, False], [False, False]]
    assert found["b.weight"].tolist() == [[True, False], [True, False]]
    assert found["c.weight"].tolist() == [[True, False, True], [True, False, False]]  # the third by the norm


@pytest.mark.parametrize("function", [torch.maximum, torch.cosine_similarity, torch.cdist])
def test_weights_in_operations_that_are_no_product_are_alive(function):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 4)

        def forward(self, x):
            return function(self.first(x), self.second.weight)

    found = live(Odd(), torch.randn(1, 2))
    assert found.sparsity == 0
    assert live(Odd(), torch.randn(1, 2), {"first.weight": torch.zeros(3, 2)}).kept == 0


def test_layers_that_normalise_by_the_batch_can_be_followed_with_one_example():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))
    assert live(model, torch.randn(2, 3)).sparsity == 0
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 1))
    assert live(model, torch.randn(1, 3, 1, 1)).sparsity == 0


def test_checkpointing_compilation_autocast_and_custom_functions():
    from torch.utils.checkpoint import checkpoint

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.enable_grad():
                x = checkpoint(lambda t: torch.relu(self.a(t)), x, use_reentrant=False)
            with torch.autocast("cpu", torch.bfloat16):
                x = Twice.apply(self.b(x))
            return self.c(x.float())

    mask = {"a.weight": [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], "b.weight": torch.eye(4)}
    found = live(Net(), torch.randn(1, 3), mask)
    assert {name: kept for name, (kept, _) in found.counts.items()} == {"a.weight": 2, "b.weight": 1, "c.weight": 2}
    compiled = Net()
    compiled.compile()
    assert live(compiled, torch.randn(1, 3), mask) == found
