"""Rounds of pruning with rescaling between them, against a plain loop over explicitly masked and rescaled copies."""

import copy

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.rescale import rescaling_factors
from pruneinit.survivors import survivors_of

pytestmark = pytest.mark.filterwarnings("ignore:neurons|the second moments of neurons")


def problem_named(name):
    return PROBLEMS[IDS.index(name)]


def scored(name, problem):
    """A criterion, and the same by hand for a dense model."""
    if name == "magnitude":
        return pi.Magnitude(), lambda model, batch: {n: model.get_parameter(n).abs() for n in pi.prunable(model)}
    criterion = pi.Snip(norm=problem.norm)

    def sensitivity(model, batch):
        if problem.norm == "running":
            model.eval()
        names = list(pi.prunable(model))
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        found = torch.autograd.grad(loss, [model.get_parameter(n) for n in names])
        return {n: (model.get_parameter(n) * g).abs().detach() for n, g in zip(names, found, strict=True)}

    return criterion, sensitivity


@pytest.mark.parametrize("unit", ["layer", "neuron"])
@pytest.mark.parametrize("criterion", ["snip", "magnitude"])
@pytest.mark.parametrize("name", ["dense", "conv-and-groups", "residual", "transposed-conv", "batch-norm"])
def test_rounds_equal_a_plain_loop_over_masked_and_rescaled_copies(name, criterion, unit):
    problem, sparsity, rounds = problem_named(name), 0.8, 4
    batch = problem.batch(40)
    used, by_hand = scored(criterion, problem)
    model = problem.model()
    masks = pi.prune(
        model, used, [batch], sparsity=sparsity, rounds=rounds, rescale=unit, norm=problem.norm, allow_empty=True
    )

    kept = pi.Masks({n: torch.ones(w.shape).bool() for n, w in pi.prunable(model).items()})
    factors = dict.fromkeys(kept, torch.ones(()))
    for r in range(1, rounds + 1):
        explicit = problem.model()
        for n, mask in kept.items():
            explicit.get_parameter(n).data *= mask * factors[n]
        kept = pi.select(by_hand(explicit, batch), 1 - (1 - sparsity) ** (r / rounds), within=kept)
        factors = rescaling_factors(problem.model(), [batch], masks=kept, method=unit, norm=problem.norm)
    assert kept == masks
    plain = pi.prune(model, used, [batch], sparsity=sparsity, rounds=rounds, allow_empty=True)
    assert (masks != plain) or problem.norm  # normalisation undoes most of it


@pytest.mark.parametrize("unit", ["layer", "neuron"])
def test_the_model_is_left_exactly_as_it_was(unit):
    problem = problem_named("conv-and-groups")
    model, batch = problem.model(), problem.batch(40)
    before = copy.deepcopy(model.state_dict())
    kinds = [type(module) for module in model.modules()]
    state = torch.get_rng_state()
    pi.prune(model, pi.Snip(), [batch], sparsity=0.8, rounds=3, rescale=unit)
    assert [type(module) for module in model.modules()] == kinds
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_criterion_sees_factor_times_weight_and_the_masks_of_the_round_before():
    problem = problem_named("dense")
    model, batch, seen = problem.model(), problem.batch(40), []

    def criterion(net, batches, masks):
        seen.append((pi.second_moments(net, batches, masks=masks), masks.density))
        return pi.Snip()(net, batches, masks)

    masks = pi.prune(model, criterion, [batch], sparsity=0.7, rounds=5, rescale="layer")
    dense = pi.second_moments(model, [batch])
    for number, (moments, density) in enumerate(seen):
        assert moments == pytest.approx(dense, rel=1e-9)
        assert density == pytest.approx(0.3 ** (number / 5), abs=1 / masks.total)


def test_random_scores_do_not_depend_on_rescaling():
    problem = problem_named("dense")
    batches = [problem.batch(40)]
    plain = pi.prune(problem.model(), pi.Random(), sparsity=0.6, rounds=3)
    assert pi.prune(problem.model(), pi.Random(), batches, sparsity=0.6, rounds=3, rescale="neuron") == plain


def test_scores_that_are_relative_to_their_layer_do_not_depend_on_rescaling_by_layer():
    problem = problem_named("conv-and-groups")
    batches = [problem.batch(40)]
    plain = pi.prune(problem.model(), pi.Lamp(), sparsity=0.6, rounds=3)
    assert pi.prune(problem.model(), pi.Lamp(), batches, sparsity=0.6, rounds=3, rescale="layer") == plain


def test_a_model_that_several_processes_share_is_refused(monkeypatch):
    monkeypatch.setattr("pruneinit.between.groups_of", lambda model: ("a group",))
    batch = torch.randn(40, 3), torch.zeros(40).long()
    with pytest.raises(pi.InputError, match="calibrates in one process, and several share this model"):
        pi.prune(nn.Linear(3, 2), pi.Snip(), [batch], sparsity=0.5, rounds=2, rescale="layer")


def test_magnitudes_of_thin_layers_count_for_more():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 4))
    model[2].weight.data *= 0.5  # one global threshold takes most from this layer
    batch = torch.randn(64, 40), torch.zeros(64).long()
    plain = pi.prune(model, pi.Magnitude(), sparsity=0.7, rounds=10)
    found = pi.prune(model, pi.Magnitude(), [batch], sparsity=0.7, rounds=10, rescale="layer")
    assert found.densities["2.weight"] > 1.5 * plain.densities["2.weight"]


