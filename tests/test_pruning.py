import sys

import numpy as np
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
    with pytest.raises(pi.InputError, match="can be kept"):
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
        ({"sparsity": 0.5, "rounds": True}, "at least 1, got True"),
        ({"sparsity": 0.5, "rounds": 2.0}, "at least 1, got 2.0"),
        ({"sparsity": 98, "rounds": 2}, "did you mean 0.98"),
        ({"sparsity": None, "rounds": 2, "scope": {"weight": 0.5}}, "use rounds=1"),
        ({"sparsity": 0.5, "scope": "leyer"}, "did you mean 'layer'"),
    ],
)
def test_impossible_requests(kwargs, message):
    with pytest.raises(pi.InputError, match=message):
        pi.prune(nn.Linear(3, 3), pi.Magnitude(), **kwargs)


class Own:
    """A criterion of somebody else's, with rounds that may be anything."""

    def __init__(self, rounds):
        self.rounds, self.calls = rounds, 0

    def __call__(self, model, batches=None, masks=None):
        self.calls += 1
        return pi.Magnitude()(model, batches, masks)


@pytest.mark.parametrize("rounds", [0, -2, 1.5, "3", None])
def test_impossible_rounds_of_a_criterion_are_refused_before_it_is_called(rounds):
    criterion = Own(rounds)
    with pytest.raises(pi.InputError, match="rounds must be a whole number, at least 1, got"):
        pi.prune(nn.Linear(3, 3), criterion, sparsity=0.5)
    assert criterion.calls == 0
    assert pi.prune(nn.Linear(3, 4), criterion, sparsity=0.5, rounds=2).kept == 6


def test_given_densities_need_a_single_round_also_of_a_criterion_that_has_more():
    with pytest.raises(pi.InputError, match="with given densities use rounds=1"):
        pi.prune(nn.Linear(3, 4), Own(5), sparsity=None, scope={"weight": 0.5})
    assert pi.prune(nn.Linear(3, 4), Own(5), sparsity=None, scope={"weight": 0.5}, rounds=1).kept == 6


@pytest.mark.parametrize("scores", [{}, {"0.weight": torch.ones(3, 3)}, {"x": torch.ones(3, 3)}], ids=len)
def test_a_criterion_that_scores_other_weights_is_refused(scores):
    with pytest.raises(pi.InputError, match="must score each weight to prune and no other; it differs in .*1.weight"):
        pi.prune(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), lambda *_: scores, sparsity=0.5)


def live(model, batch):
    return lambda masks: pi.effective_masks(model, [batch], masks)


@pytest.mark.parametrize("name", ["dense", "conv1d", "residual", "batch-norm"])
@pytest.mark.parametrize("scope, sparsity", [("global", 0.6), ("global", 0.95), ("layer", 0.85), ("erk", 0.85)])
def test_effective_sparsity_is_met_as_nearly_as_any_selection_can(name, scope, sparsity):
    problem = PROBLEMS[IDS.index(name)]
    model, batch = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(4), [batch], sparsity=sparsity, scope=scope, effective=True, allow_empty=True)
    alive, scores = live(model, batch), pi.score(model, pi.Random(4))
    assert alive(masks) == masks
    target = round((1 - sparsity) * masks.total)
    assert masks.kept <= target
    # The slow twin: every count from the asked one upwards.
    found = [alive(pi.select(scores, 1 - k / masks.total, scope)) for k in range(max(1, target), masks.total + 1)]
    best = max((m.kept for m in found if m.kept <= target), default=0)
    assert masks.kept == best
    if scope == "global":
        assert masks in found


def test_effective_pruning_keeps_more_where_the_plain_one_loses_everything():
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(20, 20, bias=False), nn.ReLU())], nn.Linear(20, 2))
    batch = torch.randn(4, 20), torch.tensor([0, 1, 0, 1])
    plain = pi.prune(model, pi.Random(), sparsity=0.96)
    assert live(model, batch)(plain).kept == 0
    assert pi.prune(model, pi.Random(), [batch], sparsity=0.96, effective=True).kept > 50


