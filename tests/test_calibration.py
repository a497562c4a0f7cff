"""Factors by neuron, against a twin that runs the network anew for each layer and loops over neurons."""

import copy
import math

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS, Attention, SharedLayer
from pruneinit.calibration import Calibration
from pruneinit.neurons import alive, neuron_factors
from pruneinit.reparametrize import chain
from pruneinit.rescale import rescaling_factors
from pruneinit.weights import prunable, weight

# The layers of some problems, in the order in which they run.
ORDERS = {
    "dense": ["0", "2", "4"],
    "conv-and-groups": ["0", "2", "5"],
    "conv1d": ["0", "2"],
    "conv3d": ["0", "2"],
    "transposed-conv": ["up", "head"],
    "residual": ["0.inner.0", "0.inner.2", "1.inner.0", "1.inner.2", "2"],
    "layer-run-twice": ["layer", "head"],
}


def problem_named(name):
    return PROBLEMS[IDS.index(name)]


def pruned(problem, sparsity=0.5):
    model = problem.model()
    return model, pi.prune(model, pi.Random(seed=2), sparsity=sparsity, scope="layer")


def channels_of(model, path, x):
    """What a layer puts out without its bias where it runs first, one flat tensor a neuron."""
    seen = []
    layer = model.get_submodule(path)
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    model(x)
    handle.remove()
    dim = 1 if isinstance(layer, (nn.modules.conv._ConvNd,)) else -1
    return [c.reshape(-1) - layer.bias[i].detach() for i, c in enumerate(seen[0].unbind(dim))]


def rows_of(layer):
    """The part of a layer's weight that makes each neuron, as views."""
    if not isinstance(layer, nn.ConvTranspose2d):
        return list(layer.weight.data)
    blocks = layer.weight.data.chunk(layer.groups)
    return [block[:, i] for block in blocks for i in range(block.shape[1])]


def mean_square(values):
    return sum(v * v for v in values.tolist()) / len(values)


def twin(problem, model, masks, x, clamp):
    """A copy of the model, masked and with every layer's rows multiplied by what they lack."""
    dense, found = copy.deepcopy(model), copy.deepcopy(model)
    for name, mask in masks.items():
        found.get_parameter(name).data *= mask
    for path in ORDERS[problem.name]:
        wanted = [mean_square(c) for c in channels_of(dense, path, x)]
        goal = sum(wanted) / len(wanted)
        have = [mean_square(c) for c in channels_of(found, path, x)]
        living = [h for h in have if h > 0]
        layer = math.sqrt(goal / (sum(living) / len(living)))
        for row, h in zip(rows_of(found.get_submodule(path)), have, strict=True):
            if bool((row != 0).any()):
                own = math.sqrt(goal / h) if h else layer
                row *= min(max(own, layer / clamp), layer * clamp)
    return found


@pytest.mark.filterwarnings("ignore:neurons|the second moments of neurons")
@pytest.mark.parametrize("clamp", [1.2, 100.0])
@pytest.mark.parametrize("name", ORDERS)
def test_weights_by_neuron_equal_those_of_a_twin_that_runs_the_network_for_each_layer(name, clamp):
    problem = problem_named(name)
    model, masks = pruned(problem)
    batch = problem.batch(40)
    expected = twin(problem, model, masks, batch[0], clamp)
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks, method="neuron", clamp=clamp), masks)
    for n in masks:
        torch.testing.assert_close(weight(model, n), expected.get_parameter(n), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:neurons|the second moments of neurons")
@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("order", ["rescale-first", "sparsify-first"])
def test_every_living_neuron_has_the_mean_second_moment_of_its_dense_layer(problem, order):
    model, masks = pruned(problem)
    batch = problem.batch(40)
    dense = pi.neuron_moments(model, [batch], norm=problem.norm)
    options = {"method": "neuron", "norm": problem.norm, "clamp": math.inf}
    if order == "rescale-first":
        pi.sparsify_(pi.rescale_(model, [batch], masks=masks, **options), masks)
    else:
        pi.rescale_(pi.sparsify_(model, masks), [batch], targets=dense, **options)
    for name, found in pi.neuron_moments(model, [batch], norm=problem.norm).items():
        living = alive(prunable(model)[name], masks[name]) & (found > 0)
        assert bool(living.any())
        mean = dense[name][dense[name] > 0].mean()
        torch.testing.assert_close(found[living], mean.expand(int(living.sum())), rtol=1e-9, atol=0)


def test_a_network_in_float32_comes_back_within_a_hundred_thousandth():
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(50, 50), nn.Tanh())], nn.Linear(50, 5))
    pi.edge_of_chaos_(model, "tanh")
    batch = torch.randn(64, 50), torch.zeros(64).long()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.8)
    dense = pi.second_moments(model, [batch])
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks, method="neuron"), masks)
    for name, found in pi.neuron_moments(model, [batch]).items():
        torch.testing.assert_close(found, torch.full_like(found, dense[name]), rtol=1e-5, atol=0)


