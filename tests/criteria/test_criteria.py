import pytest
import torch
from torch import nn
from torch.nn import functional

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.weights import prunable

# Not with batch statistics: there the twin, which perturbs the weights of a model in eval mode, is another function.
DIFFERENTIABLE = [problem for problem in PROBLEMS if problem.norm != "batch"]


@pytest.mark.parametrize("problem", DIFFERENTIABLE, ids=lambda problem: problem.name)
def test_snip_is_the_change_of_the_loss_by_a_small_step_of_the_mask(problem):
    """Central differences of the loss in a multiplier c of each single weight, |dL/dc| at c = 1."""
    model, batch = problem.model().eval(), problem.batch()
    scores = pi.score(model, pi.Snip(norm=problem.norm), [batch])
    step = 1e-5
    for name in prunable(model):
        parameter = model.get_parameter(name)
        for i in range(0, parameter.numel(), max(1, parameter.numel() // 7)):
            value = parameter.data.view(-1)[i].item()
            losses = []
            for factor in (1 + step, 1 - step):
                parameter.data.view(-1)[i] = value * factor
                losses.append(functional.cross_entropy(model(batch[0]), batch[1]).item())
            parameter.data.view(-1)[i] = value
            derivative = abs(losses[0] - losses[1]) / (2 * step)
            assert scores[name].view(-1)[i].item() == pytest.approx(derivative, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_magnitude_is_the_absolute_value(problem):
    model = problem.model()
    for name, score in pi.score(model, pi.Magnitude()).items():
        assert torch.equal(score, model.get_parameter(name).detach().abs())


def test_random_scores_follow_the_seed_alone():
    model = PROBLEMS[0].model()
    first, again, other = (pi.score(model, pi.Random(seed=s)) for s in (1, 1, 2))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert 0.4 < torch.cat([s.flatten() for s in pi.score(nn.Linear(100, 100), pi.Random()).values()]).mean() < 0.6


def test_scores_of_a_bfloat16_model_do_not_underflow():
    model = nn.Linear(4, 3).to(torch.bfloat16)
    nn.init.constant_(model.weight, 1e-30)
    batch = (torch.full((2, 4), 1e-15, dtype=torch.bfloat16), torch.tensor([0, 1]))
    scores = pi.score(model, pi.Snip(), [batch])
    assert scores["weight"].dtype == torch.float32
    assert (scores["weight"] > 0).all() or scores["weight"].max() < 1e-40


def test_the_two_statistics_of_batch_norm_choose_very_different_weights():
    model = pi.models.build("resnet20", input_shape=(3, 32, 32), classes=10)
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(64, 3, 32, 32, generator=generator), torch.randint(10, (64,), generator=generator))
    a, b = (pi.prune(model, pi.Snip(norm=norm), [batch], sparsity=0.98) for norm in ("batch", "running"))
    assert a.iou(b) < 0.2
