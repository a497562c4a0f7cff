"""Initialisation: the right scale on the right tensors, and nothing else touched."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from pruneinit.errors import InputError
from pruneinit.initialize import delta_orthogonal_, edge_of_chaos_, mean_field_, orthogonal_
from pruneinit.meanfield import NoEdgeOfChaos, edge_of_chaos
from pruneinit.weights import prunable

EVERY = [edge_of_chaos_, orthogonal_, delta_orthogonal_]


def seed(n=0):
    return torch.Generator().manual_seed(n)


class Everything(nn.Module):
    """One of each kind of layer, tied weights, and tensors that are none of our business."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.conv = nn.Conv2d(4, 8, 3, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, groups=2)
        self.attention = nn.MultiheadAttention(6, 2, bias=True, add_bias_kv=True)
        self.mixed = nn.MultiheadAttention(6, 2, kdim=5, vdim=4)
        self.layer_norm = nn.LayerNorm(6)
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.act = nn.Tanh()
        self.temperature = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("steps", torch.arange(4))
        for p in (*self.norm.parameters(), *self.layer_norm.parameters()):
            nn.init.normal_(p)
        self.norm.running_mean.fill_(5.0)
        self.norm.num_batches_tracked.fill_(9)
        self.first.weight.requires_grad_(False)


def touched(model):
    weights = prunable(model)
    biases = {"conv.bias", "up.bias", "first.bias", "second.bias", "attention.in_proj_bias", "mixed.in_proj_bias"}
    biases |= {"attention.out_proj.bias", "mixed.out_proj.bias"}
    norms = {n for n in model.state_dict() if n.startswith(("norm.", "layer_norm."))}
    return {*weights, "second.weight", *biases, *norms}


@pytest.mark.parametrize("initialize", EVERY)
def test_only_weights_biases_and_norms_change(initialize):
    torch.manual_seed(3)
    model = Everything()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    identities = {n: (id(p), p.requires_grad) for n, p in model.named_parameters(remove_duplicate=False)}
    state = torch.get_rng_state()
    assert initialize(model, generator=seed()) is model
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed == touched(model) - {"norm.running_var"}
    now = {n: (id(p), p.requires_grad) for n, p in model.named_parameters(remove_duplicate=False)}
    assert now == identities
    assert all(p.grad_fn is None and p.is_leaf for p in model.parameters())


@pytest.mark.parametrize("initialize", EVERY)
def test_norms_are_the_identity(initialize):
    model = initialize(Everything(), generator=seed())
    x = torch.randn(2, 8, 5, 5, generator=seed(1))
    torch.testing.assert_close(model.norm.eval()(x), x, rtol=1e-4, atol=1e-5)
    assert model.norm.num_batches_tracked == 0
    assert torch.equal(model.layer_norm.weight, torch.ones(6))
    assert not model.layer_norm.bias.any()


