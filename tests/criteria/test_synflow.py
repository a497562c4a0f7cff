import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.weights import prunable
from scoring import assert_close, random_masks


class Averaging(nn.Module):
    """Multi-head attention by hand: the root of what a query and a key have in common, its mean over the keys."""

    def __init__(self, attention):
        super().__init__()
        self.heads, self.out_proj = attention.num_heads, attention.out_proj
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias

    def forward(self, x, *_, need_weights):
        q, k, v = (x @ self.in_proj_weight.t() + self.in_proj_bias).chunk(3, -1)
        outs = []
        for a, b, c in zip(q.chunk(self.heads, -1), k.chunk(self.heads, -1), v.chunk(self.heads, -1), strict=True):
            common = (a @ b.mT).sqrt() / math.sqrt(a.shape[-1])
            outs.append((common / x.shape[1] @ c).sqrt())
        return self.out_proj(torch.cat(outs, -1)), None


def twin(monkeypatch, model: nn.Module, shape, masks=None) -> dict[str, torch.Tensor]:
    """A copy with absolute parameters and no nonlinearities, plain autograd on ones; in fractions of the sum."""
    net = copy.deepcopy(model).eval()
    for name, parameter in net.named_parameters():
        parameter.data.abs_()
        if masks is not None and name in masks:
            parameter.data.mul_(masks[name])
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.ReLU, nn.Tanh)):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MultiheadAttention):
                setattr(module, name, Averaging(child))
    with monkeypatch.context() as patched:
        patched.setattr(torch, "tanh", lambda x: x)
        patched.setattr(functional, "relu", lambda x: x)
        flow = net(torch.ones(1, *shape, dtype=torch.float64)).sum()
    flow.backward()
    names = prunable(model)
    return {n: (p.detach() * p.grad / flow.detach()) for n, p in net.named_parameters() if n in names}


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_synflow_equals_its_plain_twin(problem, masked, monkeypatch):
    model = problem.model()
    masks = random_masks(model) if masked else None
    expected = twin(monkeypatch, model, problem.shape, masks)
    assert_close(pi.SynFlow()(model, [problem.batch()], masks), expected)
    assert any(score.any() for score in expected.values())


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_scoring_leaves_the_model_and_the_random_numbers_as_they_were(problem):
    model = problem.model().train()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    pi.score(model, pi.SynFlow(), [problem.batch()])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)


def scores_in_logs(weights, skip):
    """The logarithm of each score of a stack x -> W x, or x -> x + W x, in path sums that cannot overflow."""
    weights = [np.log(np.abs(w.detach().double().numpy())) for w in weights]

    def step(matrix, vector):
        moved = np.logaddexp.reduce(matrix + vector, axis=1)
        return np.logaddexp(vector, moved) if skip and matrix.shape[0] == matrix.shape[1] else moved

    ahead = [np.zeros(weights[0].shape[1])]
    for matrix in weights:
        ahead.append(step(matrix, ahead[-1]))
    back = [np.zeros(weights[-1].shape[0])]
    for matrix in reversed(weights):
        back.append(step(matrix.T, back[-1]))
    flow = np.logaddexp.reduce(ahead[-1])
    return [w + a + b[:, None] - flow for w, a, b in zip(weights, ahead[:-1], back[-2::-1], strict=True)]


class Skip(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return x + torch.relu(self.layer(x))


@pytest.mark.parametrize("gain", [1e-30, 1e-3, 1.0, 1e30], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-3), (torch.float64, 1e-9)], ids=["f32", "f64"])
def test_two_thousand_layers_neither_overflow_nor_underflow(gain, dtype, tolerance):
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(2000) for m in (nn.Linear(6, 6, bias=False), nn.Tanh())]).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=gain)
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 6, dtype=dtype)])
    for score, expected in zip(scores.values(), scores_in_logs(model.parameters(), False), strict=True):
        assert score.dtype == dtype
        assert (score.double().log() - torch.from_numpy(expected)).abs().max() < tolerance
        assert score.sum().item() == pytest.approx(1, rel=tolerance)


