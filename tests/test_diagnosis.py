import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.diagnosis import Diagnosis
from pruneinit.findings import Layer, Outputs
from pruneinit.propagation import Signal
from wide import batch, mlp


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_every_weight_is_listed_with_its_counts_and_moments(problem):
    model, data = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    found = pi.diagnose(model, [data], masks, norm=problem.norm)
    assert {layer.name: (layer.kept, layer.total) for layer in found.layers} == masks.counts
    assert found.sparsity == pytest.approx(masks.sparsity)
    alive = pi.effective_masks(model, [data], masks)
    assert {layer.name: layer.alive for layer in found.layers} == {n: kept for n, (kept, _) in alive.counts.items()}
    assert found.effective_sparsity == pytest.approx(alive.sparsity)
    for stage, some in (("dense", None), ("pruned", masks)):
        expected = pi.second_moments(model, [data], masks=some, norm=problem.norm)
        assert {n: s.second_moment for n, s in found.stages[stage].items()} == pytest.approx(expected)
        assert [layer.name for layer in found.layers][: len(expected)] == list(expected)
    assert str(found).count("\n") > len(masks)


def test_what_rescaling_would_do_is_what_it_does():
    model, data = mlp([30] + [60] * 10 + [10], "tanh", 1.3041, 0.2, 0), batch(30, 64, 10, 0)
    masks = pi.prune(model, pi.Snip(), [data], sparsity=0.9)
    tried = pi.diagnose(model, [data], masks).stages["rescaled"]
    done = pi.diagnose(pi.sparsify_(pi.rescale_(model, [data], masks=masks), masks), [data])
    assert list(done.stages) == ["pruned", "rescaled"]
    for name, signal in done.stages["rescaled"].items():
        assert signal.second_moment == pytest.approx(tried[name].second_moment, rel=1e-4)
    assert done.forecast is None


def test_a_sparsified_model_needs_no_masks():
    model, data = PROBLEMS[0].model(), PROBLEMS[0].batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    expected = pi.diagnose(model, [data], masks)
    found = pi.diagnose(pi.sparsify_(model, masks), [data])
    assert [(x.name, x.kept, x.alive) for x in found.layers] == [(x.name, x.kept, x.alive) for x in expected.layers]
    assert list(found.stages) == ["pruned"]


def diagnosed(activation, sigma_w, sigma_b, sparsity=0.9):
    model, data = mlp([64] + [100] * 29 + [10], activation, sigma_w, sigma_b, 0), batch(64, 128, 10, 0)
    return pi.diagnose(model, [data], pi.prune(model, pi.Snip(), [data], sparsity=sparsity, allow_empty=True))


def test_a_pruned_network_on_the_edge_is_not_called_healthy_and_rescaling_is_advised():
    found = diagnosed("tanh", 1.3041, 0.2)
    assert found.chi("dense") == pytest.approx(1, abs=0.06)
    assert found.chi("pruned") < 0.7
    assert found.chi("rescaled") == pytest.approx(1, abs=0.1)
    assert "gradient vanishes" in found.verdict
    assert any("Rescale the survivors" in line for line in found.advice)
    assert not any("Initialise on the Edge" in line for line in found.advice)
    assert not found.collapsed


@pytest.mark.parametrize("sigma_w, sigma_b, phase", [(0.8, 0.05, "ordered"), (2.0, 0.2, "chaotic")])
def test_off_the_edge_it_is_the_initialisation_that_is_advised(sigma_w, sigma_b, phase):
    found = diagnosed("tanh", sigma_w, sigma_b, sparsity=0.95)
    assert any(f"in the {phase} phase" in line and "edge_of_chaos_" in line for line in found.advice)


def test_a_healthy_network_is_told_so_and_needs_no_advice():
    model, data = mlp([64] + [200] * 9 + [10], "tanh", 1.3041, 0.2, 0), batch(64, 128, 10, 0)
    found = pi.diagnose(model, [data])
    assert "close to the Edge of Chaos" in found.verdict
    assert found.advice == ()
    assert list(found.stages) == ["dense"]


def test_lost_layers_are_a_collapse():
    found = diagnosed("tanh", 0.5, 0.05, sparsity=0.98)
    assert found.empty
    assert found.collapsed
    assert "empty" in found.verdict