def test_a_sparsified_model_is_brought_back_to_what_it_was_when_it_was_given():
    problem = problem_named("dense")
    batch, seen = problem.batch(40), []
    model = problem.model()
    first = pi.prune(model, pi.Magnitude(), sparsity=0.3)
    pi.sparsify_(pi.rescale_(model, [batch], masks=first, method="layer"), first)
    given = pi.second_moments(model, [batch])

    def criterion(net, batches, masks):
        seen.append(pi.second_moments(net, batches, masks=masks))
        return pi.Snip()(net, batches, masks)

    second = pi.prune(model, criterion, iter([batch]), sparsity=0.8, rounds=3, rescale="layer")
    assert (first & second) == second
    assert all(moments == pytest.approx(given, rel=1e-6) for moments in seen)
    assert survivors_of(model, "0.weight").mask.equal(first["0.weight"])


def test_rounds_of_the_criterions_own_are_rescaled_between_and_weights_still_come_back():
    problem = problem_named("dense")
    batch, seen = problem.batch(40), []

    class Watched(pi.Force):
        def __call__(self, model, batches=None, masks=None):
            seen.append(masks)
            return super().__call__(model, batches, masks)

    masks = pi.prune(problem.model(), Watched(rounds=6), [batch], sparsity=0.7, rescale="neuron", allow_empty=True)
    assert len(seen) == 6
    assert any((a & b) != b for a, b in zip(seen, [*seen[1:], masks], strict=True))


def test_effective_rounds_can_be_rescaled_between_too():
    problem = problem_named("dense")
    model, batch = problem.model(), problem.batch(40)
    masks = pi.prune(model, pi.Snip(), [batch], sparsity=0.6, rounds=3, effective=True, rescale="neuron")
    assert pi.effective_masks(model, [batch], masks) == masks


def test_only_the_chosen_weights_are_rescaled():
    problem = problem_named("dense")
    model, batch, seen = problem.model(), problem.batch(40), []

    def criterion(net, batches, masks):
        seen.append(type(net[4]).__name__)
        return pi.Snip()(net, batches, masks)

    pi.prune(model, criterion, [batch], sparsity=0.5, rounds=3, exclude="4.weight", rescale="neuron")
    assert seen == ["Linear"] * 3


@pytest.mark.filterwarnings("default:the second moments of neurons")
def test_too_few_examples_are_reported_once():
    problem = problem_named("dense")
    with pytest.warns(UserWarning, match="as few as 8 values") as warned:
        pi.prune(problem.model(), pi.Snip(), [problem.batch(8)], sparsity=0.5, rounds=4, rescale="neuron")
    assert len(warned) == 1


class Uncopyable(nn.Linear):
    def __deepcopy__(self, memo):
        raise RuntimeError("no copies of me")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rounds": 1}, "rescale='neuron' rescales between rounds, and there is one: ask for several, rounds=20"),
        ({"rounds": None}, "and there is one"),
        ({"rescale": "neurons"}, "unknown rescaling between rounds 'neurons'.*did you mean 'neuron'"),
        ({"rescale": "formula"}, "unknown rescaling between rounds 'formula'"),
        ({"batches": None}, "rescale='neuron' calibrates on data: pass batches="),
        ({"batches": []}, "there are no batches"),
        ({"batches": [(torch.full((40, 3), torch.nan), torch.zeros(40).long())]}, "holds NaN or inf"),
        ({"sparsity": None, "scope": {"weight": 0.5}}, "several rounds need a sparsity"),
        ({"model": Uncopyable(3, 2)}, "Uncopyable cannot be copied by copy.deepcopy: no copies of me"),
        ({"model": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))}, "say norm='batch' or norm='running'"),
        ({"norm": "bach"}, "unknown norm 'bach'"),
    ],
)
def test_what_is_impossible_is_refused(options, message):
    given = {
        "model": nn.Linear(3, 2),
        "criterion": pi.Magnitude(),
        "batches": [(torch.randn(40, 3), torch.zeros(40).long())],
        "sparsity": 0.5,
        "rounds": 3,
        "rescale": "neuron",
    } | options
    with pytest.raises(pi.InputError, match=message):
        pi.prune(given.pop("model"), given.pop("criterion"), given.pop("batches"), **given)


def test_an_exploding_network_is_refused_by_the_name_of_the_layer_and_stays_as_it_was():
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(40)])
    for layer in model:
        nn.init.constant_(layer.weight, 1e3)
    batch = torch.ones(40, 4), torch.zeros(40).long()
    with pytest.raises(pi.InputError, match=r"the second moment of \d+.weight is (inf|nan) in the dense"):
        pi.prune(model, pi.Random(), [batch], sparsity=0.5, rounds=2, rescale="layer", allow_empty=True)
    assert all(type(layer) is nn.Linear for layer in model)


def test_deep_tanh_networks_keep_their_layers_only_with_rescaling_between_rounds():
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(50, 50), nn.Tanh())], nn.Linear(50, 10))
    pi.edge_of_chaos_(model, "tanh")
    batch = torch.randn(100, 50), torch.randint(10, (100,))
    options = {"sparsity": 0.95, "rounds": 10, "allow_empty": True}
    assert pi.prune(model, pi.Snip(), [batch], **options).empty
    assert not pi.prune(model, pi.Snip(), [batch], rescale="neuron", **options).empty