@pytest.mark.parametrize("gain", [0.01, 1.0, 1e6], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-3), (torch.float64, 1e-9)], ids=["f32", "f64"])
def test_a_thousand_residual_blocks_are_exact(gain, dtype, tolerance):
    torch.manual_seed(0)
    model = nn.Sequential(*(Skip(6) for _ in range(1000)), nn.Linear(6, 3, bias=False)).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=gain)
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 6, dtype=dtype)])
    for score, expected in zip(scores.values(), scores_in_logs(model.parameters(), True), strict=True):
        assert (score.double().log() - torch.from_numpy(expected)).abs().max() < tolerance


def shrinking(model):
    """Masks that keep less and less."""
    whole = {name: torch.rand(found.shape) for name, found in prunable(model).items()}
    return [pi.Masks({name: draw < kept for name, draw in whole.items()}) for kept in (1.0, 0.8, 0.6)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_prepared_rounds_give_the_same_bits(problem):
    model, batch = problem.model(), problem.batch()
    scores = pi.SynFlow().prepare(model, [batch])
    for masks in shrinking(model):
        found, expected = scores(masks), pi.SynFlow()(model, [batch], masks)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_prepared_rounds_do_not_run_the_model_again_unless_it_would_do_something_else():
    class Choosing(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.first, self.second = 0, nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            self.calls += 1
            return self.first(x) if self.first.weight.sum() > self.second.weight.sum() else self.second(x)

    torch.manual_seed(0)
    model, x = Choosing(), torch.zeros(1, 4)
    scores = pi.SynFlow().prepare(model, [x])
    whole, nothing = torch.ones(4, 4).bool(), torch.zeros(4, 4).bool()
    one, other = ({"first.weight": a, "second.weight": b} for a, b in ((whole, nothing), (nothing, whole)))
    for masks, calls in ((one, 1), (one, 1), (other, 2), (other, 2)):
        found = scores(pi.Masks(masks))
        assert model.calls == calls
        assert found["first.weight"].any() == (masks is one)
        assert found["second.weight"].any() == (masks is other)


def test_prepared_rounds_follow_magnitudes_out_of_their_range():
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(40))).float()
    for parameter in model.parameters():
        parameter.data = torch.tensor([[1.0, 1e-6], [1e-6, 1e-6]])
    few = pi.Masks({name: torch.tensor([[False, True], [True, True]]) for name in prunable(model)})
    x, scores = torch.zeros(1, 2), pi.SynFlow().prepare(model, [torch.zeros(1, 2)])
    scores(pi.Masks({name: torch.ones(2, 2).bool() for name in prunable(model)}))
    found, expected = scores(few), pi.SynFlow()(model, [x], few)
    assert all(torch.equal(found[name], expected[name]) and found[name].any() for name in expected)


def rounds(model, batch, sparsity, number):
    masks, criterion = pi.prune(model, pi.Magnitude(), sparsity=0), pi.SynFlow()
    for i in range(1, number + 1):
        density = (1 - sparsity) ** (i / number)
        masks = pi.select(criterion(model, [batch], masks), 1 - density, within=masks)
    return masks


@pytest.mark.parametrize("sparsity", [0.9, 0.98])
def test_a_deep_residual_network_keeps_the_exact_count_and_every_layer(sparsity):
    torch.manual_seed(0)
    model = pi.models.build("resnet44", input_shape=(3, 32, 32), classes=10, shortcut="padding")
    masks = rounds(model, torch.zeros(1, 3, 32, 32), sparsity, 10)
    assert masks.kept == round((1 - sparsity) * masks.total)
    assert not masks.empty


def test_where_plain_float32_overflows_the_count_is_exact_and_the_order_that_of_float64():
    torch.manual_seed(0)
    model = pi.models.build("resnet110", input_shape=(3, 32, 32), classes=10)
    x = torch.zeros(1, 3, 32, 32)
    plain = copy.deepcopy(model).eval()
    for parameter in plain.parameters():
        parameter.data.abs_()
    assert plain(torch.ones_like(x)).sum() == torch.inf
    flow = plain.double()(torch.ones_like(x).double()).sum()  # plain ReLU, which passes on what is positive
    flow.backward()
    found = pi.score(model, pi.SynFlow(), [x])
    for name, score in found.items():
        expected = plain.get_parameter(name).detach() * plain.get_parameter(name).grad / flow.detach()
        assert (score - expected).abs().max() < 1e-4 * expected.max()
    masks = pi.select(found, 0.999)
    assert masks.kept == round(0.001 * masks.total)


