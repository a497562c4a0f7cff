import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit.layouts import leaves, register_linear


class Times(nn.Module):
    """A linear layer that keeps its matrix transposed, as GPT-2's do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x):
        return x @ self.weight


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("more", [{}, {"num_layers": 2, "bidirectional": True}], ids=["plain", "two-layers-two-ways"])
def test_all_matrices_of_a_recurrent_layer_can_be_pruned(kind, more):
    layer = kind(3, 4, **more)
    matrices = {name: p for name, p in layer.named_parameters() if p.dim() == 2}
    found = pi.prunable(layer)
    assert found.keys() == matrices.keys()
    assert all(w.kind == "recurrent" and w.fan_in == matrices[n].shape[1] for n, w in found.items())


def test_the_projection_of_an_lstm_and_the_matrices_of_a_cell_can_be_pruned():
    assert leaves(nn.LSTM(3, 4, proj_size=2)) == ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0")
    assert list(pi.prunable(nn.LSTMCell(3, 4))) == ["weight_ih", "weight_hh"]


def test_a_class_of_ones_own_is_pruned_once_it_is_known():
    class Mine(Times):
        pass

    model = nn.Sequential(Mine(3, 5), nn.Tanh(), nn.Linear(5, 2))
    assert list(pi.prunable(model)) == ["2.weight"]
    register_linear(Mine, transposed=True)
    found = pi.prunable(model)["0.weight"]
    assert (found.kind, found.fan_in, found.out_dim) == ("linear", 3, 1)
    batch = torch.randn(4, 3), torch.randint(2, (4,))
    masks = pi.prune(model, pi.Snip(), [batch], sparsity=0.5)
    dense = pi.second_moments(model, [batch])
    pi.rescale_(model, [batch], masks=masks)
    after = pi.second_moments(model, [batch], masks=masks)
    assert after["0.weight"] == pytest.approx(dense["0.weight"], rel=1e-5)
    assert pi.sparsify_(model, masks)(batch[0]).isfinite().all()


def test_a_transposed_matrix_is_drawn_for_its_inputs():
    class Mine(Times):
        pass

    register_linear(Mine, transposed=True)
    model = pi.edge_of_chaos_(Mine(1000, 10), "relu", generator=torch.Generator().manual_seed(0))
    assert model.weight.std().item() * 1000**0.5 == pytest.approx(2**0.5, rel=0.05)
    model = pi.orthogonal_(Mine(16, 4), "linear", generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.weight.T @ model.weight, torch.eye(4), atol=1e-5)


def test_initialisation_leaves_recurrent_layers_alone():
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "head": nn.Linear(4, 2)})
    before = [p.clone() for p in model["lstm"].parameters()]
    pi.edge_of_chaos_(model, "tanh")
    assert all(map(torch.equal, model["lstm"].parameters(), before))
    with pytest.raises(pi.InputError, match="all weights of the model are recurrent"):
        pi.edge_of_chaos_(nn.GRU(2, 3), "tanh")


@pytest.mark.parametrize("given", [nn.Linear, nn.LSTM, int, nn.Linear(2, 2)], ids=["linear", "lstm", "int", "a layer"])
def test_what_cannot_be_registered(given):
    with pytest.raises(pi.InputError, match=r"known already|takes a class"):
        register_linear(given)


def test_a_base_of_many_layers_cannot_be_registered():
    with pytest.raises(pi.InputError, match="Module is a base of many: name yours"):
        register_linear(nn.Module)
