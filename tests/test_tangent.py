"""The condition number of the neural tangent kernel, against one made parameter by parameter."""

import math

import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit import tangent
from pruneinit.models import build
from pruneinit.tangent import condition, kernel_condition
from pruneinit.trainability import trainability


def network(depth=6, activation="tanh"):
    torch.manual_seed(0)
    model = build("mlp", input_shape=(1, 4, 4), classes=3, depth=depth, width=12, activation=activation)
    return pi.edge_of_chaos_(model, generator=torch.Generator().manual_seed(0)).double()


def batch(size=6):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 1, 4, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(3, (size,), generator=generator)


def plain(model, x):
    """The condition number from one gradient an output of each of four examples, by the model's own parameters."""
    rows = []
    for output in model(x[:4]).flatten():
        found = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in found]))
    values = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)
    return float(values[-1] / values[0])


def test_of_a_dense_network():
    model, (x, y) = network(), batch()
    whole = {name: model.get_parameter(name).detach() for name in pi.prunable(model)}
    assert kernel_condition(model, (x, y), whole, {}) == pytest.approx(plain(model, x))


@pytest.mark.parametrize("method", [None, "layer", "neuron"])
def test_of_a_pruned_network_it_is_that_of_the_survivors(method):
    model, data = network(), batch(40)
    masks = pi.prune(model, pi.Magnitude(), [data], sparsity=0.5, scope="layer")
    sparse = network()
    if method:
        pi.rescale_(sparse, [data], method=method, masks=masks)
    pi.sparsify_(sparse, masks)
    stage = "rescaled" if method else "pruned"
    expected = trainability(sparse, data)["kernel_condition"]
    assert pi.diagnose(sparse, [data]).conditions[stage] == pytest.approx(expected)
    if method != "neuron":  # by layer is what a dense model with masks is shown with
        assert pi.diagnose(model, [data], masks).conditions[stage] == pytest.approx(expected)
    if method:
        pi.rescale_(model, [data], method=method, masks=masks)
        assert pi.diagnose(model, [data], masks).conditions["pruned"] == pytest.approx(expected)


def test_a_network_that_sends_all_examples_one_way_has_none():
    model, data = network(depth=8), batch()
    with torch.no_grad():
        for layer in range(2, 8):
            weight = model.get_submodule(f"fc{layer}").weight
            weight.copy_(weight[:1].expand_as(weight))
    found = pi.diagnose(model, [data]).conditions["dense"]
    assert found > 1e9


def test_it_does_not_depend_on_the_scale_of_the_outputs():
    model, data = network(), batch()
    before = pi.diagnose(model, [data]).conditions["dense"]
    assert pi.diagnose(nn.Sequential(model, Times(1000.0)), [data]).conditions["dense"] == pytest.approx(before)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_a_sample_of_the_entries_tells_much_the_same(monkeypatch):
    torch.manual_seed(0)
    model = build("mlp", input_shape=(1, 4, 4), classes=3, depth=5, width=100, activation="relu").double()
    data = batch()
    before = pi.diagnose(model, [data]).conditions["dense"]
    monkeypatch.setattr(tangent, "SAMPLE", 10_000)
    assert 0.2 < pi.diagnose(model, [data]).conditions["dense"] / before < 5


@pytest.mark.parametrize("norm", ["batch", "running"])
def test_batch_normalisation_and_shortcuts(norm):
    model = build("resnet20", input_shape=(3, 8, 8), classes=10, width=2)
    data = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = pi.diagnose(model, [data], norm=norm).conditions["dense"]
    assert 1 < found < math.inf
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_of_a_model_whose_outputs_are_no_table_nothing_is_said():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return {"logits": self.layer(x)}

    model, x = Both(), torch.randn(6, 4)
    whole = {"layer.weight": model.layer.weight.detach()}
    assert kernel_condition(model, (x, torch.zeros(6).long()), whole, {}) is None


def test_of_a_loss_of_ones_own_nothing_is_said():
    model, (x, y) = network(), batch()
    found = pi.diagnose(model, [(x, y)], loss=lambda net, part: nn.functional.cross_entropy(net(part[0]), part[1]))
    assert found.conditions == {}


def test_rounding_is_no_eigenvalue():
    g = torch.randn(3, 50, dtype=torch.float64)
    assert condition(torch.cat([g, g]) @ torch.cat([g, g]).T) == math.inf
    assert condition(torch.full((2, 2), math.nan)) == math.inf
