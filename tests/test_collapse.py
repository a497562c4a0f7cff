import re
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.choice import Choice
from pruneinit.collapse import check_layers, safest


class Given:
    """A criterion that gives the scores it is told."""

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, model, batches=None, masks=None):
        return self.scores


@st.composite
def cases(draw):
    """Layers of all sizes, some of them sparsified, some to nothing; scores with many ties; a scope, a sparsity."""
    shapes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=6))
    model = nn.ModuleList(nn.Linear(i, o, bias=False) for o, i in shapes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kinds = draw(st.sampled_from([[0.0, 1.0], [-2.0, -1.0, 0.0, 0.5], list(range(50))]))
    scores = {}
    for name, found in pi.prunable(model).items():
        chosen = torch.randint(len(kinds), found.shape, generator=generator)
        dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
        scores[name] = torch.tensor(kinds, dtype=dtype)[chosen]
    if draw(st.booleans()):
        density = draw(st.sampled_from([0.2, 0.6]))
        kept = {n: torch.rand(s.shape, generator=generator) < density for n, s in scores.items()}
        pi.sparsify_(model, pi.Masks(kept))
    return model, scores, draw(st.sampled_from(["global", "layer", "erk"])), draw(st.floats(0, 0.999))


def named(error):
    assert "\n" not in str(error.value)
    return float(re.search(r"highest safe sparsity is ([\d.]+);", str(error.value))[1])


def lost(masks, before):
    return [name for name, (kept, _) in before.counts.items() if kept and not masks.counts[name][0]]


@settings(max_examples=150)
@given(cases())
def test_the_named_sparsity_is_safe_and_with_one_weight_fewer_a_layer_is_lost(case):
    model, scores, scope, sparsity = case
    before = pi.current_masks(model) or pi.Masks({n: torch.ones_like(s).bool() for n, s in scores.items()})
    total, options = before.total, {"scope": scope}
    if round((1 - sparsity) * total) > before.kept:
        return  # refused for another reason
    masks = pi.prune(model, Given(scores), sparsity=sparsity, allow_empty=True, **options)
    if not lost(masks, before):
        assert pi.prune(model, Given(scores), sparsity=sparsity, **options) == masks
        return
    with pytest.raises(pi.InputError, match=re.escape(lost(masks, before)[0])) as error:
        pi.prune(model, Given(scores), sparsity=sparsity, **options)
    safe = named(error)
    found = pi.prune(model, Given(scores), sparsity=safe, **options)
    assert not lost(found, before)
    # The slow twin: every count above the asked one.
    counts = range(masks.kept + 1, before.kept + 1)
    every = (pi.prune(model, Given(scores), sparsity=1 - k / total, allow_empty=True, **options) for k in counts)
    assert found.kept == next(some for some in every if not lost(some, before)).kept
    if found.kept > 1:
        with pytest.raises(pi.InputError, match="leaves nothing of"):
            pi.prune(model, Given(scores), sparsity=1 - (found.kept - 1) / total, **options)


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
@pytest.mark.parametrize(
    "sizes", [[(2, 2), (5, 7), (3, 3)], [(1, 1), (6, 6), (6, 6)], [(2, 1), (1, 3), (9, 4), (1, 1)]]
)
def test_the_named_sparsity_is_that_of_the_next_count_that_is_safe(sizes, scope):
    generator = torch.Generator().manual_seed(0)
    scores = {str(i): torch.rand(shape, generator=generator) for i, shape in enumerate(sizes)}
    choice = Choice(scores, scope, pi.Masks({name: torch.ones_like(s).bool() for name, s in scores.items()}))
    total = choice.room.total
    safe = {k: not choice.live(k).empty for k in range(1, total + 1)}
    assert not all(safe.values())
    for asked in (k for k, fine in safe.items() if not fine):
        expected = next(k for k in range(asked + 1, total + 1) if safe[k])
        assert choice.asked(float(safest(choice, 1 - asked / total, list(scores)))) == expected


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("seed", range(3))
def test_the_named_sparsity_is_safe_also_where_only_live_weights_count(problem, scope, seed):
    model, batch = problem.model(), problem.batch()
    options = {"scope": scope, "effective": True}
    with pytest.raises(pi.InputError, match="leaves nothing of") as error:
        pi.prune(model, pi.Random(seed), [batch], sparsity=0.999, **options)
    masks = pi.prune(model, pi.Random(seed), [batch], sparsity=named(error), **options)
    assert not masks.empty
    if scope == "global":
        with pytest.raises(pi.InputError, match="leaves nothing of"):
            pi.prune(model, pi.Random(seed), [batch], sparsity=1 - (masks.kept - 1) / masks.total, **options)


def test_no_sparsity_is_named_that_would_not_hold():
    """Layers that take turns, as rules for densities may make them: the selection found leaves others alive."""
    scores = {"a": torch.tensor([5.0, 4.0, 3.0, 2.0]), "b": torch.tensor([1.0])}
    room = pi.Masks({name: torch.ones_like(score).bool() for name, score in scores.items()})

    def alive(masks):
        return masks if masks.kept < 5 else pi.Masks({"a": torch.tensor([True, True, False, False]), "b": masks["b"]})

    choice = Choice(scores, "global", room, alive)
    assert safest(choice, 0.8, ["a", "b"]) is None
    with pytest.raises(pi.InputError, match="leaves nothing of b: take a lower one, or"):
        check_layers(choice, 0.8, choice.masks(0.8), ["a", "b"])


def test_the_layers_lost_are_named_and_counted():
    model = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(4)])
    best = torch.arange(16.0, 0.0, -1.0).view(4, 4)
    for count, words in ((1, ""), (2, " and 1 more layer"), (3, " and 2 more layers")):
        scores = {f"{i}.weight": best if i >= count else -best for i in range(4)}
        with pytest.raises(pi.InputError, match=f"^sparsity 0.9 leaves nothing of 0.weight{words}: the highest"):
            pi.prune(model, Given(scores), sparsity=0.9)
        assert len(pi.prune(model, Given(scores), sparsity=0.9, allow_empty=True).empty) == count


