import math

import numpy as np
import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit.errors import InputError
from pruneinit.models import build
from pruneinit.propagation import chi_hat, signals
from pruneinit.reparametrize import stored
from pruneinit.trainability import MEASURES, effective_rank, mean_correlation, trainability

CASES = [("tanh", "layer"), ("relu", "neuron"), ("tanh", None)]
SHAPE, CLASSES, EXAMPLES = (1, 4, 4), 3, 2


def data(seed=0, size=40):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, *SHAPE, generator=generator), torch.randint(CLASSES, (size,), generator=generator)


def pruned(activation="tanh", rescale="layer", sparsity=0.6, depth=5, width=10):
    """A sparsified network, its batch, and the second moments that it had before."""
    model = build("mlp", input_shape=SHAPE, classes=CLASSES, depth=depth, width=width, activation=activation)
    pi.edge_of_chaos_(model, activation, generator=torch.Generator().manual_seed(1))
    batch = data()
    dense = pi.second_moments(model, [batch])
    masks = pi.prune(model, pi.Magnitude(), sparsity=sparsity)
    if rescale is not None:
        pi.rescale_(model, [batch], masks=masks, method=rescale)
    return pi.sparsify_(model, masks), batch, dense


class Twin:
    """The same network layer by layer in float64, its weights as plain dense tensors, one example at a time."""

    def __init__(self, model, batch):
        self.layers = [module for module in model if isinstance(module, nn.Linear)]
        self.weights = [layer.weight.detach().double().requires_grad_() for layer in self.layers]
        self.biases = [layer.bias.detach().double().requires_grad_() for layer in self.layers]
        self.act = torch.relu if any(isinstance(module, nn.ReLU) for module in model) else torch.tanh
        self.x, self.y = batch[0].double().flatten(1), batch[1]
        masks = pi.current_masks(model)
        names = [f"fc{i}.weight" for i in range(1, len(self.layers) + 1)]
        self.masks = [masks[name].double() for name in names]
        self.values = [stored(model, name).detach().double() for name in names]
        kept = [w.detach()[m.bool()] for w, m in zip(self.weights, self.masks, strict=True)]
        self.factors = [k / v for k, v in zip(kept, self.values, strict=True)]

    def run(self, x):
        """The activations in the last hidden layer, and the outputs, of one example."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.act(weight @ x + bias)
        return x, self.weights[-1] @ x + self.biases[-1]

    def parameter_gradients(self, value):
        """Of the survivors, a tensor a layer, and of the biases."""
        grads = torch.autograd.grad(value, [*self.weights, *self.biases], retain_graph=True)
        weights, biases = grads[: len(self.weights)], grads[len(self.weights) :]
        return [g[m.bool()] * f for g, m, f in zip(weights, self.masks, self.factors, strict=True)], list(biases)

    def measured(self):
        hidden = torch.stack([self.run(x)[0].detach() for x in self.x])
        loss = torch.stack([
            -torch.log_softmax(self.run(x)[1], 0)[y] for x, y in zip(self.x, self.y, strict=True)
        ]).mean()  # fmt: skip
        survivors, _ = self.parameter_gradients(loss)
        moments = [sum((v * g) ** 2) / len(v) for v, g in zip(self.values, survivors, strict=True)]
        jacobians, rows = [], []
        for x in self.x[:EXAMPLES]:
            x = x.clone().requires_grad_()
            outputs = self.run(x)[1]
            jacobians.append(torch.stack([torch.autograd.grad(o, x, retain_graph=True)[0] for o in outputs]))
            rows += [torch.cat([g.flatten() for part in self.parameter_gradients(o) for g in part]) for o in outputs]
        kernel = torch.stack(rows) @ torch.stack(rows).T
        eigen = torch.linalg.eigvalsh(kernel)
        spectra = [torch.linalg.eigvalsh(j @ j.T) for j in jacobians]
        return {
            "moment": float(torch.stack([self.run(x)[1] - self.biases[-1] for x in self.x]).detach().square().mean()),
            "decorrelation": 1 - pairs(hidden),
            "rank": rank(torch.linalg.eigvalsh(hidden @ hidden.T)),
            "alive": float(self.alive()),
            "conditioning": float(max(moments[1:-1]) / min(moments[1:-1])),
            "update": min(float(g.norm() / v.norm()) for v, g in zip(self.values, survivors, strict=True)),
            "jacobian_max": sum(math.sqrt(s[-1]) for s in spectra) / EXAMPLES,
            "jacobian_min": sum(math.sqrt(s[0]) for s in spectra) / EXAMPLES,
            "jacobian_rank": sum(rank(s) for s in spectra) / EXAMPLES,
            "kernel": float(kernel.diagonal().mean()),
            "kernel_rank": rank(eigen),
            "kernel_condition": float(eigen[-1] / eigen[0]),
        }

    def alive(self):
        """Neurons that are reached from the inputs and reach an output, of the hidden layer that has fewest."""
        forward, backward = [torch.ones(self.masks[0].shape[1])], [torch.ones(len(self.masks[-1]))]
        for mask in self.masks:
            forward.append(torch.stack([(row * forward[-1].double()).max() for row in mask]))
        for mask in reversed(self.masks):
            backward.append(torch.stack([(row * backward[-1].double()).max() for row in mask.T]))
        meet = [f * b for f, b in zip(forward, reversed(backward), strict=True)]
        return min(int(layer.sum()) for layer in meet[1:-1])


def pairs(rows):
    found = [
        abs(float(a @ b / (a.norm() * b.norm())))
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
        if i != j and a.any() and b.any()
    ]
    return sum(found) / len(found)


def rank(squares):
    return float(sum(squares) ** 2 / sum(square**2 for square in squares))


@pytest.mark.parametrize("activation, rescale", CASES, ids=str)
def test_every_measure_is_that_of_the_network_run_by_hand(activation, rescale):
    model, batch, dense = pruned(activation, rescale)
    found = trainability(model, batch, dense=dense, examples=EXAMPLES)
    expected = Twin(model, batch).measured()
    expected["moment"] /= dense["fc5.weight"]
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_gradients_are_those_of_the_signals():
    model, batch, _ = pruned()
    found, seen = trainability(model, batch), signals(model, [batch])
    assert found["chi"] == pytest.approx(chi_hat(seen), rel=1e-4)
    assert found["gradient"] == pytest.approx(seen["fc2.weight"].gradient / seen["fc4.weight"].gradient, rel=1e-4)


def test_layer_rescaling_brings_the_moment_back_and_none_does_not():
    model, batch, dense = pruned(rescale="layer")
    assert trainability(model, batch, dense=dense)["moment"] == pytest.approx(1.0, rel=1e-3)
    model, batch, dense = pruned(rescale=None)
    assert trainability(model, batch, dense=dense)["moment"] != pytest.approx(1.0, rel=1e-2)


def test_the_names_are_always_the_same_and_what_does_not_exist_is_none():
    found = trainability(nn.Linear(3, 2), (torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])))
    assert list(found) == list(MEASURES)
    assert {name for name, value in found.items() if value is None} == {"moment", "gradient", "chi", "conditioning"}
    assert found["decorrelation"] is not None


def test_a_network_that_is_cut_through_has_no_living_neurons_and_no_correlation():
    model, batch, dense = pruned(sparsity=0.0)
    masks = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in pi.prunable(pi.densify_(model)).items()}
    masks["fc3.weight"][:] = False
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    found = trainability(pi.sparsify_(model, pi.Masks(masks)), batch, dense=dense)
    assert (found["alive"], found["moment"], found["update"], found["jacobian_max"]) == (0.0, 0.0, 0.0, 0.0)
    assert found["decorrelation"] is None
    assert found["conditioning"] is None


def test_what_overflows_is_none_and_the_rest_is_there():
    model, batch, _ = pruned("relu", None, depth=8)
    with torch.no_grad():
        for layer in range(1, 8):
            stored(model, f"fc{layer}.weight").mul_(1e30)
    found = trainability(model, batch)
    assert found["alive"] > 0
    assert all(value is None or math.isfinite(value) for value in found.values())
    with torch.no_grad():
        stored(model, "fc1.weight").fill_(math.inf)
    found = trainability(model, batch)
    assert [name for name, value in found.items() if value is not None] == ["alive"]


def test_the_model_is_left_as_it_was():
    model, batch, _ = pruned()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    trainability(model, batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_ranks_and_correlations_of_plain_matrices():
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))) == pytest.approx(2.0)
    assert effective_rank(1e-200 * torch.eye(4).double()) == pytest.approx(4.0)
    assert math.isnan(effective_rank(torch.zeros(2, 2)))
    assert math.isnan(effective_rank(torch.tensor([[math.inf, 1.0]])))
    assert mean_correlation(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])) == pytest.approx(1.0)
    assert math.isnan(mean_correlation(torch.zeros(3, 2)))


def test_a_batch_that_does_not_fit_is_refused():
    model, _, _ = pruned()
    with pytest.raises(InputError, match="cannot be run on the batch given"):
        trainability(model, (torch.randn(4, 1, 5, 5), torch.zeros(4, dtype=torch.long)))
    with pytest.raises(InputError, match="the batch holds a NumPy array, float64 4x1x8x8"):
        trainability(model, (np.zeros((4, 1, 8, 8)), np.zeros(4)))