@pytest.mark.parametrize("initialize", EVERY)
def test_same_seed_same_weights_in_every_type(initialize):
    models = [initialize(Everything().to(t), generator=seed(5)) for t in (torch.float32, torch.float64, torch.bfloat16)]
    first, double, half = (m.state_dict() for m in models)
    again = initialize(Everything(), generator=seed(5)).state_dict()
    other = initialize(Everything(), generator=seed(6)).state_dict()
    for name in touched(models[0]):
        assert torch.equal(first[name], again[name])
        torch.testing.assert_close(first[name].double(), double[name].double(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first[name].double(), half[name].double(), rtol=1e-2, atol=1e-5)
    assert not torch.equal(first["first.weight"], other["first.weight"])
    assert not torch.equal(first["first.bias"], first["second.bias"])


def test_without_a_generator_it_draws_from_the_global_one():
    layer = nn.Linear(5, 5)
    torch.manual_seed(11)
    first = edge_of_chaos_(layer, "tanh").weight.clone()
    second = edge_of_chaos_(layer, "tanh").weight.clone()
    torch.manual_seed(11)
    assert torch.equal(first, edge_of_chaos_(layer, "tanh").weight)
    assert not torch.equal(first, second)


def test_with_a_generator_the_global_one_is_left_alone():
    layer = nn.Linear(5, 5)
    state = torch.get_rng_state()
    edge_of_chaos_(layer, "tanh", generator=seed())
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_do_not_depend_on_the_biases():
    with_bias, without = nn.Linear(5, 5), nn.Linear(5, 5, bias=False)
    mean_field_(with_bias, 1.0, 0.3, generator=seed())
    mean_field_(without, 1.0, 0.0, generator=seed())
    assert torch.equal(with_bias.weight, without.weight)


LAYERS = {
    "linear": lambda: nn.Linear(300, 400),
    "conv": lambda: nn.Conv2d(40, 60, 3),
    "grouped conv": lambda: nn.Conv2d(80, 120, 3, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(60, 40, 4, stride=2),
    "attention": lambda: nn.MultiheadAttention(200, 2),
}


@pytest.mark.parametrize("initialize", [edge_of_chaos_, orthogonal_])
@pytest.mark.parametrize("kind", LAYERS)
def test_entries_have_the_variance_of_the_edge(initialize, kind):
    model = initialize(LAYERS[kind](), "tanh", sigma_b=0.3, generator=seed())
    sigma_w, _ = edge_of_chaos("tanh", 0.3)
    for name, weight in prunable(model).items():
        values = model.get_parameter(name).detach()
        assert values.var().item() * weight.fan_in == pytest.approx(sigma_w**2, rel=0.02)
        assert abs(values.mean().item()) < 5 * values.std().item() / math.sqrt(weight.numel)
        if initialize is edge_of_chaos_:
            kurtosis = (values**4).mean().item() / values.var().item() ** 2
            assert kurtosis == pytest.approx(3, abs=0.15)
    biases = torch.cat([p.detach().flatten() for n, p in model.named_parameters() if "bias" in n])
    assert biases.std().item() == pytest.approx(0.3, rel=4 / math.sqrt(2 * len(biases)))


@pytest.mark.parametrize("initialize", EVERY)
@pytest.mark.parametrize("kind", ["linear", "conv", "grouped conv", "transposed"])
def test_outputs_keep_the_second_moment(initialize, kind):
    """Interior outputs have variance sigma_w^2 times the mean square input (plus no bias: relu)."""
    layer = initialize(LAYERS[kind](), "relu", generator=seed())
    channels = layer.in_features if kind == "linear" else layer.in_channels
    x = torch.randn(64, channels, *([] if kind == "linear" else [8, 8]), generator=seed(1))
    y = layer(x).detach()
    y = y[..., 3:-3, 3:-3] if kind == "transposed" else y
    assert not layer.bias.any()
    assert y.square().mean().item() == pytest.approx(2.0, rel=0.05)


def blocks(layer):
    """The matrices outputs x fan-in of a layer, one a group or projection."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.in_proj_weight.detach().chunk(3)
    weight = layer.weight.detach()
    if isinstance(layer, nn.ConvTranspose2d):
        return [w.transpose(0, 1).flatten(1) for w in weight.chunk(layer.groups)]
    return [w.flatten(1) for w in weight.chunk(getattr(layer, "groups", 1))]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 9),
        nn.Linear(9, 5),
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(2, 30, 3),
        nn.Conv2d(4, 8, 3, groups=2),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose2d(8, 6, 4, stride=2, groups=2),
        nn.MultiheadAttention(6, 2),
    ],
    ids=str,
)
def test_orthogonal_blocks_are_orthogonal_and_different(layer):
    orthogonal_(layer.double(), "tanh", generator=seed())
    (weight, *_) = prunable(layer).values()
    sigma_w, _ = edge_of_chaos("tanh", 0.2)
    found = blocks(layer)
    for block in found:
        rows, columns = block.shape
        gram = block @ block.T if rows <= columns else block.T @ block
        scale = sigma_w**2 * max(rows, columns) / weight.fan_in
        torch.testing.assert_close(gram, scale * torch.eye(len(gram), dtype=gram.dtype), rtol=1e-10, atol=1e-10)
    assert len({block.flatten()[0].item() for block in found}) == len(found)


def test_orthogonal_matrices_are_uniform_in_sign():
    """Without the sign correction QR makes the diagonal of one sign."""
    layers = [orthogonal_(nn.Linear(2, 2), "linear", generator=seed(n)).weight.detach() for n in range(200)]
    entries = torch.stack(layers)
    assert (entries > 0).float().mean((0,)).sub(0.5).abs().max() < 0.15
    assert (torch.linalg.det(entries) > 0).float().mean().item() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    "layer, centre",
    [
        (nn.Conv1d(4, 6, 5), (2,)),
        (nn.Conv2d(4, 6, 3), (1, 1)),
        (nn.Conv2d(6, 4, (1, 5)), (0, 2)),
        (nn.Conv2d(4, 8, 4, groups=2), (2, 2)),
        (nn.ConvTranspose2d(4, 6, 3), (1, 1)),
    ],
    ids=str,
)
def test_delta_orthogonal_lives_on_the_centre_tap(layer, centre):
    delta_orthogonal_(layer.double(), "relu", generator=seed())
    weight = layer.weight.detach()
    tap = weight[(..., *centre)]
    assert weight.count_nonzero() == tap.count_nonzero() == tap.numel()
    tap = tap.T if isinstance(layer, nn.ConvTranspose2d) else tap
    for block in tap.chunk(layer.groups):
        rows, columns = block.shape
        gram = block @ block.T if rows <= columns else block.T @ block
        scale = 2 * max(rows, columns) / (layer.in_channels / layer.groups)
        torch.testing.assert_close(gram, scale * torch.eye(len(gram), dtype=gram.dtype), rtol=1e-10, atol=1e-10)


def test_delta_orthogonal_identity_network_is_an_isometry():
    model = nn.Sequential(*[nn.Conv2d(5, 5, 3, padding=1) for _ in range(20)])
    delta_orthogonal_(model, "linear", generator=seed())
    x = torch.randn(2, 5, 6, 6, generator=seed(1))
    torch.testing.assert_close(model(x).norm().detach(), x.norm(), rtol=1e-4, atol=0)


def test_delta_orthogonal_leaves_strided_transposes_whole():
    layer = delta_orthogonal_(nn.ConvTranspose2d(4, 6, 4, stride=2), "relu", generator=seed())
    same = orthogonal_(nn.ConvTranspose2d(4, 6, 4, stride=2), "relu", generator=seed())
    assert torch.equal(layer.weight, same.weight)
    assert bool((layer.weight != 0).all())


@pytest.mark.parametrize("name, sigma_b", [("tanh", 0.2), ("elu", 0.2), ("relu", 0.0), ("gelu", 0.5)])
def test_a_deep_network_stays_where_the_theory_says(name, sigma_b):
    """After 30 layers of width 600 the variance is q (relu: what it was), the gradient has not changed its size."""
    act = {"tanh": nn.Tanh, "elu": nn.ELU, "relu": nn.ReLU, "gelu": nn.GELU}[name]
    layers = [part for _ in range(30) for part in (act(), nn.Linear(600, 600))]
    model = edge_of_chaos_(nn.Sequential(*layers), generator=seed(1))
    q = edge_of_chaos(name, sigma_b).q
    x = (torch.randn(8, 600, generator=seed(2)) * math.sqrt(q)).requires_grad_()
    y = model(x)
    assert 0.6 < y.square().mean().item() / q < 1.6
    y.backward(torch.randn(8, 600, generator=seed(3)))
    assert 0.4 < x.grad.square().mean().item() < 2.5
    assert model[1].bias.std().item() == pytest.approx(sigma_b, rel=0.15)


def test_phases_away_from_the_edge():
    def gain(sigma_w):
        model = nn.Sequential(*[part for _ in range(6) for part in (nn.ReLU(), nn.Linear(1000, 1000))])
        x = torch.randn(16, 1000, generator=seed(2))
        return mean_field_(model, sigma_w, 0.0, generator=seed())(x).square().mean().item()

    assert gain(1.0) == pytest.approx(2**-6, rel=0.5)
    assert gain(2.0) == pytest.approx(2**6, rel=0.5)


@pytest.mark.parametrize("initialize", EVERY)
def test_activation_that_cannot_be_told(initialize):
    with pytest.raises(InputError, match="no activation modules: pass .* activation="):
        initialize(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"several activations \(relu, tanh\): pass .* activation="):
        initialize(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh()))
    with pytest.raises(InputError, match="did you mean 'relu'"):
        initialize(nn.Linear(2, 2), "relo")


def identity(model):
    parametrize.register_parametrization(model[0], "weight", nn.Identity())


CHANGED = {
    "parametrised weight": identity,
    "parametrised bias": lambda m: parametrize.register_parametrization(m[2], "bias", nn.Identity()),
    "parametrised norm": lambda m: parametrize.register_parametrization(m[1], "weight", nn.Identity()),
    "weight norm": lambda m: parametrizations.weight_norm(m[0]),
    "pruned by torch": lambda m: prune.l1_unstructured(m[0], "weight", 0.5),
}


@pytest.mark.parametrize("initialize", EVERY)
@pytest.mark.parametrize("change", CHANGED)
def test_changed_weights_are_refused_before_anything_is_touched(initialize, change):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    CHANGED[change](model)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(InputError, match="initialize first"):
        initialize(model, "tanh", generator=seed())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_shape_that_is_not_known_yet():
    with pytest.raises(InputError, match="no shape yet"):
        edge_of_chaos_(nn.Sequential(nn.Linear(4, 4), nn.LazyBatchNorm1d()), "tanh")


@pytest.mark.parametrize("sigma_w, sigma_b", [(0.0, 0.1), (-1.0, 0.1), (math.nan, 0.1), (1.0, -0.1), (1.0, math.inf)])
def test_sigmas_out_of_range(sigma_w, sigma_b):
    with pytest.raises(InputError, match="sigma_[wb] must be"):
        mean_field_(nn.Linear(2, 2), sigma_w, sigma_b)


@pytest.mark.parametrize("initialize", EVERY)
def test_no_edge_where_there_is_none(initialize):
    with pytest.raises(NoEdgeOfChaos, match="only at sigma_b=0"):
        initialize(nn.Linear(2, 2), "relu", sigma_b=0.1)
    with pytest.raises(InputError, match="nothing to prune"):
        initialize(nn.Tanh())


def test_a_tied_embedding_is_a_weight_like_any_other():
    model = nn.Module()
    model.embedding, model.head = nn.Embedding(50, 40), nn.Linear(40, 50)
    model.head.weight = model.embedding.weight
    mean_field_(model, 2.0, 0.5, generator=seed())
    assert model.embedding.weight is model.head.weight
    assert model.head.weight.std().item() * math.sqrt(40) == pytest.approx(2, rel=0.1)
    assert model.head.bias.std().item() == pytest.approx(0.5, rel=0.3)
