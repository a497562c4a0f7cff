import math

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS, SharedLayer
from pruneinit.reparametrize import factor, stored
from pruneinit.weights import prunable, weight


def problem_named(name):
    return PROBLEMS[IDS.index(name)]


def pruned(problem, sparsity=0.5):
    model = problem.model()
    return model, pi.prune(model, pi.Random(seed=2), sparsity=sparsity, scope="layer")


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense-with-masks", "sparsified"])
def test_the_formula_restores_the_norm_of_every_weight(problem, sparse):
    model, masks = pruned(problem)
    norms = {name: weight(model, name).norm().item() for name in masks}
    if sparse:
        pi.rescale_(pi.sparsify_(model, masks))
    else:
        pi.sparsify_(pi.rescale_(model, masks=masks), masks)
    for name in masks:
        assert weight(model, name).norm().item() == pytest.approx(norms[name], rel=1e-6)


@pytest.mark.parametrize("name", ["conv-and-groups", "conv1d", "conv3d"])
def test_per_tap_the_formula_restores_the_norm_of_every_tap(name):
    model, masks = pruned(problem_named(name))
    before = {n: weight(model, n).square().sum((0, 1)) for n in masks}
    pi.rescale_(pi.sparsify_(model, masks), method="tap")
    for n in masks:
        after = weight(model, n).square().sum((0, 1))
        kept = masks[n].flatten(2).any(1).any(0).view(after.shape) if after.dim() else masks[n].any()
        torch.testing.assert_close(after, torch.where(kept, before[n], torch.zeros(()).double()), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("order", ["rescale-first", "sparsify-first"])
def test_calibration_restores_every_second_moment(problem, order):
    model, masks = pruned(problem)
    batch = problem.batch(32)
    targets = pi.second_moments(model, [batch], norm=problem.norm)
    if order == "rescale-first":
        pi.sparsify_(pi.rescale_(model, [batch], masks=masks, norm=problem.norm), masks)
    else:
        pi.rescale_(pi.sparsify_(model, masks), [batch], targets=targets, norm=problem.norm)
    assert pi.second_moments(model, [batch], norm=problem.norm) == pytest.approx(targets, rel=1e-9)


def test_several_batches_calibrate_as_one():
    problem = problem_named("dense")
    x, y = problem.batch(32)
    factors = []
    for batches in ([(x, y)], [(x[:5], y[:5]), (x[5:], y[5:])]):
        model, masks = pruned(problem)
        pi.rescale_(model, batches, masks=masks)
        factors.append([factor(model, name).item() for name in masks])
    assert factors[0] == pytest.approx(factors[1])


def test_a_layer_that_runs_twice_is_calibrated_on_its_first_run():
    model = SharedLayer().double()
    masks = pi.prune(model, pi.Random(), sparsity=0.5, scope="layer")
    batch = (torch.randn(32, 6, dtype=torch.float64), torch.zeros(32).long())
    targets = pi.second_moments(model, [batch])
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks), masks)
    assert pi.second_moments(model, [batch])["layer.weight"] == pytest.approx(targets["layer.weight"])


@pytest.mark.parametrize("method", ["formula", "tap", "layer"])
def test_folding_computes_the_same_function_and_leaves_no_factor(method):
    problem = problem_named("conv-and-groups")
    batch = problem.batch(32)
    outputs = []
    for fold in (False, True):
        model, masks = pruned(problem)
        targets = pi.second_moments(model, [batch])
        pi.sparsify_(model, masks)
        pi.rescale_(model, [batch], method=method, targets=targets, fold=fold)
        outputs.append(model(batch[0]))
        assert (factor(model, "0.weight").numel() == 1 and factor(model, "0.weight").item() == 1) == fold
    torch.testing.assert_close(outputs[0], outputs[1])


def test_a_kept_factor_is_in_the_gradient_and_a_folded_one_is_not():
    problem = problem_named("dense")
    batch = problem.batch()
    grads, factors = {}, {}
    for fold in (False, True):
        model, masks = pruned(problem)
        pi.rescale_(pi.sparsify_(model, masks), fold=fold)
        torch.nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
        grads[fold] = stored(model, "0.weight").grad
        factors[fold] = factor(model, "0.weight").item()
    assert factors[True] == 1 != factors[False]
    torch.testing.assert_close(grads[False], factors[False] * grads[True])


def test_folding_twice_by_the_formula_is_folding_once():
    model, masks = pruned(problem_named("dense"))
    pi.rescale_(pi.sparsify_(model, masks), fold=True)
    once = {name: weight(model, name).clone() for name in masks}
    pi.rescale_(model, fold=True)
    for name in masks:
        torch.testing.assert_close(weight(model, name), once[name], rtol=1e-6, atol=1e-9)


def test_folding_into_a_dense_model_is_refused():
    model, masks = pruned(problem_named("dense"))
    with pytest.raises(pi.InputError, match="sparsify_ the model first"):
        pi.rescale_(model, masks=masks, fold=True)


