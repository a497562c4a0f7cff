import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.sanity import shuffled

DENSE = PROBLEMS[0]


def pruned(model, problem=DENSE, criterion=None, sparsity=0.6, **options):
    criterion = criterion or pi.Snip(norm=problem.norm)
    return pi.prune(model, criterion, [problem.batch()], sparsity=sparsity, allow_empty=True, **options)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("scope", ["global", "erk"])
def test_shuffled_masks_have_the_counts_and_other_places(problem, scope):
    model = problem.model()
    before, random = state(model), torch.get_rng_state()
    plain = pruned(model, problem, scope=scope)
    masks = pruned(model, problem, scope=scope, sanity="shuffle")
    assert masks.counts == plain.counts
    assert list(masks) == list(plain)
    assert masks.iou(plain) < 0.7
    assert same(model, before)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("sanity", ["shuffle", "reinitialize"])
def test_the_seed_alone_decides(sanity):
    def found(state, seed, **options):
        model = DENSE.model()
        torch.manual_seed(state)
        return pruned(model, sanity=sanity, seed=seed, **options), model.get_parameter("2.weight").detach()

    first, again, other = found(1, 5), found(2, 5), found(1, 6)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert not (first[0] == other[0] and torch.equal(first[1], other[1]))
    # Each weight has a stream of its own: what else is pruned makes no difference.
    alone = found(1, 5, include="2.weight", scope="layer"), found(1, 5, scope="layer")
    assert torch.equal(alone[0][1], alone[1][1])


@pytest.mark.parametrize("sanity", ["shuffle", "reinitialize"])
def test_layers_of_one_shape_are_moved_differently(sanity):
    model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    model[1].load_state_dict(model[0].state_dict())
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5, scope="layer", sanity=sanity)
    moved = masks if sanity == "shuffle" else model.state_dict()
    assert not torch.equal(moved["0.weight"], moved["1.weight"])


def test_places_are_all_as_likely():
    whole = pi.Masks({"weight": torch.ones(4, 5).bool()})
    some = pi.Masks({"weight": torch.arange(20).view(4, 5) < 6})
    counts = sum(shuffled(some, whole, seed)["weight"].int() for seed in range(2000))
    assert counts.float().mean() == pytest.approx(600)
    assert (counts - 600).abs().max() < 5 * (2000 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize("sanity", ["shuffle", "invert", "reinitialize"])
@pytest.mark.parametrize("criterion", [pi.Snip(), pi.Force(rounds=3)], ids=["snip", "force"])
def test_of_a_sparsified_model_only_survivors_are_kept_and_moved(sanity, criterion):
    model = DENSE.model()
    first = pruned(model, sparsity=0.3)
    values = {name: model.get_parameter(name)[mask] for name, mask in first.items()}
    pi.sparsify_(model, first)
    second = pruned(model, criterion=criterion, sparsity=0.6, sanity=sanity)
    assert (first & second) == second
    assert second.kept == round(0.4 * second.total)
    for name, value in values.items():
        module = model.get_submodule(name.removesuffix(".weight"))
        left = module.parametrizations.weight.original
        assert torch.equal(left.sort().values, value.sort().values)
        assert torch.equal(left, value) == (sanity != "reinitialize")
        assert torch.equal(module.weight != 0, first[name])


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_inverted_is_the_lowest_scores(problem):
    model = problem.model()
    masks = pruned(model, problem, sanity="invert")
    scores = torch.cat([s.flatten() for s in pi.score(model, pi.Snip(norm=problem.norm), [problem.batch()]).values()])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert scores[kept].max() <= scores[~kept].min()
    assert masks != pruned(model, problem)


@pytest.mark.parametrize("revives", [False, True])
def test_inverted_rounds_keep_the_lowest_of_each_and_count_nothing_that_is_gone(revives):
    """The twin sorts in Python; a weight that is gone has score 0, the lowest there is."""
    model, batch = DENSE.model(), DENSE.batch()
    criterion = pi.Force(rounds=3) if revives else pi.IterativeSnip(rounds=3)
    masks = pi.prune(model, criterion, [batch], sparsity=0.4, sanity="invert", allow_empty=True)
    kept = pi.Masks({n: torch.ones(w.shape).bool() for n, w in pi.prunable(model).items()})
    for number in (1, 2, 3):
        scores = criterion(model, [batch], kept)
        places = sorted(
            (float(score.flatten()[i]), list(scores).index(name), i)
            for name, score in scores.items()
            for i in range(score.numel())
            if revives or kept[name].flatten()[i]
        )
        count = round(0.6 ** (number / 3) * kept.total)
        new = {name: torch.zeros(mask.numel()).bool() for name, mask in kept.items()}
        for _, layer, i in places[:count]:
            new[list(scores)[layer]][i] = True
        kept = pi.Masks({name: mask.view(kept[name].shape) for name, mask in new.items()})
    assert kept == masks


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_reinitialized_weights_are_the_same_values_elsewhere_and_nothing_else_changes(problem):
    model, twin = problem.model(), problem.model()
    parameters, random = dict(model.named_parameters()), torch.get_rng_state()
    masks = pruned(model, problem, sanity="reinitialize")
    assert masks == pruned(twin, problem)
    before, weights = twin.state_dict(), {a for w in pi.prunable(twin).values() for a in (w.name, *w.aliases)}
    if problem.name == "module-of-two-names":
        weights.add("second.weight")
    for name, value in model.state_dict().items():
        if name not in weights:
            assert torch.equal(value, before[name]), name
        else:
            assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values)
            assert not torch.equal(value, before[name])
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_weights_left_out_are_not_reinitialized():
    model, twin = DENSE.model(), DENSE.model()
    pruned(model, sanity="reinitialize", exclude="0.*")
    assert torch.equal(model[0].weight, twin[0].weight)
    assert not torch.equal(model[2].weight, twin[2].weight)


