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


def test_scores_that_are_all_zero_are_said_to_be():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    with pytest.warns(UserWarning, match="every score is 0.*check that the inputs are not all zero"):
        pi.score(model, pi.Snip(), [(torch.zeros(2, 4), torch.zeros(2).long())])


def test_random_scores_follow_the_seed_alone():
    model = PROBLEMS[0].model()
    first, again, other = (pi.score(model, pi.Random(seed=s)) for s in (1, 1, 2))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert 0.4 < torch.cat([s.flatten() for s in pi.score(nn.Linear(100, 100), pi.Random()).values()]).mean() < 0.6


def test_scores_of_a_bfloat16_model_do_not_underflow():
    # float16 has no numbers between 0 and 6e-8, so a product of two numbers of size 1e-4 is 0 in it.
    model = nn.Linear(4, 3).to(torch.float16)
    nn.init.constant_(model.weight, 1e-4)
    batch = (torch.full((2, 4), 1e-3, dtype=torch.float16), torch.tensor([0, 0]))
    scores = pi.score(model, pi.Snip(), [batch])["weight"]
    assert scores.dtype == torch.float32
    assert (scores > 0).all()
    assert scores.max() < 1e-7


def test_many_batches_of_a_bfloat16_model_average_in_float32():
    torch.manual_seed(0)
    exact, x, y = nn.Linear(16, 3), torch.randn(512, 16), torch.randint(3, (512,))
    model = nn.Linear(16, 3).to(torch.bfloat16)
    model.load_state_dict(exact.state_dict())
    exact.load_state_dict(model.state_dict())
    x = x.bfloat16().float()
    expected = pi.score(exact, pi.Snip(), [(x, y)])["weight"]
    batches = list(zip(x.bfloat16().split(2), y.split(2), strict=True))
    found = pi.score(model, pi.Snip(), batches)["weight"]
    assert (found - expected).norm() < 0.006 * expected.norm()


def test_random_scores_know_nothing_of_weights_drawn_from_the_same_seed():
    for seed in (0, 1):
        model = pi.mean_field_(nn.Linear(200, 200), 1.0, 0.0, generator=torch.Generator().manual_seed(seed))
        score = pi.score(model, pi.Random(seed=seed))["weight"].flatten()
        for other in (model.weight.detach().flatten(), model.weight.detach().abs().flatten()):
            assert abs(torch.corrcoef(torch.stack([score, other]))[0, 1]) < 0.03


def test_the_two_statistics_of_batch_norm_choose_very_different_weights():
    model = pi.models.build("resnet20", input_shape=(3, 32, 32), classes=10)
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(64, 3, 32, 32, generator=generator), torch.randint(10, (64,), generator=generator))
    a, b = (
        pi.prune(model, pi.Snip(norm=norm), [batch], sparsity=0.98, allow_empty=True) for norm in ("batch", "running")
    )
    assert a.iou(b) < 0.2