@pytest.mark.parametrize("method", ["formula", "layer"])
def test_recalibrating_a_rescaled_dense_model_starts_from_its_own_weights(method):
    model, masks = pruned(problem_named("dense"))
    batch = problem_named("dense").batch(32)
    pi.rescale_(model, [batch], masks=masks, method=method)
    first = {name: factor(model, name).item() for name in masks}
    pi.rescale_(model, [batch], masks=masks, method=method)
    assert {name: factor(model, name).item() for name in masks} == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize(
    "masks, message",
    [
        ({"0.weigth": torch.ones(7, 5).bool()}, "unknown weight in the masks '0.weigth'"),
        ({"0.weight": torch.ones(1, 5).bool()}, r"has shape \(1, 5\), the weight has \(7, 5\)"),
    ],
    ids=["name", "broadcastable-shape"],
)
def test_masks_of_another_model_are_refused_everywhere(masks, message):
    model, batch = problem_named("dense").model(), problem_named("dense").batch()
    for use in (
        lambda: pi.rescale_(model, masks=pi.Masks(masks)),
        lambda: pi.second_moments(model, [batch], masks=pi.Masks(masks)),
        lambda: pi.diagnose(model, [batch], pi.Masks(masks)),
        lambda: pi.Snip()(model, [batch], pi.Masks(masks)),
    ):
        with pytest.raises(pi.InputError, match=message):
            use()


def test_a_second_call_replaces_the_factors_of_the_first():
    model, masks = pruned(problem_named("dense"))
    pi.sparsify_(model, masks)
    pi.rescale_(model)
    first = {name: factor(model, name).item() for name in masks}
    pi.rescale_(model)
    assert {name: factor(model, name).item() for name in masks} == first


def test_biases_and_stored_values_are_not_touched():
    model, masks = pruned(problem_named("dense"))
    pi.sparsify_(model, masks)
    before = {n: p.clone() for n, p in model.named_parameters()}
    pi.rescale_(model)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_an_empty_layer_is_named_in_a_warning_and_keeps_factor_one():
    model = problem_named("dense").model()
    masks = pi.prune(model, pi.Random(), sparsity=None, scope={"0.weight": 0.5, "2.weight": 0.0, "4.weight": 0.5})
    with pytest.warns(UserWarning, match=r"nothing is left of 2.weight"):
        pi.rescale_(model, masks=masks)
    assert factor(model, "2.weight").item() == 1
    model[2].bias.data.zero_()
    with pytest.warns(UserWarning, match="signal") as warned:
        pi.rescale_(model, [problem_named("dense").batch()], masks=masks)
    assert [str(w.message).split(",")[0].split(":")[0] for w in warned] == [
        "no signal reaches 4.weight",
        "nothing is left of 2.weight",
    ]


def test_a_dense_layer_that_puts_out_nothing_is_not_scaled_to_nothing():
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2))
    model[0].weight.data = torch.tensor([[1.0, -1.0]])
    masks = pi.Masks({"0.weight": torch.tensor([[True, False]])})
    with pytest.warns(UserWarning, match="no signal reaches 0.weight"):
        pi.rescale_(model, [(torch.ones(4, 2), torch.zeros(4).long())], masks=masks)
    assert factor(model, "0.weight").item() == 1


def test_calibration_keeps_the_signal_of_a_deep_tanh_network_where_pruning_kills_it():
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(30) for m in (nn.Linear(100, 100), nn.Tanh())], nn.Linear(100, 10))
    for found in prunable(model).values():
        nn.init.normal_(model.get_parameter(found.name), std=1.3041 / math.sqrt(100))
    batch = (torch.randn(128, 100), torch.randint(10, (128,)))
    masks = pi.prune(model, pi.Snip(), [batch], sparsity=0.9)
    dense, gone = pi.second_moments(model, [batch]), pi.second_moments(model, [batch], masks=masks)
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks), masks)
    back = pi.second_moments(model, [batch])
    assert gone["60.weight"] < 0.05 * dense["60.weight"]
    assert back["60.weight"] == pytest.approx(dense["60.weight"], rel=1e-4)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({}, "the model is dense: pass the masks"),
        ({"method": "layers"}, "unknown rescaling method 'layers'.*did you mean 'layer'"),
        ({"method": "layer", "masks": True}, "calibrates on data: pass batches="),
    ],
    ids=["no-masks", "misspelt", "no-data"],
)
def test_what_is_missing_is_named(kwargs, message):
    model, masks = pruned(problem_named("dense"))
    with pytest.raises(pi.InputError, match=message):
        pi.rescale_(model, **kwargs | ({"masks": masks} if "masks" in kwargs else {}))


def test_calibrating_a_sparsified_model_needs_the_dense_moments():
    model, masks = pruned(problem_named("dense"))
    pi.sparsify_(model, masks)
    batch = problem_named("dense").batch()
    with pytest.raises(pi.InputError, match="pass targets=second_moments"):
        pi.rescale_(model, [batch])
    with pytest.raises(pi.InputError, match="targets has no second moment for 2.weight; it has 0.weight"):
        pi.rescale_(model, [batch], targets={"0.weight": 1.0})
    with pytest.raises(pi.InputError, match="the target of 0.weight is -1: second moments are at least 0"):
        pi.rescale_(model, [batch], targets={"0.weight": -1.0})


