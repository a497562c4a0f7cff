import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import pruneinit as pi
from pruneinit.models import build
from pruneinit.reparametrize import factor

IMAGE = torch.zeros(1, 3, 32, 32)


class Bottleneck(nn.Module):
    """The block of ResNet50: 1x1, 3x3, 1x1, with a projection where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != 4 * width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return functional.relu(out)


class DenseBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, functional.relu(layer(x))], 1)
        return x.mean((2, 3))


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gamma = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * functional.gelu(self.inner(x))


class Parallel(nn.Module):
    """x + (a(x) + b(x)): two sums, one of which is residual."""

    def __init__(self) -> None:
        super().__init__()
        self.a1, self.a2, self.b1, self.b2 = nn.Linear(4, 2), nn.Linear(2, 4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.a2(torch.tanh(self.a1(x))) + self.b2(torch.relu(self.b1(x))))


def transformer(norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


@pytest.mark.parametrize(
    "name, options, blocks, first",
    [
        ("resnet20", {"shortcut": "projection"}, 9, "stage1.0.bn2.weight"),
        ("resnet20", {"shortcut": "padding"}, 9, "stage1.0.bn2.weight"),
        ("resnet32", {"width": 32}, 15, "stage1.0.bn2.weight"),
        ("resnet56", {}, 27, "stage1.0.bn2.weight"),
        ("preact_resnet20", {}, 9, "stage1.0.conv2.weight"),
        ("wrn-16-8", {"width": 8}, 6, None),
    ],
    ids=["projection", "padding", "paper", "deep", "pre-activation", "wide"],
)
def test_every_block_of_our_residual_networks_is_found(name, options, blocks, first):
    model = build(name, input_shape=(3, 32, 32), classes=10, **options)
    found = pi.find_residuals(model, IMAGE)
    assert len(found) == blocks
    assert found.factor == pytest.approx(1 / math.sqrt(blocks))
    assert first is None or found.branches[0].parameters[0] == first


def test_a_bottleneck_resnet():
    model = nn.Sequential(Bottleneck(3, 4, 1), Bottleneck(16, 4, 1), Bottleneck(16, 8, 2))
    found = pi.find_residuals(model, IMAGE)
    assert [b.parameters for b in found.branches] == [(f"{i}.bn3.weight", f"{i}.bn3.bias") for i in range(3)]


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_a_transformer_has_two_branches_a_layer(norm_first):
    found = pi.find_residuals(transformer(norm_first), torch.zeros(1, 5, 8))
    expected = [f"layers.{i}.{end}.weight" for i in range(3) for end in ("self_attn.out_proj", "linear2")]
    assert [b.parameters[0] for b in found.branches] == expected
    assert all(len(b.parameters) == 2 for b in found.branches)


@pytest.mark.parametrize(
    "model, example",
    [(DenseBlock(), IMAGE), (build("vgg16", input_shape=(3, 32, 32), classes=10), IMAGE), (nn.LSTM(3, 3), IMAGE[0, 0])],
    ids=["densenet", "vgg", "lstm"],
)
def test_a_network_without_shortcuts_has_none_and_is_left_alone(model, example):
    example = example[:, :3] if isinstance(model, nn.LSTM) else example
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = pi.stabilize_residuals_(model, example)
    assert len(found) == 0
    assert "no residual branches" in str(found)
    assert model.state_dict().keys() == before.keys()


@pytest.mark.parametrize(
    "model, expected",
    [
        (LayerScale(), ("gamma",)),
        (Parallel(), ("a2.weight", "b2.weight", "a2.bias", "b2.bias")),
    ],
    ids=["layer-scale", "parallel"],
)
def test_unusual_ends_of_a_branch(model, expected):
    found = pi.find_residuals(model, torch.zeros(2, 4))
    assert [b.parameters for b in found.branches] == [expected]


def test_a_stable_resnet_equals_one_written_by_hand():
    torch.manual_seed(0)
    model = build("resnet20", input_shape=(3, 32, 32), classes=10).eval()
    x = torch.randn(2, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)

    def by_hand(x: Tensor) -> Tensor:
        out = functional.relu(model.bn1(model.conv1(x)))
        for stage in (model.stage1, model.stage2, model.stage3):
            for block in stage:
                inner = block.bn2(block.conv2(functional.relu(block.bn1(block.conv1(out)))))
                out = functional.relu(inner / 3 + block.shortcut(out))
        return model.fc(out.mean((2, 3)))

    expected = by_hand(x)
    pi.stabilize_residuals_(model, x[:1])
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_the_factor_is_visible_saved_and_exported(tmp_path):
    def fresh():
        torch.manual_seed(0)
        return nn.Sequential(LayerScale(), LayerScale())

    model = fresh()
    example = torch.randn(2, 4)
    pi.stabilize_residuals_(model, example)
    assert "branch, factor=0.7071" in str(model)
    assert factor(model, "0.gamma", "branch").item() == pytest.approx(2**-0.5)
    assert any("parametrizations.gamma.0.factor" in key for key in model.state_dict())
    pi.save(model, tmp_path / "net.safetensors")
    other = pi.load(tmp_path / "net.safetensors", into=fresh())
    assert torch.equal(other(example), model(example))
    exported = torch.export.export(model, (example,)).module()
    torch.testing.assert_close(exported(example), model(example))


def test_stabilising_twice_is_an_error_and_changes_nothing():
    model = nn.Sequential(LayerScale(), LayerScale())
    x = torch.randn(2, 4)
    pi.stabilize_residuals_(model, x)
    before = model(x)
    with pytest.raises(pi.InputError, match="scaled already"):
        pi.stabilize_residuals_(model, x)
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("sparsity", [0.9, 0.98, 0.995])
def test_a_pruned_network_has_the_branches_of_the_dense_one(sparsity):
    model = build("resnet20", input_shape=(3, 32, 32), classes=10)
    dense = pi.find_residuals(model, IMAGE)
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=sparsity, allow_empty=True))
    assert pi.find_residuals(model, IMAGE) == dense


def test_a_branch_smaller_than_its_projection_shortcut_is_found():
    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up, self.shortcut = nn.Linear(16, 4), nn.Linear(4, 32), nn.Linear(16, 32)

        def forward(self, x):
            return self.shortcut(x) + self.up(torch.relu(self.down(x)))

    found = pi.find_residuals(Narrow(), torch.zeros(1, 16))
    assert [b.parameters for b in found.branches] == [("up.weight", "up.bias")]


def test_two_branches_in_parallel_beside_one_shortcut_are_both_found():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.a1, self.a2, self.b1, self.b2 = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x):
            return x + self.a2(torch.tanh(self.a1(x))) + self.b2(torch.tanh(self.b1(x)))

    found = pi.find_residuals(Parallel(), torch.zeros(1, 4))
    assert [b.parameters[0] for b in found.branches] == ["a2.weight", "b2.weight"]


def test_stabilising_works_before_and_after_pruning():
    outputs = []
    for first in ("stabilise", "prune"):
        torch.manual_seed(0)
        model = nn.Sequential(LayerScale(), LayerScale())
        masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
        x = torch.ones(1, 4)
        if first == "stabilise":
            pi.stabilize_residuals_(model, x)
        pi.sparsify_(model, masks)
        if first == "prune":
            pi.stabilize_residuals_(model, x)
        outputs.append(model(x))
    torch.testing.assert_close(outputs[0], outputs[1])


class EndsInSoftmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.softmax(self.inner(x), -1)


class EndsInBareNorm(EndsInSoftmax):
    def forward(self, x: Tensor) -> Tensor:
        return x + functional.layer_norm(self.inner(x), (4,))


class SharedEnd(EndsInSoftmax):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + self.inner(x))


@pytest.mark.parametrize(
    "model, message",
    [
        (EndsInSoftmax(), "ends in Softmax, and it does not hand a factor through"),
        (EndsInBareNorm(), "ends in NativeLayerNorm, and it has no parameters of its own"),
        (SharedEnd(), r"inner\.(weight|bias) ends a residual branch and is used elsewhere"),
    ],
)
def test_branches_that_no_parameter_scales_are_named(model, message):
    with pytest.raises(pi.InputError, match=message):
        pi.stabilize_residuals_(model, torch.zeros(1, 4))


def test_a_wrong_example_is_named():
    with pytest.raises(pi.InputError, match=r"cannot be run on the example given, \(float32 1x3\)"):
        pi.find_residuals(nn.Linear(4, 4), torch.zeros(1, 3))


def test_an_example_of_numpy_arrays_is_refused():
    with pytest.raises(pi.InputError, match="the example holds a NumPy array, float64 1x3"):
        pi.find_residuals(nn.Linear(3, 2), np.zeros((1, 3)))


def test_tracing_leaves_the_model_and_the_random_numbers_alone():
    model = build("resnet20", input_shape=(3, 32, 32), classes=10).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rng = torch.get_rng_state()
    pi.find_residuals(model, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), rng)


def test_positional_and_keyword_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, a, b):
            return a + self.inner(a) * b

    for example in ((torch.zeros(1, 4), torch.ones(1)), {"a": torch.zeros(1, 4), "b": torch.ones(1)}):
        assert len(pi.find_residuals(Two(), example)) == 1


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(11, 8), nn.Parameter(torch.zeros(5, 8))
        self.blocks = transformer(norm_first=True)

    def forward(self, tokens):
        return self.blocks(self.embed(tokens) + self.position)


def test_a_transformer_that_reads_tokens_has_all_its_branches():
    found = pi.find_residuals(Tokens(), torch.zeros(1, 5, dtype=torch.long))
    assert len(found) == 6
    assert found.branches[0].parameters[0] == "blocks.layers.0.self_attn.out_proj.weight"


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_are_seen_or_refused(reentrant):
    class Checkpointed(LayerScale):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=reentrant)

    model = nn.Sequential(LayerScale(), Checkpointed(), Checkpointed())
    if reentrant:
        with pytest.raises(pi.InputError, match="use_reentrant=False"):
            pi.find_residuals(model, torch.zeros(1, 4))
    else:
        assert len(pi.find_residuals(model, torch.zeros(1, 4))) == 3


def test_a_normalisation_that_adds_its_input_is_no_branch():
    class Response(nn.Module):
        """The global response normalisation of ConvNeXt V2."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            norm = x.norm(dim=0, keepdim=True)
            return x + torch.addcmul(self.bias, self.weight, x * (norm / (norm.mean() + 1e-6)))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, 8), nn.GELU(), Response(), nn.Linear(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    found = pi.find_residuals(nn.Sequential(Block(), Block()), torch.randn(4, 8))
    assert [branch.parameters[0] for branch in found.branches] == ["0.inner.3.weight", "1.inner.3.weight"]


def test_a_gated_sum_is_no_residual_addition():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.new = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            z = torch.sigmoid(self.gate(x))
            return z * x + (1 - z) * torch.tanh(self.new(x))

    assert len(pi.find_residuals(Gated(), torch.randn(2, 4))) == 0


def test_a_branch_may_end_in_an_affine_map_of_its_own():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.scale, self.shift = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.addcmul(self.shift, self.scale, torch.tanh(self.inner(x)))

    found = pi.find_residuals(nn.Sequential(Block(), Block()), torch.randn(2, 4))
    assert set(found.branches[0].parameters) == {"0.scale", "0.shift"}