def test_scalar_targets_do_as_well_as_those_of_neurons_where_all_put_out_something():
    problem = problem_named("dense")
    factors = []
    for measure in (pi.second_moments, pi.neuron_moments):
        model, masks = pruned(problem, 0.3)
        targets = measure(model, [problem.batch(40)])
        pi.sparsify_(model, masks)
        factors.append(rescaling_factors(model, [problem.batch(40)], method="neuron", targets=targets))
    for name in factors[0]:
        torch.testing.assert_close(*(found[name] for found in factors), rtol=1e-12, atol=0)


def test_factors_are_clamped_around_the_layers_and_the_clamped_are_counted():
    squares = torch.tensor([1.0, 1.0, 1e-8, 1e8]).double()
    none = torch.zeros(4).bool()
    layer = math.sqrt(2.0 / squares.mean().item())
    found = neuron_factors(squares, 2.0, none, 10.0)
    assert found.values.tolist() == pytest.approx([10 * layer, 10 * layer, 10 * layer, max(layer / 10, 2e-8**0.5)])
    assert found.clamped == 3
    assert found.dead == 0
    assert neuron_factors(squares, 2.0, none, math.inf).clamped == 0
    ones = neuron_factors(squares, 2.0, none, 1.0).values
    assert ones.tolist() == pytest.approx([layer] * 4)


def test_dead_neurons_keep_factor_one_and_stay_out_of_the_means():
    squares = torch.tensor([1.0, 4.0, 9.0, 0.0]).double()
    lost = torch.tensor([True, False, False, False])
    target = torch.tensor([5.0, 2.0, 0.0, 8.0]).double()  # the third puts out nothing in the dense network
    found = neuron_factors(squares, target, lost, 100.0)
    # The mean of 5, 2 and 8 is 5; the last one sees no signal and gets the layer's factor, that of the second.
    assert found.values.tolist() == pytest.approx([1.0, math.sqrt(5 / 4), 1.0, math.sqrt(5 / 4)])
    assert (found.dead, found.clamped) == (2, 0)


def test_a_warning_names_a_few_layers_and_counts_the_others():
    found = Calibration(dead={f"fc{n}.weight": (n, 10) for n in range(1, 9)})
    named = ", ".join(f"{n} of 10 of fc{n}.weight" for n in range(1, 6))
    assert found.warnings() == [
        f"neurons with nothing left to rescale keep the factor 1: {named}, and 21 of 30 of 3 more weights"
    ]


def test_dead_and_clamped_neurons_are_reported_by_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].weight.data[2] *= 1e-6
    mask = torch.ones(4, 6).bool()
    mask[1] = False
    masks = pi.Masks({"0.weight": mask, "2.weight": torch.ones(3, 4).bool()})
    batch = torch.randn(64, 6), torch.zeros(64).long()
    with pytest.warns(UserWarning, match="neurons") as warned:
        factors = rescaling_factors(model, [batch], masks=masks, method="neuron")
    assert [str(w.message) for w in warned] == [
        "neurons with nothing left to rescale keep the factor 1: 1 of 4 of 0.weight",
        "neurons whose own factor was out of bounds are clamped: 1 of 4 of 0.weight",
    ]
    assert factors["0.weight"].shape == (4, 1)
    assert factors["0.weight"][1].item() == 1


@pytest.mark.parametrize("examples, warns", [(31, True), (32, False)])
def test_few_examples_are_reported_with_how_far_off_a_moment_is(examples, warns):
    model = nn.Linear(4, 4)
    masks = pi.Masks({"weight": torch.ones(4, 4).bool()})
    batch = torch.randn(examples, 4), torch.zeros(examples).long()
    if not warns:
        rescaling_factors(model, [batch], masks=masks, method="neuron", clamp=math.inf)
        return
    with pytest.warns(UserWarning, match=r"as few as 31 values .* off by about 25 %: give batches of 32 examples"):
        rescaling_factors(model, [batch], masks=masks, method="neuron", clamp=math.inf)