def test_a_plain_float64_loop_loses_the_same_residual_branches():
    """Flow is conserved over cuts of the whole network, so a branch beside a shortcut can dry up: it is no rounding."""
    torch.manual_seed(0)
    model = pi.models.build("resnet20", input_shape=(3, 32, 32), classes=10, width=8).double()
    net, number, sparsity = copy.deepcopy(model).eval(), 50, 0.99
    for parameter in net.parameters():
        parameter.data.abs_()
    values = {name: net.get_parameter(name).detach().clone() for name in prunable(model)}
    kept = {name: torch.ones_like(value) for name, value in values.items()}
    total = sum(value.numel() for value in values.values())
    for i in range(1, number + 1):
        for name, value in values.items():
            net.get_parameter(name).data.copy_(value * kept[name])
        net.zero_grad()
        net(torch.ones(1, 3, 32, 32, dtype=torch.float64)).sum().backward()  # ReLU passes on what is positive
        scores = {name: value * kept[name] * net.get_parameter(name).grad for name, value in values.items()}
        left = round((1 - sparsity) ** (i / number) * total)
        threshold = torch.cat([score.flatten() for score in scores.values()]).topk(left).values[-1]
        kept = {name: (score >= threshold).double() for name, score in scores.items()}
    lost = [name for name, mask in kept.items() if not mask.any()]
    assert lost
    batch = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    masks = pi.prune(model, pi.SynFlow(rounds=number), [batch], sparsity=sparsity, allow_empty=True)
    assert list(masks.empty) == lost
    with pytest.raises(pi.InputError, match=r"round \d+ of 50, .* leaves nothing of stage.* is the highest safe one"):
        pi.prune(model, pi.SynFlow(rounds=number), [batch], sparsity=sparsity)


def test_the_flow_is_conserved_from_layer_to_layer():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 1, bias=False),
        nn.GroupNorm(2, 8), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(),
        nn.Linear(8, 5, bias=False),
    )  # fmt: skip
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 3, 12, 12)])
    assert [score.sum().item() for score in scores.values()] == pytest.approx([1, 1, 1], rel=1e-5)


def test_gates_and_attention_share_the_flow_and_conserve_it():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(6, 6, bias=False) for _ in range(3))
            self.gate, self.up, self.down = nn.Linear(6, 9, bias=False), nn.Linear(6, 9, bias=False), nn.Linear(9, 2)

        def forward(self, x):
            scores = self.query(x) @ self.key(x).transpose(1, 2) / 6**0.5
            x = torch.softmax(scores.masked_fill(torch.ones(4, 4).triu(1).bool(), -1e9), -1) @ self.value(x)
            gate = self.gate(x)
            return self.down(gate * torch.sigmoid(gate) * self.up(x))

    torch.manual_seed(0)
    model = Gated()
    nn.init.zeros_(model.down.bias)
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 4, 6)])
    sums = {name.split(".")[0]: score.sum().item() for name, score in scores.items()}
    expected = {"query": 0.25, "key": 0.25, "value": 0.5, "gate": 0.5, "up": 0.5, "down": 1.0}
    assert sums == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("depth", [2, 60])
def test_attention_by_module_function_and_hand_is_one_and_the_same(depth):
    class Block(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.how, self.qkv, self.out, self.norm = how, nn.Linear(6, 18), nn.Linear(6, 6), nn.LayerNorm(6)

        def forward(self, x):
            q, k, v = (t.unflatten(-1, (2, 3)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
            hidden = torch.full((5, 5), -torch.inf if self.how == "hand" else -1e4).triu(1)
            if self.how == "function":
                y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            elif self.how == "mask":
                y = functional.scaled_dot_product_attention(q, k, v, attn_mask=hidden)
            elif self.how == "einsum":
                y = torch.einsum(
                    "bhqk,bhkd->bhqd", ((torch.einsum("bhqd,bhkd->bhqk", q, k) / 3**0.5) + hidden).softmax(3), v
                )
            else:
                y = torch.matmul(torch.softmax(q @ k.mT * 3**-0.5 + hidden, -1), v)
            return x + self.out(y.transpose(1, 2).reshape(1, 5, 6))

    found = []
    for how in ("function", "mask", "einsum", "hand"):
        torch.manual_seed(0)
        model = nn.Sequential(*(Block(how) for _ in range(depth)), nn.Linear(6, 2)).double()
        found.append(pi.score(model, pi.SynFlow(), [torch.zeros(1, 5, 6).double()]))
    for other in found[1:]:
        assert_close(other, found[0])
    assert all(score.count_nonzero() == score.numel() for score in found[0].values())


def test_a_deep_transformer_of_pytorch_has_finite_scores_everywhere():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 80, enable_nested_tensor=False
    )
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 5, 8)])
    assert all(score.isfinite().all() and score.sum() > 0 for score in scores.values())