def test_a_failed_call_leaves_earlier_factors_in_place():
    model, masks = pruned(problem_named("dense"))
    pi.rescale_(pi.sparsify_(model, masks))
    first = factor(model, "0.weight").item()
    with pytest.raises(pi.InputError):
        pi.rescale_(model, [problem_named("dense").batch()])
    assert factor(model, "0.weight").item() == first != 1


def test_an_exploding_dense_network_is_refused():
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(40)])
    for layer in model:
        nn.init.constant_(layer.weight, 1e3)
    masks = pi.prune(model, pi.Random(), sparsity=0.1)
    with pytest.raises(pi.InputError, match="no finite signal to go back to"):
        pi.rescale_(model, [(torch.ones(2, 4), torch.zeros(2).long())], masks=masks)


class UsesWeightDirectly(nn.Module):
    """A layer whose weight is used without calling the layer, so that no hook sees it."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.tanh(nn.functional.linear(x, self.hidden.weight)))


def test_a_weight_that_no_hook_sees_gets_the_formula_and_the_next_layer_is_still_calibrated():
    torch.manual_seed(0)
    model = UsesWeightDirectly().double()
    norm = model.hidden.weight.norm().item()
    batch = (torch.randn(32, 6).double(), torch.zeros(32).long())
    masks = pi.prune(model, pi.Random(), sparsity=0.5, scope="layer")
    targets = pi.second_moments(model, [batch])
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks), masks)
    assert list(targets) == ["head.weight"]
    assert model.hidden.weight.norm().item() == pytest.approx(norm, rel=1e-6)
    assert pi.second_moments(model, [batch]) == pytest.approx(targets)


def test_the_energy_of_the_dense_weight_survives_further_pruning():
    model = problem_named("dense").model()
    norms = {name: weight(model, name).norm().item() for name in prunable(model)}
    for sparsity in (0.3, 0.6):
        pi.sparsify_(model, pi.prune(model, pi.Random(seed=2), sparsity=sparsity, scope="layer"))
    pi.rescale_(model)
    assert {name: weight(model, name).norm().item() for name in norms} == pytest.approx(norms, rel=1e-6)


class AliasFirst(nn.Module):
    """Tied layers of which the one that is registered last runs first."""

    def __init__(self):
        super().__init__()
        self.named, self.alias, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.alias.weight = self.named.weight

    def forward(self, x):
        return self.head(torch.tanh(self.named(torch.tanh(self.alias(x)))))


@pytest.mark.parametrize("order", ["rescale-first", "sparsify-first"])
def test_tied_layers_are_calibrated_on_the_one_that_runs_first(order):
    torch.manual_seed(0)
    model = AliasFirst().double()
    batch = (torch.randn(64, 6).double(), torch.zeros(64).long())
    masks = pi.prune(model, pi.Random(), sparsity=0.5, scope="layer")

    def first_run():
        return (model.alias(batch[0]) - model.alias.bias).square().mean().item()

    dense, targets = first_run(), pi.second_moments(model, [batch])
    if order == "rescale-first":
        pi.sparsify_(pi.rescale_(model, [batch], masks=masks), masks)
    else:
        pi.rescale_(pi.sparsify_(model, masks), [batch], targets=targets)
    assert first_run() == pytest.approx(dense)
    assert pi.second_moments(model, [batch]) == pytest.approx(targets)


class Standardised(nn.Linear):
    """Standardises its weight, which undoes any factor on it."""

    def forward(self, x):
        weight = self.weight - self.weight.mean(1, keepdim=True)
        return nn.functional.linear(x, weight / (weight.std(1, keepdim=True) + 1e-6), self.bias)


def test_layers_after_one_that_undoes_factors_are_calibrated_on_what_it_puts_out():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), Standardised(16, 16), nn.Tanh(), nn.Linear(16, 4))
    batch = torch.randn(32, 16), torch.randint(4, (32,))
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.8, scope="layer")
    dense = pi.second_moments(model, [batch])
    pi.rescale_(model, [batch], masks=masks)
    after = pi.second_moments(model, [batch], masks=masks)
    assert after["4.weight"] == pytest.approx(dense["4.weight"], rel=1e-4)


def test_a_weight_that_is_an_embedding_too_has_its_factor_before_the_layers_are_calibrated():
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.inner = nn.Embedding(16, 16), nn.Linear(16, 16)
            self.head = nn.Linear(16, 16, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(torch.tanh(self.inner(self.embed(x))))

    torch.manual_seed(0)
    model = Language()
    batch = torch.randint(16, (32,)), torch.randint(16, (32,))
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.8, scope="layer")
    dense = pi.second_moments(model, [batch])
    pi.rescale_(model, [batch], masks=masks)
    after = pi.second_moments(model, [batch], masks=masks)
    assert after["inner.weight"] == pytest.approx(dense["inner.weight"], rel=1e-4)