def test_positions_of_a_convolution_count_as_values():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 2))
    masks = pi.Masks({"0.weight": torch.ones(3, 2, 3, 3).bool()})
    batch = torch.randn(2, 2, 6, 6), torch.zeros(2).long()
    rescaling_factors(model, [batch], masks=masks, method="neuron")  # 2 examples of 16 positions: no warning


def test_a_silent_layer_keeps_factor_one_with_a_warning():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    model[0].bias.data.fill_(-100.0)
    masks = pi.prune(model, pi.Random(), sparsity=0.3, scope="layer")
    batch = torch.randn(64, 3), torch.zeros(64).long()
    with pytest.warns(UserWarning, match=r"no signal reaches 2.weight"):
        factors = rescaling_factors(model, [batch], masks=masks, method="neuron")
    assert factors["2.weight"].flatten().tolist() == [1.0, 1.0]


def test_an_empty_layer_keeps_factor_one_and_is_named_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    masks = pi.Masks({"0.weight": torch.zeros(3, 3).bool(), "1.weight": torch.ones(2, 3).bool()})
    batch = torch.randn(64, 3), torch.zeros(64).long()
    with pytest.warns(UserWarning, match="nothing is left") as warned:
        factors = rescaling_factors(model, [batch], masks=masks, method="neuron", clamp=math.inf)
    assert [str(w.message) for w in warned] == ["nothing is left of 0.weight: no factor brings a signal back"]
    assert factors["0.weight"].flatten().tolist() == [1.0] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_refused_by_the_name_of_their_layer(bad):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    masks = pi.prune(model, pi.Random(), sparsity=0.3, scope="layer")
    model[1].weight.data[1] = bad
    batch = torch.ones(64, 3), torch.zeros(64).long()
    with pytest.raises(pi.InputError, match=r"the second moment of 1.weight is (nan|inf) in the dense"):
        pi.rescale_(model, [batch], masks=masks, method="neuron")
    assert type(model[0]) is nn.Linear  # as it was


@pytest.mark.parametrize(
    "options, message",
    [
        ({"clamp": 0.5}, "clamp must be a number, 1 or more, got 0.5"),
        ({"clamp": math.nan}, "clamp must be a number, 1 or more, got nan"),
        ({"clamp": "wide"}, "clamp must be a number, 1 or more, got 'wide'"),
        ({"clamp": True}, "clamp must be a number, 1 or more, got True"),
        ({"method": "layer", "clamp": 10.0}, "clamp=10.0 would be ignored by method='layer'"),
        ({"method": "nueron"}, "unknown rescaling method 'nueron'.*did you mean 'neuron'"),
        ({"batches": None}, "method='neuron' calibrates on data: pass batches="),
        ({"batches": []}, "there are no batches"),
        ({"targets": {"weight": torch.ones(5)}}, r"the target of weight is a tensor of \(5,\): it has 3 neurons"),
        ({"targets": {"weight": torch.tensor([1.0, -1.0, 2.0])}}, "the target of weight is -1"),
        ({"targets": {"wight": 1.0}}, "targets has no second moment for weight; it has wight"),
        ({"targets": {"weight": math.nan}}, "the second moment of weight is nan in the dense"),
    ],
)
def test_what_is_impossible_is_refused(options, message):
    model = nn.Linear(4, 3)
    given = {
        "batches": [(torch.randn(64, 4), torch.zeros(64).long())],
        "masks": pi.prune(model, pi.Random(), sparsity=0.3),
        "method": "neuron",
    } | options
    with pytest.raises(pi.InputError, match=message):
        pi.rescale_(model, **given)


def test_calibrating_neurons_of_a_sparsified_model_needs_the_dense_moments():
    problem = problem_named("dense")
    model, masks = pruned(problem)
    pi.sparsify_(model, masks)
    with pytest.raises(pi.InputError, match="pass targets=second_moments"):
        pi.rescale_(model, [problem.batch(40)], method="neuron")


def test_neurons_that_two_tied_layers_lay_out_differently_share_one_factor():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.head = nn.Conv1d(2, 2, 1), nn.ConvTranspose1d(2, 2, 1), nn.Linear(6, 2)
            self.up.weight = self.down.weight

        def forward(self, x):
            return self.head(self.down(torch.tanh(self.up(x))).flatten(1))

    torch.manual_seed(0)
    model = Tied()
    masks = pi.prune(model, pi.Random(), sparsity=0.25, scope="layer")
    batch = torch.randn(64, 2, 3), torch.zeros(64).long()
    with pytest.warns(UserWarning, match=r"the neurons of down.weight cannot be told apart"):
        factors = rescaling_factors(model, [batch], masks=masks, method="neuron", clamp=math.inf)
    assert factors["down.weight"].shape == ()