@pytest.mark.parametrize("criterion", [pi.Snip(), pi.Force()], ids=["snip", "force"])
def test_of_several_rounds_the_one_is_named_and_what_its_scores_allow(criterion):
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(12) for m in (nn.Linear(20, 20), nn.Tanh())], nn.Linear(20, 3))
    batch, seen = (torch.randn(32, 20), torch.randint(3, (32,))), []

    def spy(net, batches, masks):
        scores = criterion(net, batches, masks)
        seen.append((scores, masks))
        return scores

    spy.revives = getattr(criterion, "revives", False)
    with pytest.raises(pi.InputError, match=r"^round \d of 4, sparsity 0\.\d+ leaves nothing of .*lower") as error:
        pi.prune(model, spy, [batch], sparsity=0.995, rounds=4)
    number, safe = re.search(
        r"round (\d) of 4, .* of this round ([\d.]+) is the highest safe one", str(error.value)
    ).groups()
    (scores, masks), within = seen[-1], None if spy.revives else seen[-1][1]
    assert len(seen) == int(number)
    kept = pi.select(scores, float(safe), within=within)
    assert not kept.empty
    assert pi.select(scores, 1 - (kept.kept - 1) / masks.total, within=within).empty
    assert len(pi.prune(model, spy, [batch], sparsity=0.995, rounds=4, allow_empty=True).empty) > 0


def test_densities_that_round_to_nothing_are_no_wish_and_zero_is():
    model = nn.Sequential(nn.Linear(9, 3), nn.Linear(3, 9))
    with pytest.raises(pi.InputError, match=r"given leaves nothing of 0.weight: 0.01 of 27 .* give 0.037 to keep one"):
        pi.prune(model, pi.Random(), sparsity=None, scope={"0.weight": 0.01, "1.weight": 0.0})
    masks = pi.prune(model, pi.Random(), sparsity=None, scope={"0.weight": 0.037, "1.weight": 0.0})
    assert dict(masks.counts) == {"0.weight": (1, 27), "1.weight": (0, 27)}
    scope = {"0.weight": 0.01, "1.weight": 0.5}
    assert pi.prune(model, pi.Random(), sparsity=None, scope=scope, allow_empty=True).empty == ("0.weight",)


def test_densities_of_which_only_dead_weights_are_left_are_refused():
    model, batch = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), (torch.randn(2, 4), torch.tensor([0, 1]))
    scope = {"0.weight": 0.5, "1.weight": 0.0}
    with pytest.raises(pi.InputError, match="0.weight: what its density keeps is on no path"):
        pi.prune(model, pi.Random(), [batch], sparsity=None, scope=scope, effective=True)


def test_what_was_empty_before_is_not_lost():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    whole = {name: torch.ones(8, 8).bool() for name in pi.prunable(model)}
    pi.sparsify_(model, pi.Masks(whole | {"1.weight": torch.zeros(8, 8).bool()}))
    for rounds in (1, 4):
        assert pi.prune(model, pi.Magnitude(), sparsity=0.9, rounds=rounds).empty == ("1.weight",)


def test_a_layer_that_no_path_meets_in_the_whole_network_is_not_lost():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return self.used(x)

    batch = torch.randn(2, 6), torch.tensor([0, 1])
    masks = pi.prune(Half(), pi.Random(), [batch], sparsity=0.8, effective=True)
    assert masks.counts["unused.weight"] == (0, 36)
    assert masks.counts["used.weight"][0] > 0


def test_a_layer_without_values_is_not_lost():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch, of a weight without values
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 0), nn.Linear(0, 4))
    assert pi.prune(model, pi.Random(), sparsity=0.9).kept == 2


@pytest.mark.parametrize("name", IDS)
def test_a_refused_pruning_leaves_the_model_as_it_was(name):
    problem = PROBLEMS[IDS.index(name)]
    model = problem.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(pi.InputError, match="leaves nothing of"):
        pi.prune(model, pi.Magnitude(), sparsity=0.99, sanity="reinitialize")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
