"""Dead and live weights of layers and connections, by hand."""

import torch
from torch import nn

from networks import live
from problems import Residual, SharedLayer, TiedWeights


def test_taps_that_only_see_padding_are_dead():
    found = live(nn.Conv2d(1, 1, 3, padding=1), torch.randn(1, 1, 1, 1))
    assert found["weight"].nonzero().tolist() == [[0, 0, 1, 1]]
    found = live(nn.Conv2d(1, 1, 3, padding=1), torch.randn(1, 1, 1, 2))
    assert found["weight"].nonzero().tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 2]]
    found = live(nn.Conv2d(1, 1, 3, padding=2, dilation=2), torch.randn(1, 1, 2, 2))
    assert found["weight"].nonzero().tolist() == [[0, 0, 1, 1]]


def test_a_skip_connection_goes_around_an_empty_layer():
    model = nn.Sequential(nn.Linear(6, 6), Residual(), nn.Linear(6, 3))
    found = live(model, torch.randn(1, 6), {"1.inner.0.weight": torch.zeros(6, 6)})
    assert found.counts == {
        "0.weight": (36, 36), "1.inner.0.weight": (0, 36), "1.inner.2.weight": (0, 36), "2.weight": (18, 18)
    }  # fmt: skip


def test_concatenation_and_groups():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(2, 2, 1)
            self.b = nn.Conv2d(4, 4, 1, groups=2)  # the first group sees x, the second a(x)

        def forward(self, x):
            return self.b(torch.cat([x, torch.relu(self.a(x))], 1)).mean((2, 3))

    mask = torch.ones(4, 2, 1, 1)
    mask[2:, 0] = 0  # nobody listens to the first channel of a
    found = live(Dense(), torch.randn(1, 2, 3, 3), {"b.weight": mask})
    assert found["a.weight"].flatten(1).tolist() == [[False, False], [True, True]]
    mask = torch.ones(2, 2, 1, 1)
    mask[1] = 0  # nobody speaks on the second
    found = live(Dense(), torch.randn(1, 2, 3, 3), {"a.weight": mask})
    assert found["b.weight"].flatten(1).tolist() == [[True, True], [True, True], [True, False], [True, False]]


def test_a_layer_that_runs_twice_lives_by_either_use():
    # 0 -> 1 -> 2 is a path of the two runs; 3 is read by nobody, and 4 leads to 3.
    mask = torch.zeros(6, 6)
    mask[1, 0] = mask[2, 1] = mask[3, 4] = 1
    head = torch.zeros(3, 6)
    head[0, 2] = 1
    found = live(SharedLayer(), torch.randn(1, 6), {"layer.weight": mask, "head.weight": head})
    assert found["layer.weight"].nonzero().tolist() == [[1, 0], [2, 1]]
    found = live(TiedWeights(), torch.randn(1, 6), {"first.weight": mask, "head.weight": head})
    assert found["first.weight"].nonzero().tolist() == [[1, 0], [2, 1]]


def test_before_and_after_a_recurrent_layer():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.lstm = nn.LSTM(4, 5, batch_first=True)
            self.last = nn.Linear(5, 2)

        def forward(self, x):
            return self.last(self.lstm(self.first(x))[0][:, -1])

    model, x = Recurrent(), torch.randn(1, 6, 3)
    assert live(model, x).sparsity == 0
    found = live(model, x, {"first.weight": torch.zeros(4, 3)})
    assert found.kept == 0  # what the biases say is no path


def test_paths_are_found_in_very_deep_networks_where_their_number_overflows():
    model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(300)])
    masks = {"0.weight": torch.eye(16), "150.weight": torch.cat([torch.ones(8, 16), torch.zeros(8, 16)])}
    found = live(model, torch.randn(1, 16), masks)
    assert found.counts["299.weight"] == (256, 256)
    assert found.counts["151.weight"] == (128, 256)
    assert found["0.weight"].equal(torch.eye(16).bool())