def test_projections_of_attention_whose_inputs_differ_in_length_have_a_moment_for_each_row():
    class Cross(Attention):
        def forward(self, inputs):
            q, k = inputs
            return self.head(self.attention(q, k, k, need_weights=False)[0].mean(1))

    torch.manual_seed(0)
    model = Cross().double()
    q, k = torch.randn(40, 2, 6).double(), 3 * torch.randn(40, 5, 6).double()
    found = pi.neuron_moments(model, [((q, k), torch.zeros(40).long())])["attention.in_proj_weight"]
    parts = [x @ w.T for x, w in zip((q, k, k), model.attention.in_proj_weight.chunk(3), strict=True)]
    torch.testing.assert_close(found, torch.cat([part.square().mean((0, 1)) for part in parts]), rtol=1e-12, atol=0)


def test_recurrent_weights_get_the_one_factor_of_the_formula():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.RNN(4, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    torch.manual_seed(0)
    model = Recurrent()
    masks = pi.prune(model, pi.Random(), sparsity=0.3, scope="layer")
    batch = torch.randn(64, 3, 4), torch.zeros(64).long()
    plain = rescaling_factors(model, masks=masks, method="formula")
    found = rescaling_factors(model, [batch], masks=masks, method="neuron", clamp=math.inf)
    assert found["rnn.weight_hh_l0"].item() == plain["rnn.weight_hh_l0"].item()
    assert found["head.weight"].shape == (2, 1)


# What a factor for each neuron goes through once it is there.

KEPT = ["dense", "conv-and-groups", "transposed-conv", "tied-weights", "attention"]


@pytest.mark.filterwarnings("ignore:neurons|the second moments of neurons")
@pytest.mark.parametrize("name", KEPT)
def test_factors_by_neuron_are_saved_and_loaded_copied_and_multiplied_in(name, tmp_path):
    problem = problem_named(name)
    model, masks = pruned(problem)
    x, y = problem.batch(40)
    pi.sparsify_(pi.rescale_(model, [(x, y)], masks=masks, method="neuron"), masks)
    expected = model(x)
    pi.save(model, tmp_path / "net.safetensors")
    loaded = pi.load(tmp_path / "net.safetensors", into=problem.model(seed=5))
    copied = copy.deepcopy(model)
    for other in (loaded, copied):
        assert torch.equal(other(x), expected)
        assert pi.current_masks(other) == masks
    dense = pi.densify_(copied)
    torch.testing.assert_close(dense(x), expected)
    assert all(not chain(dense, n) for n in masks)


@pytest.mark.filterwarnings("ignore:neurons|the second moments of neurons")
@pytest.mark.parametrize("name", ["dense", "conv-and-groups", "transposed-conv"])
def test_folded_factors_by_neuron_compute_the_same_function(name):
    problem = problem_named(name)
    batch = problem.batch(40)
    outputs = []
    for fold in (False, True):
        model, masks = pruned(problem)
        targets = pi.neuron_moments(model, [batch])
        pi.rescale_(pi.sparsify_(model, masks), [batch], method="neuron", targets=targets, fold=fold)
        outputs.append(model(batch[0]))
    torch.testing.assert_close(*outputs)


@pytest.mark.filterwarnings("ignore:neurons")
def test_an_optimizer_moves_the_survivors_and_not_the_factors():
    model, masks = pruned(problem_named("dense"))
    x, y = problem_named("dense").batch(40)
    pi.sparsify_(pi.rescale_(model, [(x, y)], masks=masks, method="neuron"), masks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    factor = model[0].parametrizations.weight[1].factor.clone()
    before = model[0].weight.detach().clone()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert torch.equal(model[0].parametrizations.weight[1].factor, factor)
    assert factor.shape == (7, 1)
    assert bool((model[0].weight != before)[masks["0.weight"]].any())
    assert bool((model[0].weight == 0)[~masks["0.weight"]].all())


def test_a_shared_layer_is_calibrated_where_it_runs_first():
    torch.manual_seed(0)
    model = SharedLayer().double()
    masks = pi.prune(model, pi.Random(), sparsity=0.3, scope="layer")
    batch = torch.randn(64, 6).double(), torch.zeros(64).long()
    dense = pi.second_moments(model, [batch])["layer.weight"]
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks, method="neuron", clamp=1e6), masks)
    first = (batch[0] @ model.layer.weight.T).square().mean(0)
    torch.testing.assert_close(first, torch.full_like(first, dense), rtol=1e-9, atol=0)