def test_normalisation_and_gates_written_by_hand():
    class Hand(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.weight = nn.Linear(6, 6, bias=False), nn.Parameter(torch.randn(6))

        def forward(self, x):
            y = self.layer(x)
            y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True) + 1e-5) * self.weight
            return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)

    torch.manual_seed(0)
    model = nn.Sequential(*(Hand() for _ in range(200)), nn.Linear(6, 2, bias=False))
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 6)])
    assert all(score.isfinite().all() and score.sum().item() == pytest.approx(1, rel=1e-3) for score in scores.values())


def test_changes_in_place_are_changes_in_place():
    class InPlace(nn.Module):
        def __init__(self, plain):
            super().__init__()
            self.plain, self.layers = plain, nn.ModuleList(nn.Linear(6, 6) for _ in range(40))

        def forward(self, x):
            for layer in self.layers:
                y = layer(x)
                if self.plain:
                    x = torch.cat([y[:, :3] + 2 * x[:, :3], x[:, 3:] + y[:, 3:] * 1e5], 1) / 3
                    continue
                before = x
                x = torch.relu(y)
                x[:, 3:] *= 1e5
                x += before
                x.relu_()[:, :3].add_(before[:, :3])
                parts = torch.zeros_like(x)
                parts[:, :3] = x[:, :3]
                parts[:, 3:].copy_(x[:, 3:])
                x = parts.div_(3)
            return x

    torch.manual_seed(0)
    model, plain = InPlace(False).double(), InPlace(True).double()
    plain.load_state_dict(model.state_dict())
    found, expected = (pi.score(net, pi.SynFlow(), [torch.zeros(1, 6).double()]) for net in (model, plain))
    assert_close(found, expected)


def test_tokens_stay_as_they_are_and_an_output_of_ones_own_may_take_any_batch():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3, bias=False)
            self.embed.weight.data[2:] = 0

        def forward(self, tokens, mask):
            x = self.embed(tokens) + (1.0 - mask[..., None]) * -1e9 * 0
            return {"logits": self.head(x.mean(1)), "loss": None}

    model = Tokens()
    batch = {"tokens": torch.tensor([[0, 1], [3, 3]]), "mask": torch.ones(2, 2)}
    criterion = pi.SynFlow(output=lambda net, batch: net(**batch)["logits"])
    score = pi.score(model, criterion, [batch])["head.weight"]
    flow = model.embed.weight[:2].abs().mean(0) * model.head.weight.abs()
    torch.testing.assert_close(score, (flow / flow.sum()).detach())


def test_only_the_shape_of_one_example_counts():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model = problem.model()
    expected = pi.score(model, pi.SynFlow(), [problem.batch(8)])
    x, y = problem.batch(3, seed=9)
    for batches in ([(x, y)], [(x.float(), y)], [x[:1]], iter([(x * torch.nan, y)])):
        assert_close(pi.score(model, pi.SynFlow(), batches), expected)


def test_running_variances_count_and_running_means_do_not():
    problem = PROBLEMS[IDS.index("running-norm")]
    model = problem.model()
    model[1].running_var.copy_(torch.tensor([0.1, 1.0, 4.0, 9.0]))
    dense = model[0].weight.detach().abs() / (model[1].running_var[:, None, None, None] + 1e-5).sqrt()
    found = pi.score(model, pi.SynFlow(), [problem.batch()])["0.weight"]
    head = model[4].weight.detach().abs().reshape(3, 4, 4).sum((0, 2))[:, None, None, None]
    torch.testing.assert_close(found / found.sum(), dense * head / (dense * head).sum())
    model[1].running_mean.fill_(5.0)
    assert torch.equal(pi.score(model, pi.SynFlow(), [problem.batch()])["0.weight"], found)


