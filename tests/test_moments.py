import pytest
import torch
from torch import nn
from torch.nn import functional

import pruneinit as pi
from problems import IDS, PROBLEMS, Attention, SharedLayer


@pytest.mark.parametrize("name", ["dense", "conv-and-groups", "conv1d", "conv3d", "transposed-conv", "residual"])
def test_second_moments_equal_running_each_layer_by_hand(name):
    problem = PROBLEMS[IDS.index(name)]
    model, batch = problem.model(), problem.batch()
    expected = {}

    def record(weight_name):
        def hook(module, inputs, output):
            bias, module.bias = module.bias, None  # the same layer once more, without its bias
            expected[weight_name] = type(module).forward(module, inputs[0]).square().mean().item()
            module.bias = bias

        return hook

    for path, module in model.named_modules():
        if hasattr(module, "weight"):
            module.register_forward_hook(record(f"{path}.weight"))
    found = pi.second_moments(model, [batch])
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-12)


def test_projections_of_attention_are_measured():
    model = Attention().double()
    x = torch.randn(5, 4, 6, dtype=torch.float64)
    found = pi.second_moments(model, [(x, torch.zeros(5).long())])
    projected = functional.linear(x, model.attention.in_proj_weight)
    assert found["attention.in_proj_weight"] == pytest.approx(projected.square().mean().item())
    assert list(found) == ["attention.in_proj_weight", "attention.out_proj.weight", "head.weight"]
    output = model.attention(x, x, x)[0] - model.attention.out_proj.bias
    assert found["attention.out_proj.weight"] == pytest.approx(output.square().mean().item())


def test_batches_count_by_their_size():
    model, (x, y) = PROBLEMS[0].model(), PROBLEMS[0].batch()
    whole = pi.second_moments(model, [(x, y)])
    parts = pi.second_moments(model, [(x[:3], y[:3]), (x[3:], y[3:])])
    assert parts == pytest.approx(whole)


def test_masks_act_and_the_model_stays():
    model, batch = PROBLEMS[0].model(), PROBLEMS[0].batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pruned = pi.second_moments(model, [batch], masks=masks)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert pruned == pytest.approx(pi.second_moments(pi.sparsify_(model, masks), [batch]))


def test_a_layer_that_runs_twice_counts_its_first_run():
    model = SharedLayer().double()
    x = torch.randn(5, 6, dtype=torch.float64)
    expected = functional.linear(x, model.layer.weight).square().mean().item()
    assert pi.second_moments(model, [(x, torch.zeros(5).long())])["layer.weight"] == pytest.approx(expected)


def test_an_overflow_is_reported_as_inf_and_not_hidden():
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(40)])
    for layer in model:
        nn.init.constant_(layer.weight, 1e3)
    moments = pi.second_moments(model, [(torch.ones(2, 4), torch.zeros(2).long())])
    assert not all(torch.tensor(list(moments.values())).isfinite())


@pytest.mark.parametrize("norm_first", [True, False])
def test_every_layer_of_a_transformer_encoder_is_seen(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(24, 3))
    found = pi.second_moments(model, [(torch.randn(5, 3, 8), torch.zeros(5).long())])
    assert found.keys() == pi.prunable(model).keys()


def test_separate_projections_of_attention_see_their_own_inputs():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, kdim=5, vdim=4, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, inputs):
            return self.head(self.attention(*inputs, need_weights=False)[0].mean(1))

    model = Cross().double()
    q, k, v = (torch.randn(3, 4, n, dtype=torch.float64) * scale for n, scale in ((6, 1), (5, 10), (4, 100)))
    found = pi.second_moments(model, [((q, k, v), torch.zeros(3).long())])
    for leaf, x in (("q_proj_weight", q), ("k_proj_weight", k), ("v_proj_weight", v)):
        expected = functional.linear(x, getattr(model.attention, leaf)).square().mean().item()
        assert found[f"attention.{leaf}"] == pytest.approx(expected)


