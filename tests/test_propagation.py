import math

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.propagation import Signal, chi_hat, signals
from wide import batch, mlp


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_second_moments_are_those_of_second_moments(problem):
    model, data = problem.model(), problem.batch()
    expected = pi.second_moments(model, [data], norm=problem.norm)
    found = signals(model, [data], norm=problem.norm)
    assert list(found) == list(expected)
    assert {name: signal.second_moment for name, signal in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_is_left_as_it_was(problem):
    model, data = problem.model(), problem.batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    signals(model, [data], norm=problem.norm)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_gradients_and_correlations_are_those_of_a_network_run_by_hand():
    torch.manual_seed(0)
    first, second = nn.Linear(5, 7).double(), nn.Linear(7, 3).double()
    model = nn.Sequential(first, nn.Tanh(), second)
    x, y = torch.randn(6, 5).double(), torch.randint(3, (6,))
    one = (x @ first.weight.T).detach().requires_grad_()
    two = torch.tanh(one + first.bias) @ second.weight.T
    two.retain_grad()
    nn.functional.cross_entropy(two + second.bias, y).backward()
    found = signals(model, [(x, y)])
    for name, by_hand in (("0.weight", one), ("2.weight", two)):
        gram = (by_hand @ by_hand.T).detach()
        pairs = [gram[a, b] for a in range(6) for b in range(6) if a != b]
        correlation = float(sum(pairs)) / 30 / float(gram.trace() / 6)
        assert found[name].gradient == pytest.approx(by_hand.grad.square().sum().item(), rel=1e-9)
        assert found[name].correlation == pytest.approx(correlation, rel=1e-9)


def test_masks_count_and_so_do_the_factors_of_a_sparsified_model():
    model, data = mlp([20, 50, 50, 5], "tanh", 1.3, 0.2, 0), batch(20, 16, 5, 0)
    masks = pi.prune(model, pi.Snip(), [data], sparsity=0.8)
    pruned = signals(model, [data], masks=masks)
    assert signals(pi.sparsify_(model, masks), [data])["2.weight"].second_moment == pytest.approx(
        pruned["2.weight"].second_moment
    )


@pytest.mark.parametrize(
    "sigma_w, sigma_b", [(1.0, 0.1), (1.3041, 0.2), (1.9, 0.2)], ids=["ordered", "edge", "chaotic"]
)
def test_chi_is_read_off_the_gradient(sigma_w, sigma_b):
    model = mlp([400] * 16 + [10], "tanh", sigma_w, sigma_b, 0)
    found = signals(model, [batch(400, 32, 10, 0)])
    assert chi_hat(found) == pytest.approx(pi.meanfield.chi("tanh", sigma_w, sigma_b), rel=0.08)


@pytest.mark.parametrize(
    "gradients", [[1.0, 2.0, 3.0], [1.0, 0.0, 1.0, 1.0], [1.0, None, None, 1.0], [1, math.inf, 1, 1]], ids=str
)
def test_no_chi_where_there_is_nothing_to_measure(gradients):
    assert chi_hat({str(i): Signal(1.0, None, g) for i, g in enumerate(gradients)}) is None


def test_one_example_has_no_correlation_and_zeros_have_none_either():
    model = nn.Linear(3, 2, bias=False)
    assert signals(model, [(torch.ones(1, 3), torch.tensor([0]))])["weight"].correlation is None
    assert signals(model, [(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))])["weight"].correlation is None