def test_operations_without_a_rule_run_as_they_are_or_are_named():
    class Recurrent(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in range(depth)))
            self.lstm, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 2, bias=False)

        def forward(self, x):
            return self.head(self.lstm(self.layers(x))[0])

    model = Recurrent(30).double()
    found = pi.score(model, pi.SynFlow(), [torch.zeros(2, 3, 6).double()])
    net = copy.deepcopy(model)
    for parameter in net.parameters():
        parameter.data.abs_()
    flow = net(torch.ones(1, 3, 6).double()).sum()
    flow.backward()
    assert_close(found, {n: net.get_parameter(n).detach() * net.get_parameter(n).grad / flow.detach() for n in found})
    for parameter in model.layers.parameters():
        nn.init.constant_(parameter, 1e30)
    with pytest.raises(pi.InputError, match=r"grown to about 2\^\d+ before 'lstm'"):
        pi.score(model, pi.SynFlow(), [torch.zeros(2, 3, 6).double()])


def test_what_is_computed_out_of_sight_is_an_error():
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.zeros(1, 4))
    model = nn.Sequential(nn.Linear(4, 4), scripted, nn.Linear(4, 2))
    with pytest.raises(pi.InputError, match="computed out of sight"):
        pi.score(model, pi.SynFlow(), [torch.zeros(1, 4)])
    with pytest.raises(pi.InputError, match="cannot be followed back to the input"):
        pi.score(model, pi.SynFlow(output=lambda net, batch: torch.zeros(3)), [torch.zeros(1, 4)])


def test_checkpointed_blocks():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*(m for _ in range(60) for m in (nn.Linear(8, 8), nn.Tanh())))

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)

    torch.manual_seed(0)
    model = Checkpointed().double()
    for parameter in model.parameters():
        parameter.data *= 1e3
    x = torch.zeros(1, 8).double()
    found, expected = pi.score(model, pi.SynFlow(), [x]), pi.score(model.body, pi.SynFlow(), [x])
    assert_close({name.removeprefix("body."): score for name, score in found.items()}, expected)


def test_a_sparsified_model_scores_as_the_masked_dense_one():
    problem = PROBLEMS[IDS.index("tied-weights")]
    model = problem.model()
    masks = random_masks(model)
    expected = pi.SynFlow()(model, [problem.batch()], masks)
    assert_close(pi.score(pi.sparsify_(model, masks), pi.SynFlow(), [problem.batch()]), expected)


def test_bfloat16_models_are_scored_in_float32():
    torch.manual_seed(0)
    model = pi.models.build("resnet20", input_shape=(3, 8, 8), classes=10).bfloat16()
    scores = pi.score(model, pi.SynFlow(), [torch.zeros(1, 3, 8, 8).bfloat16()])
    expected = pi.score(model.double(), pi.SynFlow(), [torch.zeros(1, 3, 8, 8).double()])
    assert all(score.dtype == torch.float32 for score in scores.values())
    assert_close({name: score.double() for name, score in scores.items()}, expected, 1e-4)


def test_buffers_that_a_model_writes_to_are_left_alone():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x) + self.calls

    model = Counting()
    pi.score(model, pi.SynFlow(), [torch.zeros(1, 4)])
    assert model.calls == 0


def test_where_nothing_flows_a_warning_says_so():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    masks = pi.Masks({"0.weight": torch.zeros(4, 4).bool(), "1.weight": torch.ones(2, 4).bool()})
    with pytest.warns(UserWarning, match="every score is 0"):
        assert not pi.SynFlow()(model, [torch.zeros(1, 4)], masks)["1.weight"].any()


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_impossible_rounds(number):
    with pytest.raises(pi.InputError, match="rounds must be a whole number, at least 1, got"):
        pi.SynFlow(rounds=number)