@pytest.mark.parametrize("rounds", [2, 5])
def test_effective_rounds_hand_on_only_what_is_alive(rounds):
    problem = PROBLEMS[0]
    model, batch, seen = problem.model(), problem.batch(), []

    def criterion(net, batches, masks):
        seen.append(masks)
        return pi.Snip()(net, batches, masks)

    masks = pi.prune(model, criterion, iter([batch]), sparsity=0.8, rounds=rounds, effective=True)
    alive = live(model, batch)
    for number, earlier in enumerate(seen):
        assert alive(earlier) == earlier
        assert earlier.kept <= round(0.2 ** (number / rounds) * masks.total)
    for earlier, later in zip(seen, [*seen[1:], masks], strict=True):
        assert (earlier & later) == later
    assert 0 < masks.kept <= round(0.2 * masks.total)


@pytest.mark.parametrize("rounds", [6, 60])
def test_effective_rounds_go_on_where_one_fell_short_and_end_where_nothing_is_left(rounds):
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(8)])
    batch = torch.randn(2, 3), torch.tensor([0, 1])
    masks = pi.prune(model, pi.Random(), [batch], sparsity=0.95, rounds=rounds, effective=True, allow_empty=True)
    assert masks.kept == 0


def test_effective_pruning_of_a_sparsified_model_stays_within_what_is_left():
    model, batch = PROBLEMS[0].model(), PROBLEMS[0].batch()
    first = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    pi.sparsify_(model, first)
    second = pi.prune(model, pi.Snip(), [batch], sparsity=0.8, effective=True)
    assert (first & second) == second
    assert second.kept > 0
    assert live(model, batch)(second) == second
    with pytest.raises(pi.InputError, match="can be kept"):
        pi.prune(model, pi.Magnitude(), [batch], sparsity=0.2, effective=True)


def test_effective_pruning_to_given_densities_only_drops_the_dead():
    model, batch = PROBLEMS[0].model(), PROBLEMS[0].batch()
    densities = {"0.weight": 0.2, "2.weight": 0.3, "4.weight": 0.4}
    plain = pi.prune(model, pi.Random(), sparsity=None, scope=densities)
    masks = pi.prune(model, pi.Random(), [batch], sparsity=None, scope=densities, effective=True)
    assert masks == live(model, batch)(plain)
    assert masks.kept < plain.kept


def test_effective_pruning_of_some_weights_counts_the_others_as_whole():
    model, batch = PROBLEMS[0].model(), PROBLEMS[0].batch()
    masks = pi.prune(model, pi.Random(), [batch], sparsity=0.7, include="2.weight", effective=True)
    assert list(masks) == ["2.weight"]
    assert masks.kept == round(0.3 * masks.total)  # between whole layers nothing is dead


def test_effective_pruning_runs_the_loss_of_the_criterion_and_needs_batches():
    def loss(model, batch):
        return model(batch["x"]).square().mean()

    batch = {"x": torch.randn(4, 3)}
    assert pi.prune(nn.Linear(3, 4), pi.Snip(loss=loss), [batch], sparsity=0.5, effective=True).kept == 6
    with pytest.raises(pi.InputError, match="this needs data"):
        pi.prune(nn.Linear(3, 4), pi.Magnitude(), sparsity=0.5, effective=True)


