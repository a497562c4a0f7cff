import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("rounds", [1, 5])
@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_exactly_the_asked_count_is_kept(problem, rounds, scope):
    model = problem.model()
    masks = pi.prune(model, pi.Snip(norm=problem.norm), [problem.batch()], sparsity=0.7, scope=scope, rounds=rounds)
    assert masks.kept == round(0.3 * masks.total) or masks.kept == round((1 - 0.7) * masks.total)
    assert {n: tuple(m.shape) for n, m in masks.items()} == {n: w.shape for n, w in pi.prunable(model).items()}


def test_rounds_follow_the_exponential_schedule_and_score_the_masked_network():
    model = PROBLEMS[0].model()
    batch = PROBLEMS[0].batch()
    seen = []

    def criterion(net, batches, masks):
        seen.append(masks.density)
        return pi.Snip()(net, batches, masks)

    masks = pi.prune(model, criterion, [batch], sparsity=0.9, rounds=3)
    total = masks.total
    expected = [1.0] + [round(0.1 ** (r / 3) * total) / total for r in (1, 2)]
    assert seen == pytest.approx(expected)

    # The slow twin: three separate steps on explicitly masked copies.
    kept = pi.Masks({n: torch.ones(w.shape).bool() for n, w in pi.prunable(model).items()})
    for r in (1, 2, 3):
        copy = PROBLEMS[0].model()
        for name, mask in kept.items():
            copy.get_parameter(name).data *= mask
        scores = pi.score(copy, pi.Snip(), [batch])
        kept = pi.select(scores, 1 - 0.1 ** (r / 3), within=kept)
    assert kept == masks


def test_what_is_gone_in_one_round_stays_gone():
    seen = []

    def criterion(net, batches, masks):
        seen.append(masks)
        return pi.Random(seed=len(seen))(net, batches, masks)

    last = pi.prune(nn.Linear(30, 30), criterion, sparsity=0.95, rounds=6)
    for earlier, later in zip(seen, [*seen[1:], last], strict=True):
        assert (earlier & later) == later


def test_a_one_shot_iterable_of_batches_serves_all_rounds():
    batch = PROBLEMS[0].batch()
    model = PROBLEMS[0].model()
    lazy = pi.prune(model, pi.Snip(), iter([batch]), sparsity=0.8, rounds=4)
    assert lazy == pi.prune(model, pi.Snip(), [batch], sparsity=0.8, rounds=4)


def test_a_sparsified_model_can_be_pruned_further():
    model, batch = PROBLEMS[0].model(), PROBLEMS[0].batch()
    first = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    pi.sparsify_(model, first)
    second = pi.prune(model, pi.Snip(), [batch], sparsity=0.8)
    assert (first & second) == second
    pi.sparsify_(model, second)
    assert pi.current_masks(model) == second
    with pytest.raises(pi.InputError, match="within= allows only"):
        pi.prune(model, pi.Magnitude(), sparsity=0.2)


def test_rounds_on_a_sparsified_model_start_from_what_is_left():
    model = nn.Linear(100, 100)
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.9))
    seen = []

    def criterion(net, batches, masks):
        seen.append(masks.kept)
        return pi.Magnitude()(net, batches, masks)

    assert pi.prune(model, criterion, sparsity=0.98, rounds=5).kept == 200
    assert seen == [round(1000 * 0.2 ** (r / 5)) for r in range(5)]


def test_excluded_weights_stay_whole_and_do_not_count():
    masks = pi.prune(PROBLEMS[0].model(), pi.Magnitude(), sparsity=0.5, exclude="4.weight")
    assert list(masks) == ["0.weight", "2.weight"]


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"sparsity": 98}, "did you mean 0.98"),
        ({"sparsity": 0.5, "rounds": 0}, "at least 1, got 0"),
        ({"sparsity": None, "rounds": 2, "scope": {"weight": 0.5}}, "use rounds=1"),
        ({"sparsity": 0.5, "scope": "leyer"}, "did you mean 'layer'"),
    ],
)
def test_impossible_requests(kwargs, message):
    with pytest.raises(pi.InputError, match=message):
        pi.prune(nn.Linear(3, 3), pi.Magnitude(), **kwargs)