def test_factors_of_rescaling_and_of_branches_stay_where_they_are():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model = problem.model()
    masks = pruned(model, problem, sparsity=0.3)
    pi.sparsify_(pi.rescale_(model, masks=masks, method="tap"), masks)
    links = model[0].parametrizations.weight
    survivors, factor = links.original.detach().clone(), links[1].factor.clone()
    assert len(factor.unique()) > 1
    pruned(model, problem, sanity="reinitialize")
    assert torch.equal(links[1].factor, factor)
    assert torch.equal(links.original.sort().values, survivors.sort().values)
    assert not torch.equal(links.original, survivors)


def test_a_weight_of_another_librarys_parametrization_is_refused_before_anything_is_done():
    model = nn.Sequential(nn.Linear(5, 5), parametrizations.weight_norm(nn.Linear(5, 3)))
    before = state(model)

    def never(net, batches, masks):
        raise AssertionError

    with pytest.raises(pi.InputError, match="1.weight is already parametrised by _WeightNorm.*exclude="):
        pi.prune(model, never, sparsity=0.5, sanity="reinitialize")
    assert same(model, before)
    assert pi.prune(model, pi.Magnitude(), sparsity=0.5, sanity="shuffle").kept == 20
    pi.prune(model, pi.Magnitude(), sparsity=0.5, sanity="reinitialize", exclude="1.*")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sanity": "shufle"}, "unknown sanity check 'shufle'.*did you mean 'shuffle'"),
        ({"sanity": "none"}, "unknown sanity check 'none'"),
        ({"sanity": True}, "unknown sanity check 'True'"),
        ({"sanity": "shuffle", "seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"sanity": "shuffle", "seed": None}, "seed must be a whole number, got None"),
    ],
)
def test_impossible_checks(options, message):
    with pytest.raises(pi.InputError, match=message):
        pi.prune(nn.Linear(3, 3), pi.Magnitude(), sparsity=0.5, **options)


def test_shuffled_effective_masks_keep_their_counts():
    model, batch = DENSE.model(), DENSE.batch()
    options = {"sparsity": 0.6, "effective": True}
    live = pi.prune(model, pi.Random(), [batch], **options)
    masks = pi.prune(model, pi.Random(), [batch], sanity="shuffle", **options)
    assert masks.counts == live.counts
    assert pi.effective_masks(model, [batch], masks).kept < masks.kept