def test_a_residual_network_is_advised_to_be_stable():
    model = pi.models.build("resnet32", input_shape=(1, 8, 8), classes=10, width=8)
    pi.edge_of_chaos_(model, "relu", generator=torch.Generator().manual_seed(0))
    data = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    masks = pi.prune(model, pi.Snip(norm="batch"), [data], sparsity=0.98, allow_empty=True)
    found = pi.diagnose(model, [data], masks, norm="batch")
    assert found.branches == 15
    assert any("stabilize_residuals_" in line for line in found.advice)
    pi.stabilize_residuals_(model, data[0][:1])
    assert pi.diagnose(model, [data], norm="batch").stable


def test_the_forecast_stands_beside_the_masks():
    model, data = mlp([64] + [100] * 5 + [10], "tanh", 1.3041, 0.2, 0), batch(64, 128, 10, 0)
    masks = pi.prune(model, pi.Snip(), [data], sparsity=0.8)
    found = pi.diagnose(model, [data], masks)
    assert found.forecast.densities(0.8) == pytest.approx({x.name: x.density for x in found.layers}, rel=0.02)
    assert {x.name: x.expected for x in found.layers} == pytest.approx(found.forecast.law.densities(0.8))
    assert found.conditioning == found.forecast.conditioning
    assert set(found.expected) == set(found.stages["dense"])


@pytest.mark.parametrize(
    "moments, gradients, words",
    [
        ([1.0, 0.9, 1.1, 1.0], [1.0, 1.0, 1.0, 1.0], "close to the Edge of Chaos"),
        ([1.0, 0.9, 1.1, 1.0], [1.0, 1.0, 2.0, 2.0], "gradient arrives, its square changed by"),
        ([1.0, 0.9, 1.1, 1.0], [1e-9, 1e-6, 1.0, 1.0], "gradient vanishes"),
        ([1.0, 0.9, 1.1, 1.0], [1e9, 1e6, 1.0, 1.0], "gradient explodes"),
        ([1.0, 0.9, 1.1, 1.0], [0.0, 0.0, 1.0, 1.0], "No gradient comes back"),
        ([1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], "No signal passes"),
        ([1.0, 1.0, float("inf"), float("nan")], [1.0, 1.0, 1.0, 1.0], "not finite"),
        ([1.0, 1.0], [1.0, 1.0], "too few layers"),
    ],
)
def test_the_verdict_says_what_the_numbers_mean(moments, gradients, words):
    layers = tuple(Layer(str(i), "linear", (5, 5), 25, 15, 15) for i in range(len(moments)))
    stage = {str(i): Signal(q, None, g) for i, (q, g) in enumerate(zip(moments, gradients, strict=True))}
    assert words in Diagnosis(layers, {"pruned": stage}).verdict


def test_without_batches_there_are_densities():
    found = pi.diagnose(nn.Linear(2, 2))
    assert "pass batches" in found.verdict
    assert found.effective_sparsity is None
    with pytest.raises(pi.InputError, match="no stage 'pruned'"):
        found.chi("pruned")


def test_masks_of_another_model_are_refused():
    with pytest.raises(pi.InputError, match="unknown weight in the masks '9.weight'"):
        pi.diagnose(nn.Linear(2, 2), masks=pi.Masks({"9.weight": torch.ones(2, 2).bool()}))