@pytest.mark.parametrize(
    "batches, message",
    [
        (None, "this needs data: pass batches="),
        ([], "there are no batches"),
        ([torch.zeros(1, 3)], r"cannot be run on the batch given, \(float32 1x3\)"),
    ],
)
def test_bad_batches(batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.score(nn.Linear(4, 2), pi.SynFlow(), batches)


def test_weights_that_are_not_finite_are_named():
    model = nn.Linear(4, 2)
    model.weight.data[0, 0] = torch.nan
    with pytest.raises(pi.InputError, match="the flow is nan after 'reading the weights'"):
        pi.score(model, pi.SynFlow(), [torch.zeros(1, 4)])


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


MAPS = {
    "max-pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max-pool-and-places": lambda: Of(lambda x: functional.max_pool2d(x, 2, return_indices=True)[0]),
    "adaptive-max": lambda: nn.AdaptiveMaxPool2d(2),
    "average": lambda: nn.AvgPool2d(2, ceil_mode=True),
    "up": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "shuffle": lambda: nn.PixelShuffle(2),
    "pad": lambda: nn.ConstantPad2d(1, 0.5),
    "reflect": lambda: nn.ReflectionPad2d(1),
    "unfold": lambda: nn.Sequential(nn.Unfold(2), nn.Fold(6, 2)),
    "instance": lambda: nn.InstanceNorm2d(4, affine=True),
    "group": lambda: nn.GroupNorm(2, 4),
    "batch-without-statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "prelu": lambda: nn.PReLU(4),
    "glu": lambda: nn.GLU(1),
    "softmax": lambda: nn.Softmax(1),
    "log-softmax": lambda: nn.LogSoftmax(1),
    "dropout": lambda: nn.AlphaDropout(0.5),
    "layer": lambda: nn.LayerNorm((6, 6), elementwise_affine=False),
    "rms": lambda: nn.RMSNorm(6),
    "transposed": lambda: nn.ConvTranspose2d(4, 2, 3, 2, output_padding=1, groups=2),
    "normalize": lambda: Of(functional.normalize),
    "plus-one": lambda: Of(lambda x: 1 + x),
    "one-minus": lambda: Of(lambda x: 1 - x),
    "half-of-it": lambda: Of(lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
    "logsumexp": lambda: Of(lambda x: x.logsumexp(1, keepdim=True)),
    "maximum": lambda: Of(lambda x: torch.maximum(x, x.flip(2))),
    "where": lambda: Of(lambda x: torch.where(torch.ones(6) > 0, x, 2.0)),
    "stack": lambda: Of(lambda x: torch.stack([x, torch.ones_like(x)]).sum(0)),
    "sort": lambda: Of(lambda x: x.sort(1)[0].cumsum(1)),
    "top": lambda: Of(lambda x: x.topk(2, 1).values),
    "split": lambda: Of(lambda x: sum(part.square() for part in x.chunk(2, 1))),
    "mean": lambda: Of(lambda x: x - x.mean((2, 3), keepdim=True)),
    "std": lambda: Of(lambda x: torch.cat([x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True)], 1)),
    "einsum": lambda: Of(lambda x: torch.einsum("bchw,bdhw->bcd", x, x)),
    "half-precision": lambda: Of(lambda x: x.half().double()),
    "clamp": lambda: Of(lambda x: x.float().clamp(0, 6).to(torch.float64)),
    "unknown": lambda: Of(lambda x: torch.addcmul(x, x, torch.ones(6, dtype=x.dtype))),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("gain", [1e9, 1e-9], ids=["grows", "shrinks"])
def test_every_operation_gives_the_same_at_any_scale(name, gain, monkeypatch):
    """In float64 the values of this network fit as they are: with and without powers of two the scores are equal."""
    torch.manual_seed(0)
    body = [nn.Conv2d(4, 4, 1), *(nn.Conv2d(4, 4, 1, bias=False) for _ in range(3)), MAPS[name](), nn.Flatten()]
    model = nn.Sequential(*body, nn.LazyLinear(3)).double()
    model(torch.rand(1, 4, 6, 6).double())
    for layer in model[1:4]:
        layer.weight.data *= gain
    batch = torch.zeros(1, 4, 6, 6).double()
    found = pi.score(model, pi.SynFlow(), [batch])
    monkeypatch.setattr("pruneinit.flow.scaled.ROOM", 3000)
    assert_close(found, pi.score(model, pi.SynFlow(), [batch]))
    assert all(score.isfinite().all() for score in found.values())
    assert found["6.weight"].any()
