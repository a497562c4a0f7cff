from dataclasses import is_dataclass

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit import criteria
from pruneinit.criteria import cross_entropy


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


def test_random_scores_know_nothing_of_weights_drawn_from_the_same_seed():
    for seed in (0, 1):
        model = pi.mean_field_(nn.Linear(200, 200), 1.0, 0.0, generator=torch.Generator().manual_seed(seed))
        score = pi.score(model, pi.Random(seed=seed))["weight"].flatten()
        for other in (model.weight.detach().flatten(), model.weight.detach().abs().flatten()):
            assert abs(torch.corrcoef(torch.stack([score, other]))[0, 1]) < 0.03


@pytest.mark.parametrize("name", [name for name in criteria.__all__ if is_dataclass(getattr(criteria, name))])
def test_what_a_criterion_shows_makes_it_again(name):
    criterion = getattr(criteria, name)()
    assert eval(repr(criterion), vars(criteria)) == criterion


@pytest.mark.parametrize("criterion", [pi.Random(), pi.SmartRatio()], ids=["random", "smart ratio"])
def test_criteria_without_data_refuse_masks_of_another_model(criterion):
    for name, shape, message in (("other.weight", (3, 3), "unknown weight"), ("weight", (2, 2), "another model")):
        with pytest.raises(pi.InputError, match=message):
            criterion(nn.Linear(3, 3), None, pi.Masks({name: torch.ones(shape).bool()}))


@pytest.mark.parametrize(
    "criterion",
    [pi.Snip, pi.IterativeSnip, pi.Force, pi.Grasp, pi.Fisher, pi.Obd, lambda loss: pi.ProsPr(1, loss=loss)],
)
@pytest.mark.parametrize(
    "loss",
    [
        lambda net, batch: net(batch[0]).detach().sum(),
        lambda net, batch: batch[0].sum(),
        torch.no_grad()(cross_entropy),
    ],
    ids=["detached", "of the inputs", "no_grad"],
)
def test_a_loss_without_a_gradient_is_named(criterion, loss):
    batch = torch.randn(4, 3), torch.zeros(4).long()
    with pytest.raises(pi.InputError, match=r"^the loss on the batch .* depends on no weight to be scored: .*detach"):
        criterion(loss=loss)(nn.Linear(3, 2), [batch, batch])


def test_a_batch_without_a_key_is_told_so():
    with pytest.raises(pi.InputError, match="there is no 'x'; expected what"):
        pi.Snip(loss=lambda net, batch: net(batch["x"]).sum())(nn.Linear(3, 2), [{"y": torch.randn(4, 3)}])


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(3, 2), nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("criterion", [pi.Snip(), pi.Grasp(), pi.Fisher(), pi.Obd(), pi.ProsPr(1), pi.NtkSap(1, 1)])
def test_weights_that_the_loss_does_not_depend_on_are_named(criterion):
    batch = torch.randn(4, 3), torch.zeros(4).long()
    with pytest.warns(UserWarning, match="does not depend on 1 of 2 weights, which score 0: unused.weight;"):
        scores = criterion(Unused(), [batch, batch])
    assert not scores["unused.weight"].any()


@pytest.mark.parametrize("criterion", [pi.Fisher(), pi.Obd()])
def test_a_weight_that_the_loss_is_linear_in_is_not_named(criterion, recwarn):
    batch = torch.randn(4, 3), torch.zeros(4).long()
    loss = lambda net, batch: net[0](batch[0]).square().mean() + net[1].weight.sum()  # noqa: E731
    type(criterion)(loss=loss)(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), [batch])
    assert not [w for w in recwarn if "does not depend" in str(w.message)]


class AlwaysDrops(nn.Sequential):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, training=True))


@pytest.mark.parametrize("criterion", [pi.Snip(), pi.Grasp(), pi.Fisher(), pi.ProsPr(1), pi.NtkSap(1, 1)])
def test_noise_of_the_model_does_not_depend_on_what_was_drawn_before(criterion):
    model, batch = AlwaysDrops(nn.Linear(9, 2)), (torch.randn(4, 9), torch.zeros(4).long())
    first = criterion(model, [batch, batch])
    torch.rand(1)
    again = criterion(model, [batch, batch])
    assert torch.equal(first["0.weight"], again["0.weight"])
