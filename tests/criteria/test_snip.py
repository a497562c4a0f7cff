import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

import pruneinit as pi
from memory import peak
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


def test_scores_that_are_all_zero_are_said_to_be():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    with pytest.warns(UserWarning, match="every score is 0.*check that the inputs are not all zero"):
        pi.score(model, pi.Snip(), [(torch.zeros(2, 4), torch.zeros(2).long())])


def test_scores_of_a_float16_model_do_not_underflow():
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


def test_the_two_statistics_of_batch_norm_choose_very_different_weights():
    model = pi.models.build("resnet20", input_shape=(3, 32, 32), classes=10)
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(64, 3, 32, 32, generator=generator), torch.randint(10, (64,), generator=generator))
    a, b = (
        pi.prune(model, pi.Snip(norm=norm), [batch], sparsity=0.98, allow_empty=True) for norm in ("batch", "running")
    )
    assert a.iou(b) < 0.2


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_snip_is_the_weight_times_its_gradient(problem, masked):
    model, twin, (x, y) = problem.model(), problem.model().eval(), problem.batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.4) if masked else None
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.train(problem.norm == "batch")
    weights = [twin.get_parameter(name) for name in prunable(model)]
    with torch.no_grad():
        for name, parameter in zip(prunable(model), weights, strict=True):
            parameter.mul_(masks[name] if masks else 1)
    slopes = torch.autograd.grad(functional.cross_entropy(twin(x), y), weights)
    found = pi.Snip(norm=problem.norm)(model, [(x, y)], masks)
    assert list(found) == list(prunable(model))  # in this order equal scores are kept
    for score, parameter, slope in zip(found.values(), weights, slopes, strict=True):
        torch.testing.assert_close(score, (parameter * slope).detach().abs(), rtol=1e-9, atol=1e-14)


WIDTH, DEPTH, EXAMPLES = 256, 6, 4


def wide(dtype: torch.dtype) -> tuple[nn.Module, int, int]:
    """An MLP, how many weights it has, and how many of them are in the largest."""
    torch.manual_seed(0)
    body = [module for _ in range(DEPTH) for module in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    model = nn.Sequential(*body, nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, 10)).to(dtype)
    sizes = [found.numel for found in prunable(model).values()]
    return model, sum(sizes), max(sizes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_the_memory_of_snip_is_its_scores_and_the_largest_gradient(dtype, batches, masked, monkeypatch):
    monkeypatch.setattr("pruneinit.criteria.gradients._CHUNK", 1 << 12)
    model, total, largest = wide(dtype)
    masks = pi.prune(model, pi.Random(), sparsity=0.5) if masked else pi.pruning.all_kept(model)
    data = [(torch.randn(EXAMPLES, WIDTH, dtype=dtype), torch.arange(EXAMPLES) % 10)] * batches
    scores = total * max(4, dtype.itemsize)
    weights = total * dtype.itemsize if masked else 0  # with what is masked set to 0
    # Three of each: before and after the activation, and the gradient on its way.
    activations = 3 * EXAMPLES * WIDTH * (DEPTH + 4) * dtype.itemsize
    slack = 4 * (1 << 12) * 4
    assert (
        peak(lambda: pi.Snip()(model, data, masks)) <= scores + largest * dtype.itemsize + weights + activations + slack
    )


def test_the_memory_of_snip_on_one_batch_is_its_scores():
    model, total, _ = wide(torch.float32)
    batch = (torch.randn(EXAMPLES, WIDTH), torch.arange(EXAMPLES) % 10)
    assert peak(lambda: pi.Snip()(model, [batch])) <= 1.1 * 4 * total


def test_a_weight_tied_to_an_embedding_is_scored_without_a_copy_of_it():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(1000, 32), nn.Linear(32, 1000, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens).mean(1))

    model, batch = Tokens(), (torch.arange(6).view(2, 3), torch.tensor([0, 1]))
    size = 4 * 1000 * 32
    # The tensor's two uses give two gradients, which autograd adds up in a third.
    assert peak(lambda: pi.score(model, pi.Snip(), [batch])) <= 3.3 * size


def caught(function) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    return [str(warning.message) for warning in found]


class Heads(nn.Module):
    """A body, a head that is used and others that are not."""

    def __init__(self, unused: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.unused = nn.ModuleList(nn.Linear(5, 3) for _ in range(unused))

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


@pytest.mark.parametrize(
    "unused, words",
    [
        (1, "does not depend on 1 of 3 weights, which score 0: unused.0.weight; leave them out with exclude="),
        (3, "on 3 of 5 weights, which score 0: unused.0.weight, unused.1.weight, unused.2.weight; leave"),
        (5, "on 5 of 7 weights, which score 0: unused.0.weight, unused.1.weight, unused.2.weight and 2 more; leave"),
    ],
)
def test_weights_that_the_loss_does_not_depend_on_score_0_and_are_named_once(unused, words):
    model, batch, scores = Heads(unused), (torch.randn(5, 4), torch.zeros(5).long()), {}
    (message,) = caught(lambda: scores.update(pi.score(model, pi.Snip(), [batch, batch])))
    assert words in message
    for name, score in scores.items():
        assert score.shape == model.get_parameter(name).shape
        assert bool(score.any()) is not name.startswith("unused")


def test_weights_that_are_left_out_are_not_warned_of():
    batch = (torch.randn(5, 4), torch.zeros(5).long())
    assert caught(lambda: pi.score(Heads(2), pi.Snip(), [batch], exclude="unused.*")) == []


def test_a_loss_of_no_weight_at_all_is_warned_of_once():
    model = nn.Linear(4, 3)
    batch = (torch.randn(5, 4), torch.zeros(5).long())
    (message,) = caught(lambda: pi.score(model, pi.Snip(loss=lambda net, batch: net.bias.sum()), [batch]))
    assert message.startswith("every score is 0")


def test_inputs_of_zero_are_warned_of_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    (message,) = caught(lambda: pi.score(model, pi.Snip(), [(torch.zeros(2, 4), torch.zeros(2).long())]))
    assert message.startswith("every score is 0")