@pytest.mark.parametrize("options", [{"rounds": 3}, {"effective": True}], ids=["rounds", "effective"])
@pytest.mark.parametrize(
    "batches, message",
    [((torch.zeros(2, 3), torch.zeros(2).long()), "got a single batch"), (3, "got int"), ([], "there are no batches")],
    ids=["single", "number", "none"],
)
def test_what_are_no_batches_is_refused_also_where_they_are_kept(options, batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.prune(nn.Linear(3, 2), pi.Snip(), batches, sparsity=0.5, **options)


@pytest.mark.parametrize(
    "criterion, message",
    [
        (pi.Snip, r"the criterion is a class: make one of it, Snip\(\)"),
        ("snip", "must be Snip\\(\\), Magnitude\\(\\) or another callable, got 'snip'"),
        (lambda *_: None, "must return a tensor of scores for each weight, got NoneType"),
        (lambda model, batches, masks: dict.fromkeys(masks, 1.0), "must return a tensor of scores for each weight"),
        (
            lambda model, batches, masks: dict.fromkeys(masks, torch.ones(3)),
            r"scores weight by a tensor of \(3,\), the",
        ),
    ],
    ids=["a class", "a name", "nothing", "numbers", "another shape"],
)
def test_what_is_no_criterion_is_refused(criterion, message):
    for verb in (pi.score, lambda *given: pi.prune(*given, sparsity=0.5)):
        with pytest.raises(pi.InputError, match=message):
            verb(nn.Linear(2, 2), criterion)


@pytest.mark.parametrize("scope", [None, 5, ["global"]])
def test_what_is_no_scope_is_refused(scope):
    with pytest.raises(pi.InputError, match="scope must be the name of one, or densities"):
        pi.prune(nn.Linear(2, 2), pi.Magnitude(), sparsity=0.5, scope=scope)


@pytest.mark.parametrize("option", ["effective", "allow_empty"])
def test_flags_are_true_or_false(option):
    model, batch = nn.Linear(4, 2), (torch.randn(8, 4), torch.zeros(8).long())
    with pytest.raises(pi.InputError, match=f"{option} must be True or False, got 'no'"):
        pi.prune(model, pi.Magnitude(), [batch], sparsity=0.5, **{option: "no"})
    assert pi.prune(model, pi.Magnitude(), [batch], sparsity=0.5, **{option: np.bool_(True)}).total == 8


VERBS = {
    "prune": lambda model, data, masks: pi.prune(model, pi.Snip(), data, sparsity=0.5),
    "score": lambda model, data, masks: pi.score(model, pi.Snip(), data),
    "forecast": lambda model, data, masks: pi.forecast(model, data),
    "diagnose": lambda model, data, masks: pi.diagnose(model, data, masks),
    "effective_masks": lambda model, data, masks: pi.effective_masks(model, data, masks),
    "rescale_": lambda model, data, masks: pi.rescale_(model, data, masks=masks),
    "second_moments": lambda model, data, masks: pi.second_moments(model, data),
    "sparsify_": lambda model, data, masks: pi.sparsify_(model, masks),
    "densify_": lambda model, data, masks: pi.densify_(model),
    "edge_of_chaos_": lambda model, data, masks: pi.edge_of_chaos_(model),
    "stabilize_residuals_": lambda model, data, masks: pi.stabilize_residuals_(model, data[0][0]),
    "find_isometry": lambda model, data, masks: pi.find_isometry(model, masks),
    "prunable": lambda model, data, masks: pi.prunable(model),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize(
    "given, message",
    [(None, "must be a torch.nn.Module, got None"), (len, "got a builtin_function"), (nn.Linear, r"a class: make one")],
    ids=["none", "a function", "a class"],
)
def test_what_is_no_model_is_refused(verb, given, message):
    masks = pi.Masks({"weight": torch.ones(2, 4).bool()})
    with pytest.raises(pi.InputError, match=message):
        verb(given, [(torch.randn(8, 4), torch.zeros(8).long())], masks)


def test_what_is_no_model_is_refused_also_where_models_may_be_sharded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed.fsdp", object())  # as once it is imported
    with pytest.raises(pi.InputError, match="must be a torch.nn.Module, got None"):
        pi.prune(None, pi.Magnitude(), sparsity=0.5)
