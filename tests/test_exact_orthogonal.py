"""Weights that are sparse and orthogonal at once."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruneinit.criteria import Magnitude
from pruneinit.errors import InputError
from pruneinit.exact_orthogonal import sparse_orthogonal_
from pruneinit.masks import Masks
from pruneinit.meanfield import edge_of_chaos
from pruneinit.models import mlp
from pruneinit.pruning import prune
from pruneinit.survivors import sparsify_
from pruneinit.trainability import effective_rank
from pruneinit.weights import prunable

ACTIVATIONS = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.2), "gelu": nn.GELU(), "silu": nn.SiLU()}


def seed(n=0):
    return torch.Generator().manual_seed(n)


def network(depth=6, width=32, activation="tanh", inputs=12, classes=4):
    return mlp((1, 1, inputs), classes, depth=depth, width=width, activation=activation).double()


def weights(model):
    return {name: model.get_parameter(name).detach() for name in prunable(model)}


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), sparsity=st.floats(0, 0.99), number=st.integers(0, 2**31 - 1)
)
def test_rows_or_columns_are_orthogonal_and_no_more_is_kept_than_asked(rows, columns, sparsity, number):
    layer = nn.Linear(columns, rows).double()
    kept = round((1 - sparsity) * layer.weight.numel())
    if not kept:
        with pytest.raises(InputError, match="leaves 0 of"):
            sparse_orthogonal_(layer, "linear", sparsity=sparsity, generator=seed(number))
        return
    sparse_orthogonal_(layer, "linear", sparsity=sparsity, generator=seed(number))
    w = layer.weight.detach()
    small = w if rows <= columns else w.T
    scale = max(rows, columns) / columns  # each output keeps the mean square of its inputs
    gram = small @ small.T
    filled = torch.diag(small.count_nonzero(1) > 0).double()
    torch.testing.assert_close(gram, scale * filled, rtol=0, atol=1e-6)
    assert int(w.count_nonzero()) <= kept
    assert int(w.count_nonzero()) >= min(kept, max(rows, columns))
    assert int(filled.sum()) == min(kept, rows, columns)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95])
def test_nearly_as_much_is_kept_as_asked_and_evenly(sparsity):
    layer = sparse_orthogonal_(nn.Linear(100, 100), "linear", sparsity=sparsity, generator=seed())
    kept = (1 - sparsity) * 100 * 100
    assert 0.97 * kept <= int(layer.weight.count_nonzero()) <= kept
    rows = layer.weight.count_nonzero(1)
    assert int(rows.max()) <= 4 * int(rows.min())


def test_of_a_dense_layer_everything_is_kept():
    layer = sparse_orthogonal_(nn.Linear(16, 16), "linear", sparsity=0.0, generator=seed())
    assert int(layer.weight.count_nonzero()) == 256


@pytest.mark.parametrize("scope", [{}, {"scope": "ends"}, {"scope": "layer"}], ids=["unsaid", "ends", "layer"])
def test_magnitude_removes_zeros_alone(scope):
    model = sparse_orthogonal_(network(), sparsity=0.8, generator=seed(), **scope)
    before = weights(model)
    masks = prune(model, Magnitude(), sparsity=0.8, **scope)
    for name, w in before.items():
        assert not bool((w[~masks[name]] != 0).any())
    x = torch.randn(5, 1, 1, 12, dtype=torch.float64)
    torch.testing.assert_close(sparsify_(network_like(model), masks)(x), model(x))


def test_by_ends_a_very_sparse_network_reads_every_input_and_by_erk_it_does_not():
    read = {}
    for scope in ("erk", "ends"):
        model = network(depth=50, width=100, activation="relu", inputs=64, classes=10)
        first = next(iter(weights(sparse_orthogonal_(model, sparsity=0.99, scope=scope, generator=seed())).values()))
        read[scope] = (int((first != 0).any(1).sum()), int((first != 0).any(0).sum()))
    assert read == {"erk": (20, 40), "ends": (20, 64)}  # neurons that are used, and pixels


def test_a_mirrored_layer_that_keeps_too_few_entries_for_its_halves_is_refused():
    model = network(depth=6, width=40, activation="relu")
    with pytest.raises(InputError, match=r"leaves 1 of 480 entries to fc1.*halves are mirrored: take a lower sparsity"):
        sparse_orthogonal_(model, sparsity=0.998, scope="layer")
    assert sparse_orthogonal_(model, sparsity=0.998, scope="layer", mirrored=False) is model


def network_like(model):
    copy = network()
    copy.load_state_dict(model.state_dict())
    return copy


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_mirrored_network_starts_as_a_linear_isometry_of_half_the_width(activation):
    act = ACTIVATIONS[activation]
    layers = [nn.Linear(12, 32), act]
    for _ in range(20):
        layers += [nn.Linear(32, 32), act]
    model = nn.Sequential(*layers, nn.Linear(32, 16)).double()
    sparse_orthogonal_(model, act, sparsity=0.7, generator=seed())
    x = torch.randn(12, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(model, x)
    torch.testing.assert_close(jacobian @ x, model(x), rtol=1e-6, atol=1e-8)
    spectrum = torch.linalg.svdvals(jacobian)
    assert float(spectrum[0] / spectrum[-1]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_deep_in_a_sparse_network_every_direction_gets_through(activation):
    """Where of the same share of Gaussian weights on the Edge of Chaos one direction is left."""
    x = 0.1 * torch.randn(12, generator=seed(), dtype=torch.float64)

    def directions(model):
        return effective_rank(torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x))

    deep = sparse_orthogonal_(network(depth=60, activation=activation), sparsity=0.85, generator=seed())
    gaussian = network(depth=60, activation=activation)
    scale, drawn = edge_of_chaos(activation, 0.0).sigma_w / math.sqrt(0.15), seed()
    with torch.no_grad():
        for name, w in weights(gaussian).items():
            values, kept = torch.randn(w.shape, generator=drawn), torch.rand(w.shape, generator=drawn) < 0.15
            gaussian.get_parameter(name).copy_(values * kept * scale / math.sqrt(w.shape[1]))
            gaussian.get_submodule(name[:-7]).bias.zero_()
    assert directions(deep) > 2.5  # of four outputs
    assert not directions(gaussian) > 1.5


def test_only_a_plain_stack_is_mirrored_without_being_asked():
    stack = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    other = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    def halves_cancel(model):
        w = sparse_orthogonal_(model, sparsity=0.5, generator=seed())[0].weight
        return torch.equal(w[:4], -w[4:])

    assert halves_cancel(stack)
    assert not halves_cancel(other)


@pytest.mark.parametrize("activation, halves", [("tanh", 1), ("relu", 2)])
@pytest.mark.parametrize("degree", [0, 2.5, 5])
def test_a_very_sparse_stack_uses_as_many_neurons_as_can_have_the_degree(activation, halves, degree):
    model = network(depth=8, width=100, activation=activation, inputs=128, classes=6)
    sparse_orthogonal_(model, sparsity=0.98, degree=degree, scope="layer", generator=seed())
    room = 200 // halves**2  # of a matrix between two halves
    neurons = halves * min(100 // halves, int(room / degree)) if degree else 100
    first, *hidden, last = weights(model).values()
    for w in (first, *hidden):
        assert int((w != 0).any(1).sum()) == neurons
    for w in hidden:
        assert int((w != 0).any(0).sum()) == neurons
        assert 0.85 * 200 <= int(w.count_nonzero()) <= 200
    assert not bool((last != 0)[:, ~(hidden[-1] != 0).any(1)].any())
    x = 1e-4 * torch.randn(128, dtype=torch.float64, generator=seed(1))
    inner = torch.autograd.functional.jacobian(lambda x: model[:-1](x[None, None, None])[0], x)
    rank = neurons // halves
    spectrum = torch.linalg.svdvals(inner)
    torch.testing.assert_close(spectrum[:rank], spectrum[:1].expand(rank), rtol=1e-3, atol=0)
    assert float(spectrum[rank:].sum()) < 1e-6


def test_the_magnitude_of_a_network_of_fewer_neurons_removes_zeros_alone():
    model = sparse_orthogonal_(
        network(depth=6, width=40, activation="relu"), sparsity=0.97, scope="layer", generator=seed()
    )
    before = weights(model)
    masks = prune(model, Magnitude(), sparsity=0.97, scope="layer")
    for name, w in before.items():
        assert not bool((w[~masks[name]] != 0).any())


def test_wide_layers_between_narrow_ones_use_fewer_neurons_and_mix():
    widths = [16, 80, 20, 80, 20, 80, 8]
    layers = [module for pair in pairwise(widths) for module in (nn.Linear(*pair), nn.ReLU())]
    model = sparse_orthogonal_(nn.Sequential(*layers[:-1]).double(), sparsity=0.93, scope="layer", generator=seed())
    into, out = (model[at].weight.detach() != 0 for at in (4, 6))  # 20 to 80 and back: 28 entries between halves
    assert int(into.any(1).sum()) == int(out.any(0).sum()) == 20  # 28 over 5 are fewer than the directions
    x = torch.randn(16, dtype=torch.float64, generator=seed(1))
    values = torch.linalg.svdvals(torch.autograd.functional.jacobian(model, x))
    torch.testing.assert_close(values, values[:1].expand_as(values))


@pytest.mark.parametrize("sparsity, wide", [(0.5, 80), (0.8, 64), (0.9, 32), (0.95, 20)])
def test_neurons_of_a_wide_layer_beyond_the_directions_have_twice_the_degree(sparsity, wide):
    widths = [20, 80, 20, 80, 20, 6]
    layers = [module for pair in pairwise(widths) for module in (nn.Linear(*pair), nn.Tanh())]
    model = sparse_orthogonal_(nn.Sequential(*layers[:-1]).double(), sparsity=sparsity, scope="layer", generator=seed())
    assert int((model[4].weight != 0).any(1).sum()) == wide  # 1600 entries for all, over 5
    assert int((model[2].weight != 0).any(1).sum()) == 20


def test_channels_before_a_linear_layer_on_all_pixels_are_all_used():
    model = nn.Sequential(circular(8, 16), nn.Tanh(), circular(16, 16), nn.Tanh(), nn.Flatten(), nn.Linear(256, 4))
    sparse_orthogonal_(model.double(), sparsity=0.99, scope="layer", generator=seed())
    used = [int((model[at].weight != 0).any(1).flatten(1).any(1).sum()) for at in (0, 2)]
    assert used == [9, 16]  # 23 entries of the second over 2.5, and all that is flattened


def grouped(*groups):
    layers = [module for n in groups for module in (nn.Conv2d(32, 32, 1, groups=n, bias=False), nn.Tanh())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 4)).double()


def test_channels_of_groups_are_all_used_and_stay_orthogonal():
    model = sparse_orthogonal_(grouped(1, 1, 4, 1), sparsity=0.95, mirrored=False, scope="layer", generator=seed())
    x = 1e-4 * torch.randn(32, dtype=torch.float64, generator=seed(1))
    inner = torch.autograd.functional.jacobian(lambda x: model[:8](x[None, :, None, None])[0, :, 0, 0], x)
    spectrum = torch.linalg.svdvals(inner)
    rank = int((spectrum > 1e-3 * spectrum[0]).sum())
    torch.testing.assert_close(spectrum[:rank], spectrum[:1].expand(rank), rtol=1e-3, atol=0)


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9])
def test_a_depthwise_layer_keeps_its_share(sparsity):
    layer = sparse_orthogonal_(nn.Conv2d(32, 32, 3, groups=32), "linear", sparsity=sparsity, generator=seed())
    kept = round((1 - sparsity) * layer.weight.numel())
    assert 0 < int(layer.weight.count_nonzero()) <= kept
    assert int((layer.weight != 0).flatten(1).any(1).sum()) == min(kept, 32)


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_few_outputs_read_all_directions_of_a_wide_layer(sparsity):
    model = nn.Sequential(nn.Linear(16, 100), nn.Tanh(), nn.Linear(100, 10)).double()
    sparse_orthogonal_(model, sparsity=sparsity, generator=seed())
    last = model[2].weight.detach() != 0
    kept = round((1 - sparsity) * 1000)
    assert 0.95 * kept <= int(last.sum()) <= kept
    assert int(last.any(0).sum()) > 80
    x = 1e-4 * torch.randn(16, dtype=torch.float64, generator=seed(1))
    jacobian = torch.autograd.functional.jacobian(model, x)
    torch.testing.assert_close(jacobian @ jacobian.T, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-5)


def test_shared_weights_are_not_mirrored_unless_asked():
    shared = nn.Linear(32, 32).double()
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(32, 4).double())
    sparse_orthogonal_(model, sparsity=0.5, generator=seed())
    assert not torch.equal(shared.weight[:16], -shared.weight[16:])


def test_a_large_degree_leaves_room_for_all_entries():
    model = sparse_orthogonal_(network(depth=7, width=64), sparsity=0.9, degree=1e9, scope="layer", generator=seed())
    for w in list(weights(model).values())[1:-1]:
        assert int(w.count_nonzero()) >= 0.9 * 0.1 * w.numel()


@pytest.mark.parametrize(
    "settings",
    [{"mirrored": "no"}, {"scope": None}, {"degree": "x"}, {"sigma_b": "x"}],
    ids=lambda one: next(iter(one)),
)
def test_what_is_no_such_setting_is_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        sparse_orthogonal_(network(), sparsity=0.9, **settings)


def test_a_degree_that_there_is_not_is_refused():
    for degree in (-1, float("nan")):
        with pytest.raises(InputError, match="degree"):
            sparse_orthogonal_(network(), sparsity=0.9, degree=degree)


def circular(inputs, outputs, size=3):
    return nn.Conv2d(inputs, outputs, size, padding="same", padding_mode="circular", bias=False).double()


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8, 0.9, 0.95], ids=lambda s: f"{s:.0%}")
@pytest.mark.parametrize("inputs, outputs", [(8, 16), (16, 16), (1, 12)])
def test_a_convolution_changes_no_norm(inputs, outputs, sparsity):
    conv = sparse_orthogonal_(circular(inputs, outputs), "linear", sparsity=sparsity, generator=seed())
    x = torch.randn(3, inputs, 6, 5, dtype=torch.float64, generator=seed(1))
    length = x.flatten(1).norm(dim=1) * math.sqrt(outputs / inputs)  # the mean square of a channel is kept
    torch.testing.assert_close(conv(x).flatten(1).norm(dim=1), length)


@pytest.mark.parametrize("sparsity", [0.5, 0.95], ids=lambda s: f"{s:.0%}")
def test_a_convolution_to_fewer_channels_changes_no_norm_on_the_way_back(sparsity):
    conv = sparse_orthogonal_(circular(16, 8), "linear", sparsity=sparsity, generator=seed())
    x = torch.randn(3, 16, 6, 5, dtype=torch.float64, generator=seed(1)).requires_grad_()
    back = torch.randn(3, 8, 6, 5, dtype=torch.float64, generator=seed(2))
    (gradient,) = torch.autograd.grad(conv(x), x, back)
    torch.testing.assert_close(gradient.flatten(1).norm(dim=1), back.flatten(1).norm(dim=1))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.95], ids=lambda s: f"{s:.0%}")
def test_a_convolution_keeps_about_what_is_asked_at_all_taps(sparsity):
    conv = sparse_orthogonal_(circular(16, 16), "linear", sparsity=sparsity, generator=seed())
    used = conv.weight != 0
    assert 0.9 * (1 - sparsity) <= float(used.double().mean()) <= 1 - sparsity
    assert bool(used.sum((0, 1)).all())


def test_a_mirrored_stack_of_convolutions_changes_no_norm():
    model = nn.Sequential(*[module for _ in range(20) for module in (circular(12, 12), nn.ReLU())], circular(12, 6))
    sparse_orthogonal_(model, sparsity=0.9, generator=seed())
    x = torch.randn(3, 12, 6, 5, dtype=torch.float64, generator=seed(1))
    found = [module(x) for module in model[:1]]
    deep = model(x)
    # From the first layer on, whose 12 channels hold a half and its negative, nothing is lost.
    torch.testing.assert_close(deep.square().mean((1, 2, 3)), found[0].square().mean((1, 2, 3)))


@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_a_stack_that_widens_and_narrows_changes_no_norm(sparsity):
    widths = [20, 80, 20, 80, 20, 80, 12]
    layers = [module for pair in pairwise(widths) for module in (nn.Linear(*pair), nn.Tanh())]
    model = sparse_orthogonal_(nn.Sequential(*layers[:-1]).double(), sparsity=sparsity, generator=seed())
    assert model[2].weight.count_nonzero() <= round((1 - sparsity) * 1600)
    x = 1e-4 * torch.randn(20, dtype=torch.float64, generator=seed(1))  # tanh is linear there
    jacobian = torch.autograd.functional.jacobian(model, x)
    # Twelve of twenty directions come out; the mean square of a number is kept.
    torch.testing.assert_close(jacobian @ jacobian.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_stack_of_transposed_matrices_widens_and_narrows_alike():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D  # GPT-2's: inputs x outputs
    model = nn.Sequential(conv1d(80, 20), nn.Tanh(), conv1d(20, 80)).double()
    sparse_orthogonal_(model, sparsity=0.5, generator=seed())
    x = 1e-4 * torch.randn(1, 20, dtype=torch.float64, generator=seed(1))
    jacobian = torch.autograd.functional.jacobian(model, x)[0, :, 0]
    torch.testing.assert_close(jacobian @ jacobian.T, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_mirrored_stack_that_widens_and_narrows_changes_no_norm():
    widths = [16, 80, 20, 80, 20, 80, 8]
    layers = [module for pair in pairwise(widths) for module in (nn.Linear(*pair), nn.ReLU())]
    model = sparse_orthogonal_(nn.Sequential(*layers[:-1]).double(), sparsity=0.5, generator=seed())
    x = torch.randn(16, dtype=torch.float64, generator=seed(1))
    values = torch.linalg.svdvals(torch.autograd.functional.jacobian(model, x))
    torch.testing.assert_close(values, values[:1].expand_as(values))


def test_the_same_seed_gives_the_same_weights_and_another_others():
    first, same, other = (weights(sparse_orthogonal_(network(), sparsity=0.9, generator=seed(n))) for n in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_given_densities_are_what_each_layer_keeps(activation):
    model = network(activation=activation, width=64)
    given = {name: 0.05 + 0.01 * number for number, name in enumerate(weights(model))}
    sparse_orthogonal_(model, scope=given, generator=seed())
    for name, weight in weights(model).items():
        kept, most = int(weight.count_nonzero()), round(given[name] * weight.numel())
        assert 0.85 * most < kept <= most
    masks = prune(model, Magnitude(), sparsity=None, scope=given)
    assert {name: kept for name, (kept, _) in masks.counts.items()} == {
        name: round(given[name] * weight.numel()) for name, weight in weights(model).items()
    }


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_last_layer_that_keeps_much_reads_as_many_neurons_as_it_has_room_for(activation):
    model = network(depth=4, width=300, activation=activation, inputs=64, classes=10)
    given = {"fc1.weight": 0.02, "fc2.weight": 0.002, "fc3.weight": 0.004, "fc4.weight": 0.15}
    sparse_orthogonal_(model, scope=given, generator=seed())
    masks = prune(model, Magnitude(), sparsity=None, scope=given)
    last, before = weights(model)["fc4.weight"], weights(model)["fc3.weight"]
    assert int(last.count_nonzero()) > 0.85 * masks.counts["fc4.weight"][0]
    reads = last.abs().sum(0) > 0
    assert bool((before[reads].abs().sum(1) > 0).all())  # and each of them has an input


def test_densities_of_masks_give_the_network_of_their_scope_again():
    model, other = network(), network()
    sparse_orthogonal_(model, sparsity=0.8, scope="erk", generator=seed())
    masks = prune(model, Magnitude(), sparsity=0.8, scope="erk")
    sparse_orthogonal_(other, scope=masks.densities, generator=seed())
    assert all(torch.equal(weight, weights(other)[name]) for name, weight in weights(model).items())


def test_erk_gives_small_layers_more():
    model = sparse_orthogonal_(network(width=64), sparsity=0.9, scope="erk", generator=seed())
    density = {name: float((w != 0).double().mean()) for name, w in weights(model).items()}
    assert density["fc6.weight"] > density["fc3.weight"]


@pytest.mark.parametrize(
    "model, options, message",
    [
        (network(), {"sparsity": 1.0}, "sparsity must be in"),
        (network(), {"sparsity": 0.5, "scope": "erkk"}, "erk"),
        (network(), {}, "needs a sparsity"),
        (network(), {"sparsity": 0.5, "scope": {"fc1.weight": 0.5}}, "sparsity must be None"),
        (network(), {"scope": {"fc1.weight": 0.5}}, "the density of fc2.weight must be given"),
        (network(), {"scope": dict.fromkeys(weights(network()), 1e-9)}, "the densities leave 0 of .* higher densities"),
        (network(), {"scope": ["fc1.weight"]}, "scope must be the name of one, or densities"),
        (network(), {"scope": Masks({"fc1.weight": torch.ones(2, 2).bool()})}, "of masks, masks.densities"),
        (network(), {"scope": {0: 0.5}}, "unknown weight '0'"),
        (network(), {"scope": {"fc1.weight": 0.5}, "sparsity": "0.5"}, "sparsity must be None, got '0.5'"),
        (network(), {"sparsity": 0.5, "mirrored": True}, "needs an activation with"),
        (network(activation="relu"), {"sparsity": 0.5, "mirrored": True, "sigma_b": 0.1}, "needs sigma_b=0"),
        (network(activation="relu", width=31), {"sparsity": 0.5}, "31 outputs, which have no halves to mirror"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 3)),
            {"sparsity": 0.5},
            "0.weight has groups",
        ),
    ],
)
def test_refused(model, options, message):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        sparse_orthogonal_(model, **options)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    "options, alike",
    [
        ({"padding": 1}, False),
        ({"padding": "same", "dilation": 2}, False),
        ({"padding": 1, "groups": 180}, False),
        ({"padding": 0}, True),
        ({"padding": 2}, True),
        ({"padding": 1, "padding_mode": "circular"}, True),
        ({"padding": 1, "padding_mode": "reflect"}, True),
        ({"padding": 1, "stride": 2}, True),
        ({"padding": 1, "kernel_size": 2}, True),
    ],
    ids=["zeros", "same", "depthwise", "valid", "full", "periodic", "reflected", "strided", "even"],
)
def test_half_of_the_channels_stay_where_a_shift_would_lose_an_edge(options, alike):
    model = nn.Sequential(nn.Conv2d(180, 180, **{"kernel_size": 3, **options}), nn.Tanh())
    sparse_orthogonal_(
        model, scope={"0.weight": 180 / model[0].weight.numel()}, generator=torch.Generator().manual_seed(0)
    )
    taps = model[0].weight.detach().flatten(2).count_nonzero((0, 1)).tolist()  # one entry a channel: nothing is turned
    each = 180 // len(taps)
    assert sum(taps) == 180
    if alike:
        assert taps == [each] * len(taps)
    else:
        assert taps[4] > 90
        assert all(5 <= number <= each for number in taps[:4] + taps[5:])


def test_with_zero_borders_less_of_an_image_is_lost_than_by_shifts_alike():
    left = {}
    for mode in ("zeros", "circular"):
        drawn, run = (
            nn.Sequential(*(nn.Conv2d(32, 32, 3, padding=1, padding_mode=borders, bias=False) for _ in range(10)))
            for borders in (mode, "zeros")
        )
        generator = torch.Generator().manual_seed(0)
        run.load_state_dict(sparse_orthogonal_(drawn, "linear", sparsity=0.97, generator=generator).state_dict())
        images = torch.randn(16, 32, 4, 4, generator=generator)
        with torch.no_grad():
            left[mode] = float(run(images).square().mean() / images.square().mean())
    assert left["zeros"] > 2 * left["circular"]
