"""A sparsified recurrent layer is its dense twin under masks, and can be copied, moved, saved and made dense again."""

import copy
import pickle

import pytest
import torch
from torch import nn

import pruneinit as pi

KINDS = [(nn.LSTM, {}), (nn.GRU, {"num_layers": 2, "bidirectional": True}), (nn.RNN, {})]


class Reader(nn.Module):
    def __init__(self, kind, more) -> None:
        super().__init__()
        self.recurrent = kind(3, 4, batch_first=True, **more)
        self.head = nn.Linear(4 * (1 + self.recurrent.bidirectional), 5)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


@pytest.fixture(params=KINDS, ids=["LSTM", "GRU", "RNN"])
def build(request):
    def make():
        torch.manual_seed(0)
        return Reader(*request.param)

    return make


BATCH = torch.randn(4, 6, 3), torch.randint(5, (4,))


def test_scoring_leaves_nothing_behind(build):
    model = build()
    pi.prune(model, pi.Snip(), [BATCH], sparsity=0.6, allow_empty=True)
    assert all(
        held is own for held, own in zip(model.recurrent._flat_weights, model.recurrent.parameters(), strict=True)
    )


def test_it_computes_and_trains_as_its_twin_under_masks(build):
    model, twin = build(), build()
    masks = pi.prune(model, pi.Snip(), [BATCH], sparsity=0.6, allow_empty=True)
    with torch.no_grad():
        for name, mask in masks.items():
            twin.get_parameter(name).mul_(mask)
    pi.sparsify_(model, masks)
    for _ in range(2):
        assert torch.equal(model(BATCH[0]), twin(BATCH[0]))
        for net in (model, twin):
            net.zero_grad()
            nn.functional.cross_entropy(net(BATCH[0]), BATCH[1]).backward()
            torch.optim.SGD(net.parameters(), lr=0.1).step()
        with torch.no_grad():
            for name, mask in masks.items():
                twin.get_parameter(name).mul_(mask)


def test_it_can_be_copied_and_moved_after_it_ran(build):
    model = build()
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))
    expected = model(BATCH[0])
    twin = copy.deepcopy(model)
    assert torch.equal(twin(BATCH[0]), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(model(BATCH[0]), expected)
    assert not torch.equal(twin(BATCH[0]), expected)
    assert copy.deepcopy(twin.double())(BATCH[0].double()).dtype == torch.float64


def test_it_is_a_plain_layer_again_when_made_dense(build):
    model = build()
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))
    expected = model(BATCH[0])
    pi.densify_(model)
    assert torch.equal(pickle.loads(pickle.dumps(model.recurrent))(BATCH[0])[0], model.recurrent(BATCH[0])[0])
    assert torch.equal(model(BATCH[0]), expected)


def test_it_is_saved_and_loaded(build, tmp_path):
    model = build()
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))
    expected = model(BATCH[0])
    pi.save(model, tmp_path / "model.safetensors")
    assert torch.equal(pi.load(tmp_path / "model.safetensors", into=build())(BATCH[0]), expected)


def test_its_gates_are_no_residual_branches(build):
    assert len(pi.find_residuals(build(), BATCH[0])) == 0