@pytest.mark.parametrize("batches, message", [(5, "batches must be"), ([], "no batches"), ("x", "batches must be")])
def test_batches_that_are_none_are_refused(batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.diagnose(nn.Linear(2, 2), batches)


def stack(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    return model, (torch.randn(32, 8), torch.randint(3, (32,)))


def one_weight_each(model):
    """Masks of a network in which no kept weight meets another."""
    masks = {f"{n}.weight": torch.zeros_like(model[n].weight, dtype=torch.bool) for n in (0, 2, 4)}
    for name, place in (("0.weight", (0, 0)), ("2.weight", (1, 1)), ("4.weight", (2, 2))):
        masks[name][place] = True
    return pi.Masks(masks)


def test_no_signal_is_said_to_pass_where_no_kept_weight_is_on_a_path():
    model, data = stack()
    found = pi.diagnose(model, [data], one_weight_each(model))
    assert found.effective_sparsity == 1
    assert "The signal passes" not in found.verdict
    assert "No weight kept is on a path to the output" in found.verdict
    assert any("effective=True" in line for line in found.advice)
    assert not any("Rescale" in line for line in found.advice)


def test_a_layer_that_no_path_leads_through_is_named():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(x)

    model = Unused()
    found = pi.diagnose(model, [stack()[1]], pi.prune(model, pi.Magnitude(), sparsity=0.5))
    assert found.cut_off == ("a.weight",)
    assert "1 of 2 layers keeps no weight on a path to the output (a.weight)" in found.verdict


def test_a_sparsified_model_is_diagnosed_with_its_own_masks_alone():
    model, data = stack()
    masks = pi.prune(model, pi.Snip(), [data], sparsity=0.5)
    harder = pi.prune(model, pi.Snip(), [data], sparsity=0.8)
    pi.sparsify_(model, masks)
    assert pi.diagnose(model, [data], masks).verdict == pi.diagnose(model, [data]).verdict
    with pytest.raises(pi.InputError, match="not those of the sparsified model: leave masks out"):
        pi.diagnose(model, [data], harder)


def test_masks_that_keep_nothing_are_a_collapse():
    model, data = stack()
    nothing = pi.Masks({name: torch.zeros_like(mask) for name, mask in one_weight_each(model).items()})
    found = pi.diagnose(model, [data], nothing)
    assert found.collapsed
    assert {layer.expected for layer in found.layers} == {0.0}


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.filterwarnings("error")
def test_a_model_that_runs_none_of_its_layers_is_told_so(pruned):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.matrix = nn.Linear(8, 3), nn.Parameter(torch.ones(8, 3))

        def forward(self, x):
            return x @ self.matrix

    model = Bare()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5) if pruned else None
    found = pi.diagnose(model, [stack()[1]], masks)
    assert "No layer with a weight was run" in found.verdict
    assert found.collapsed
    assert "weight" in str(found)


def test_an_activation_that_is_not_known_is_refused():
    model, data = stack()
    with pytest.raises(pi.InputError, match="unknown activation 'tahn'"):
        pi.diagnose(model, [data], activation="tahn")


def test_counts_and_factors_read_as_a_person_would_write_them():
    model, data = stack()
    masks = dict(one_weight_each(model)) | {"0.weight": torch.ones(16, 8).bool(), "4.weight": torch.ones(3, 16).bool()}
    found = pi.diagnose(model, [data], pi.Masks(masks))
    assert "1 of 3 layers keeps less than one weight a neuron (2.weight)." in found.verdict
    layers = tuple(Layer(str(i), "linear", (5, 5), 25, 15, 15) for i in range(4))
    stage = {str(i): Signal(1.0, None, g) for i, g in enumerate((1.0, 1.0, 14.0, 14.0))}
    assert "changed by a factor of 10 (" in Diagnosis(layers, {"pruned": stage}).verdict
    alone = pi.diagnose(nn.Linear(8, 3), [data], pi.Masks({"weight": torch.eye(3, 8).bool() & (torch.arange(8) < 2)}))
    assert alone.verdict.startswith("The only layer keeps less than one weight a neuron")
    assert alone.advice[0] == "Take fewer weights away."


def test_a_law_beyond_any_weight_is_shown_as_nothing():
    found = Diagnosis((Layer("a", "linear", (5, 5), 25, 25, 25, 1e-180),))
    assert "e-1" not in str(found)


def test_an_empty_first_layer_is_not_passed_around_where_no_path_is_left():
    model, data = stack()
    masks = dict(one_weight_each(model)) | {"0.weight": torch.zeros(16, 8).bool()}
    found = pi.diagnose(model, [data], pi.Masks(masks))
    assert "1 of 3 layers is empty (0.weight): no path leads from input to output." in found.verdict
    assert "around" not in found.verdict


@pytest.mark.filterwarnings("error")
def test_a_network_without_any_gradient_is_told_so():
    model, data = stack()
    nn.init.zeros_(model[4].weight)
    masks = dict(one_weight_each(model)) | {"0.weight": torch.zeros(16, 8).bool()}
    assert pi.diagnose(model, [data], pi.Masks(masks)).advice[0].startswith("Every score is 0")


def test_examples_that_a_pruned_network_cannot_tell_apart_are_named():
    found = diagnosed("tanh", 1.3041, 0.2)
    stage = list(found.stages["pruned"].items())
    first = next(name for i, (name, _) in enumerate(stage) if all(s.correlation >= 0.995 for _, s in stage[i:]))
    assert f"From {first} on all examples look the same." in found.verdict
    model, data = mlp([64] + [200] * 9 + [10], "tanh", 1.3041, 0.2, 0), batch(64, 128, 10, 0)
    assert "look the same" not in pi.diagnose(model, [data]).verdict


def test_few_layers_must_change_a_gradient_much_before_it_vanishes():
    layers = tuple(Layer(str(i), "linear", (5, 5), 25, 15, 15) for i in range(4))
    for gradient, words in ((0.02, "gradient arrives"), (1e-4, "gradient vanishes")):
        stage = {str(i): Signal(1.0, None, g) for i, g in enumerate([gradient, gradient, 1.0, 1.0])}
        assert words in Diagnosis(layers, {"pruned": stage}).verdict


def plain(depth, learnable, gradient=1.0, **also):
    """Findings of a plain network, pruned and rescaled, with given shares that can be learnt."""
    layers = tuple(Layer(f"{n}.weight", "linear", (5, 5), 25, 5, 5) for n in range(depth))
    stage = {layer.name: Signal(1.0, 0.5, gradient ** (1 - n / depth)) for n, layer in enumerate(layers)}
    return Diagnosis(layers, {"pruned": stage, "rescaled": stage}, learnable=learnable, judge="pruned", **also)


@pytest.mark.parametrize(
    "share, gradient, expected, words",
    [
        (0.9, 1.0, True, "it can learn 90 % in a thousand steps, linearised: it can be expected to train."),
        (0.2, 1.0, False, "it can learn 20 % in a thousand steps, linearised: do not expect it to train."),
        (0.9, 1e9, False, "do not expect it to train."),
    ],
)
def test_what_can_be_learnt_and_comes_back_says_whether_it_trains(share, gradient, expected, words):
    found = plain(12, {"pruned": share}, gradient)
    assert found.trains is expected
    assert words in found.verdict


def without_rows(model, kept):
    """Masks that keep everything but some rows of weights."""
    masks = dict(pi.prune(model, pi.Random(), sparsity=0.0))
    for name, rows in kept.items():
        masks[name] = masks[name].clone()
        masks[name][rows:] = False
    return pi.Masks(masks)


@pytest.mark.parametrize("reached", [10, 7])
def test_outputs_that_nothing_leads_to_are_counted_and_told(reached):
    model, data = mlp([16, 20, 20, 10], "tanh", 1.0, 0.0, 0), batch(16, 32, 10, 0)
    last = list(pi.prunable(model))[-1]
    masks = without_rows(model, {last: reached})
    found = pi.diagnose(model, [data], masks)
    assert found.outputs == Outputs(last, 10, reached)
    assert (f"Nothing leads to 3 of 10 outputs ({last})." in found.verdict) == (reached == 7)
    assert any("scope='erk+'" in one for one in found.advice) == (reached == 7)
    assert pi.diagnose(pi.sparsify_(model, masks), [data]).outputs == found.outputs


class Skip(nn.Module):
    """What runs last writes no output of its own, or one of two, or is not run at all."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.a, self.b, self.c = kind, nn.Linear(16, 20), nn.Linear(20, 10), nn.Linear(16, 10)

    def forward(self, x):
        y = self.b(torch.tanh(self.a(x)))
        return {"unused": y, "skip": y + self.c(x) if self.kind == "skip" else y, "after": torch.relu(y)}[self.kind]


@pytest.mark.parametrize(
    "kind, name, expected", [("unused", "b.weight", (10, 7)), ("skip", "c.weight", None), ("after", "b.weight", None)]
)
def test_outputs_are_those_of_a_layer_only_where_it_ends_the_model(kind, name, expected):
    model, data = Skip(kind), batch(16, 32, 10, 0)
    found = pi.diagnose(model, [data], without_rows(model, {name: 7}))
    assert found.outputs == (None if expected is None else Outputs(name, *expected))


def test_erk_plus_is_not_advised_where_it_would_not_help():
    model, data = mlp([16, 20, 10], "tanh", 1.0, 0.0, 0), batch(16, 32, 10, 0)
    found = pi.diagnose(model, [data], without_rows(model, {list(pi.prunable(model))[-1]: 7}))
    first, last = found.layers
    more = replace(found, layers=(replace(first, kept=first.total // 8), last))
    assert "Nothing leads to 3" in more.verdict
    assert not any("erk+" in one for one in more.advice)


def test_a_transposed_layer_is_scarce_by_its_own_outputs():
    layer = Layer("w", "linear", (40, 10), 400, 20)
    assert Diagnosis((layer,)).scarce == ("w",)
    assert Diagnosis((replace(layer, outputs=10),)).scarce == ()


def test_the_sparse_orthogonal_start_leads_to_every_class_unless_all_layers_are_equally_sparse():
    reached = {}
    for scope in ("layer", "ends"):
        model = pi.models.build("mlp", input_shape=(1, 8, 8), classes=10, depth=10, activation="relu")
        pi.sparse_orthogonal_(model, sparsity=0.99, scope=scope, generator=torch.Generator().manual_seed(0))
        masks = pi.prune(model, pi.Magnitude(), sparsity=0.99, scope=scope)
        reached[scope] = pi.diagnose(model, [batch(64, 32, 10, 0)], masks).outputs.reached
    assert reached == {"layer": 5, "ends": 10}


def test_without_knowing_what_can_be_learnt_nothing_is_expected():
    found = plain(12, {})
    assert found.trains is None
    assert "a thousand steps" not in found.verdict


def test_a_deep_plain_network_that_rescaling_does_not_save_is_told_of_the_sparse_orthogonal_start():
    hopeless, saved = plain(12, {"pruned": 0.1, "rescaled": 0.2}), plain(12, {"pruned": 0.1, "rescaled": 0.9})
    told = "sparse_orthogonal_(model, sparsity=0.8), then prune(model, Magnitude(), sparsity=0.8, scope='ends')"
    assert told in " ".join(hopeless.advice)
    assert told not in " ".join(saved.advice)
    assert told not in " ".join(plain(12, {"pruned": 0.1, "rescaled": 0.2}, branches=3).advice)
    assert told not in " ".join(plain(3, {"pruned": 0.1, "rescaled": 0.2}).advice)


@pytest.mark.parametrize("sparsified", [False, True], ids=["masks", "sparsified"])
@pytest.mark.parametrize(
    "sparsity, scope, expected",
    [
        (0.99, "ends", None),
        (0.997, "ends", "take fewer weights away."),
        (
            0.995,
            "layer",
            "take fewer weights away, or draw them anew, sparse_orthogonal_(model, sparsity=0.995, scope=",
        ),
    ],
    ids=["trains", "too-sparse", "badly-shared"],
)
def test_what_is_sparse_and_orthogonal_already_is_not_told_to_become_so(sparsity, scope, expected, sparsified):
    model = pi.models.build("mlp", input_shape=(1, 8, 8), classes=10, depth=60, activation="relu")
    pi.sparse_orthogonal_(model, sparsity=sparsity, scope=scope, generator=torch.Generator().manual_seed(0))
    masks = pi.prune(model, pi.Magnitude(), sparsity=sparsity, scope=scope)
    if sparsified:
        pi.sparsify_(model, masks)
    found = pi.diagnose(model, [batch(64, 32, 10, 0)], None if sparsified else masks)
    assert found.isometric
    assert found.trains is (expected is None)
    assert len(found.advice) == (expected is not None)
    for told in found.advice:
        assert told.startswith(f"Its layers are sparse and orthogonal already: {expected}")


@pytest.mark.parametrize("scale, options, phase", [(2.0, {}, "chaotic"), (1.0, {"mirrored": False}, "ordered")])
def test_what_is_orthogonal_but_no_isometry_is_still_told_to_go_to_the_edge(scale, options, phase):
    model = pi.models.build("mlp", input_shape=(1, 8, 8), classes=10, depth=100, activation="relu")
    pi.sparse_orthogonal_(model, sparsity=0.95, generator=torch.Generator().manual_seed(0), **options)
    with torch.no_grad():
        for value in model.parameters():
            value *= scale
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.95, scope="ends")
    found = pi.diagnose(model, [batch(64, 32, 10, 0)], masks)
    assert found.isometric
    assert f"the network is in the {phase} phase" in found.advice[0]
    assert not any("already: take fewer" in told for told in found.advice)


def test_a_dense_orthogonal_network_and_what_pruning_leaves_of_it_are_not_sparse_and_orthogonal():
    model = pi.models.build("mlp", input_shape=(1, 8, 8), classes=10, depth=6, activation="tanh")
    pi.orthogonal_(model, generator=torch.Generator().manual_seed(0))
    data = batch(64, 32, 10, 0)
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.9, scope="layer")
    assert not pi.diagnose(model, [data]).isometric
    assert not pi.diagnose(model, [data], masks).isometric


def test_where_one_factor_a_layer_does_not_save_it_one_a_neuron_is_tried_and_told():
    shares = {"pruned": 0.1, "rescaled": 0.2, "by neuron": 0.9}
    found = plain(12, shares)
    saved = replace(found, stages={**found.stages, "by neuron": found.stages["rescaled"]})
    (told,) = saved.advice
    assert "rescale_(model, batches, masks=masks, method='neuron')" in told
    assert "learn 90 % in a thousand steps, linearised, with one factor a layer 20 %" in told
    exploding = plain(12, shares, gradient=1e9).stages["pruned"]
    for lost in (
        replace(saved, learnable={**shares, "by neuron": 0.3}),
        replace(saved, stages={**saved.stages, "by neuron": exploding}),
    ):
        (told,) = lost.advice
        assert told.startswith("Rescaled by layer or by neuron it is not expected to train either.")


def test_a_deep_network_without_biases_is_measured_by_neuron_as_rescale_makes_it():
    model = pi.models.build("mlp", input_shape=(1, 8, 8), classes=10, depth=40, width=30, activation="tanh")
    pi.edge_of_chaos_(model, sigma_b=0.0, generator=torch.Generator().manual_seed(0))
    masks = pi.prune(model, pi.Random(0), sparsity=0.9, scope="layer")
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(64, 1, 8, 8, generator=generator), torch.randint(10, (64,), generator=generator)
    with pytest.warns(UserWarning, match="neurons"):
        done = pi.rescale_(copy.deepcopy(model), [data], masks=masks, method="neuron")
    found = pi.diagnose(model, [data], masks)
    assert list(found.stages) == ["dense", *found.learnable] == ["dense", "pruned", "rescaled", "by neuron"]
    expected = pi.second_moments(pi.sparsify_(done, masks), [data])
    asked = pi.diagnose(model, [data], masks, rescale="neuron")
    assert list(asked.stages) == ["dense", "pruned", "rescaled"]
    for stage in (found.stages["by neuron"], asked.stages["rescaled"]):
        assert {name: signal.second_moment for name, signal in stage.items()} == pytest.approx(expected, rel=1e-4)
    with pytest.raises(pi.InputError, match="unknown rescale 'neurons'"):
        pi.diagnose(model, [data], masks, rescale="neurons")


def test_a_gradient_that_fades_ever_slower_is_that_of_the_edge_of_chaos():
    def found(gradients):
        layers = tuple(Layer(f"{n}.weight", "linear", (5, 5), 25, 25) for n in range(len(gradients)))
        stage = {layer.name: Signal(1.0, 0.5, g) for layer, g in zip(layers, gradients, strict=True)}
        return Diagnosis(layers, {"dense": stage})

    depth = 100
    slower = [(1 + n) ** 2.0 for n in range(depth)]  # tanh without biases: the square falls with the depth squared
    steady = [1.1**n for n in range(depth)]
    assert not found(slower).advice
    assert "Initialise on the Edge of Chaos" in found(steady).advice[0]