class RunsLastFirst(nn.Module):
    """Tied layers of which the one that is registered last runs first."""

    def __init__(self, named, alias):
        super().__init__()
        self.named, self.alias, self.head = named, alias, nn.Linear(6, 3)
        alias.weight = named.weight

    def forward(self, x):
        return self.head(torch.tanh(self.named(3 * torch.tanh(self.alias(x)))).flatten(1).narrow(1, 0, 6))


TIED = {
    "linear": (lambda: RunsLastFirst(nn.Linear(6, 6), nn.Linear(6, 6)), (5, 6)),
    "conv": (lambda: RunsLastFirst(nn.Conv1d(2, 2, 1), nn.Conv1d(2, 2, 1, bias=False)), (5, 2, 3)),
    "transposed": (lambda: RunsLastFirst(nn.Conv1d(2, 2, 1), nn.ConvTranspose1d(2, 2, 1)), (5, 2, 3)),
}


@pytest.mark.parametrize("name", TIED)
def test_of_tied_layers_the_one_that_runs_first_counts(name):
    build, shape = TIED[name]
    model, x = build().double(), torch.randn(shape, dtype=torch.float64)
    bias = 0 if model.alias.bias is None else model.alias.bias.view(-1, *[1] * (x.dim() - 2))
    expected = (model.alias(x) - bias).square().mean().item()
    found = pi.second_moments(model, [(x, torch.zeros(5).long())])
    assert list(found) == ["named.weight", "head.weight"]
    assert found["named.weight"] == pytest.approx(expected)


def test_a_linear_layer_tied_to_the_projections_of_attention_counts_where_it_runs_first():
    class Borrows(Attention):
        def __init__(self):
            super().__init__()
            self.projections, self.output = nn.Linear(6, 18), nn.Linear(6, 6)
            self.projections.weight, self.output.weight = (
                self.attention.in_proj_weight,
                self.attention.out_proj.weight,
            )

        def forward(self, x):
            return super().forward(self.output(2 * self.projections(x)[..., :6]))

    model, x = Borrows().double(), torch.randn(5, 4, 6, dtype=torch.float64)
    found = pi.second_moments(model, [(x, torch.zeros(5).long())])
    projected = model.projections(x)
    assert found == pytest.approx(
        {
            "attention.in_proj_weight": (projected - model.projections.bias).square().mean().item(),
            "attention.out_proj.weight": (model.output(2 * projected[..., :6]) - model.output.bias)
            .square().mean().item(),
            "head.weight": found["head.weight"],
        }
    )  # fmt: skip


def test_an_embedding_tied_to_a_layer_is_not_a_use_of_it():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 6), nn.Linear(6, 7)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens).mean(1))

    model, tokens = Tokens().double(), torch.arange(6).view(2, 3)
    expected = functional.linear(model.embed(tokens).mean(1), model.head.weight).square().mean().item()
    found = pi.second_moments(model, [(tokens, torch.zeros(2).long())])
    assert found == pytest.approx({"head.weight": expected})


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_moments_of_neurons_have_those_of_layers_as_means(problem):
    model, (x, y) = problem.model(), problem.batch()
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    found = pi.neuron_moments(model, batches, norm=problem.norm)
    layers = pi.second_moments(model, batches, norm=problem.norm)
    assert {name: value.mean().item() for name, value in found.items()} == pytest.approx(layers, rel=1e-12)


def test_the_moments_of_neurons_equal_running_a_convolution_by_hand():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model, (x, y) = problem.model(), problem.batch()
    found = pi.neuron_moments(model, [(x, y)])["2.weight"]
    hidden = functional.relu(model[0](x))
    output = functional.conv2d(hidden, model[2].weight, groups=2)
    expected = [sum(v * v for v in channel.flatten().tolist()) / channel.numel() for channel in output.unbind(1)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
