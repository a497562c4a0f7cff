"""Iterative SNIP and FORCE against twins: explicit masks, plain autograd, sorting in Python."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

import pruneinit as pi
from problems import IDS, PROBLEMS

CRITERIA = {"iterative_snip": pi.IterativeSnip, "force": pi.Force}


def twin_scores(problem, model, batch, kept, *, dense):
    """|W g| with g at the masked network; W is dense for FORCE, masked for SNIP."""
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, _NormBase):
            module.train(problem.norm == "batch")
    weights = {name: copied.get_parameter(name) for name in pi.prunable(model)}
    before = {name: parameter.detach().clone() for name, parameter in weights.items()}
    for name, parameter in weights.items():
        parameter.data = parameter.data * kept[name]
    loss = functional.cross_entropy(copied(batch[0]), batch[1])
    gradients = torch.autograd.grad(loss, list(weights.values()))
    found = {}
    for (name, parameter), gradient in zip(weights.items(), gradients, strict=True):
        found[name] = ((before[name] if dense else parameter.detach()) * gradient).abs()
    return found


def twin_rounds(problem, model, batch, sparsity, rounds, *, dense):
    """The whole procedure; returns the masks of every round."""
    kept = {name: torch.ones(found.shape) for name, found in pi.prunable(model).items()}
    total, history = sum(mask.numel() for mask in kept.values()), []
    for number in range(1, rounds + 1):
        scores = twin_scores(problem, model, batch, kept, dense=dense)
        places = [
            (-float(value), layer, i)
            for layer, (name, score) in enumerate(scores.items())
            for i, value in enumerate(score.flatten())
            if dense or kept[name].flatten()[i]
        ]
        chosen = sorted(places)[: round((1 - sparsity) ** (number / rounds) * total)]
        kept = {name: torch.zeros(mask.shape) for name, mask in kept.items()}
        for _, layer, i in chosen:
            list(kept.values())[layer].view(-1)[i] = 1
        history.append(kept)
    return history


def some_masks(model):
    generator = torch.Generator().manual_seed(3)
    return pi.Masks({n: torch.rand(w.shape, generator=generator) < 0.6 for n, w in pi.prunable(model).items()})


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_a_single_scoring_is_that_of_the_twin(name, problem, masked):
    model, batch = problem.model(), problem.batch()
    masks = some_masks(model) if masked else None
    kept = masks or {n: torch.ones(w.shape) for n, w in pi.prunable(model).items()}
    expected = twin_scores(problem, problem.model(), batch, kept, dense=name == "force")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = CRITERIA[name](norm=problem.norm)(model, [batch], masks)
    assert found.keys() == expected.keys()
    for weight, score in expected.items():
        assert (found[weight] - score).abs().max() <= 1e-9 * score.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("name", CRITERIA)
def test_several_rounds_are_those_of_the_twin(name, problem):
    model, batch = problem.model(), problem.batch()
    history = twin_rounds(problem, problem.model(), batch, 0.8, 4, dense=name == "force")
    criterion = CRITERIA[name](rounds=4, norm=problem.norm)
    masks = pi.prune(model, criterion, iter([batch]), sparsity=0.8, allow_empty=True)
    for weight, mask in history[-1].items():
        assert torch.equal(masks[weight], mask.bool()), weight


def test_only_force_brings_weights_back():
    problem = PROBLEMS[0]
    back = {}
    for name, kind in CRITERIA.items():
        criterion, seen = kind(), []

        def spy(net, batches, masks, criterion=criterion, seen=seen):
            seen.append(masks)
            return criterion(net, batches, masks)

        spy.revives = getattr(kind, "revives", False)
        last = pi.prune(problem.model(), spy, [problem.batch()], sparsity=0.8, rounds=8, allow_empty=True)
        back[name] = sum(later.kept - (earlier & later).kept for earlier, later in pairwise([*seen, last]))
    assert back["iterative_snip"] == 0
    assert back["force"] > 0


def test_force_brings_back_no_weight_that_a_sparsified_model_lacks():
    problem = PROBLEMS[0]
    model, batch = problem.model(), problem.batch()
    first = pi.prune(model, pi.Random(1), sparsity=0.4)
    pi.sparsify_(model, first)
    seen = []

    def spy(net, batches, masks):
        seen.append(masks)
        return pi.Force()(net, batches, masks)

    spy.revives = True
    last = pi.prune(model, spy, [batch], sparsity=0.85, rounds=6, allow_empty=True)
    for masks in (*seen, last):
        assert (first & masks) == masks
    assert any((a & b) != b for a, b in zip(seen, [*seen[1:], last], strict=True))
    # As on the dense model that has zeros in their place.
    dense = problem.model()
    for name, mask in first.items():
        dense.get_parameter(name).data *= mask
    kept = first
    for number in range(1, 7):
        kept = pi.select(pi.Force()(dense, [batch], kept), 1 - 0.6 * (0.15 / 0.6) ** (number / 6), within=first)
    assert kept == last


def test_the_rounds_are_the_criterions_where_none_are_given():
    problem = PROBLEMS[0]
    counts = []

    class Counted(pi.IterativeSnip):
        def __call__(self, model, batches=None, masks=None):
            counts.append(masks.kept)
            return super().__call__(model, batches, masks)

    for options, expected in (({}, 7), ({"rounds": 3}, 3), ({"rounds": 1}, 1)):
        counts.clear()
        pi.prune(problem.model(), Counted(rounds=7), [problem.batch()], sparsity=0.7, allow_empty=True, **options)
        assert len(counts) == expected
    assert (pi.Force().rounds, pi.IterativeSnip().rounds) == (60, 60)
    assert pi.prune(problem.model(), pi.Snip(), [problem.batch()], sparsity=0.7) == pi.prune(
        problem.model(), pi.Force(rounds=1), [problem.batch()], sparsity=0.7
    )


@pytest.mark.parametrize("kind", CRITERIA.values(), ids=CRITERIA)
@pytest.mark.parametrize("rounds", [0, -1, 2.5, True, "3", None])
def test_impossible_rounds_are_refused(kind, rounds):
    with pytest.raises(pi.InputError, match="rounds must be a whole number, at least 1, got"):
        kind(rounds=rounds)


@pytest.mark.parametrize("kind", CRITERIA.values(), ids=CRITERIA)
def test_data_that_does_not_fit_is_refused(kind):
    with pytest.raises(pi.InputError, match="this needs data"):
        pi.prune(nn.Linear(3, 3), kind(), sparsity=0.5)
    with pytest.raises(pi.InputError, match="say norm='batch' or norm='running'"):
        problem = PROBLEMS[IDS.index("batch-norm")]
        pi.prune(problem.model(), kind(), [problem.batch()], sparsity=0.5)


@pytest.mark.parametrize("kind", CRITERIA.values(), ids=CRITERIA)
@pytest.mark.parametrize("sizes", [[4, 4], [1] * 8, [5, 3]], ids=str)
def test_micro_batches_give_the_scores_of_one_batch(kind, sizes):
    problem = PROBLEMS[0]
    x, y = problem.batch(8)
    masks = some_masks(problem.model())
    whole = kind()(problem.model(), [(x, y)], masks)
    parts = kind()(problem.model(), list(zip(x.split(sizes), y.split(sizes), strict=True)), masks)
    for weight in whole:
        torch.testing.assert_close(parts[weight], whole[weight], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", CRITERIA.values(), ids=CRITERIA)
def test_a_bfloat16_model_is_scored_in_float32(kind):
    problem = PROBLEMS[0]
    model, batch = problem.model(dtype=torch.bfloat16), problem.batch(dtype=torch.bfloat16)
    scores = kind()(model, [batch], some_masks(model))
    assert {score.dtype for score in scores.values()} == {torch.float32}
    assert pi.prune(model, kind(rounds=3), [batch], sparsity=0.5).kept == round(0.5 * 95)


def test_scores_that_are_all_zero_are_said_to_be():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    for kind in CRITERIA.values():
        with pytest.warns(UserWarning, match="every score is 0"):
            pi.score(model, kind(), [(torch.zeros(2, 4), torch.zeros(2).long())])
