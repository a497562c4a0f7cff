import pytest
import torch
from torch import nn

import pruneinit as pi
from networks import Net
from problems import IDS, PROBLEMS
from pruneinit.reach import reacher


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def by_force(net, masks):
    """A weight is alive if the twin's output changes when it is removed."""
    generator = torch.Generator().manual_seed(0)
    weights = {n: (torch.rand(m.shape, generator=generator, dtype=torch.float64) + 0.5) * m for n, m in masks.items()}
    x = torch.rand(1, *net.shape, generator=generator, dtype=torch.float64) + 0.5
    before = net.twin(x, weights)
    alive = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        for index in mask.nonzero().tolist():
            without = weights[name].clone()
            without[tuple(index)] = 0
            after = net.twin(x, weights | {name: without})
            alive[name][tuple(index)] = bool((before - after > 1e-9 * before).any())
    return pi.Masks(alive)


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_the_live_weights_of_generated_networks_are_those_whose_removal_changes_the_output(start):
    some_died = 0
    for seed in range(start, start + 20):
        net = Net(seed)
        masks = pi.prune(net, pi.Random(seed), sparsity=(0.3, 0.6, 0.8, 0.9)[seed % 4])
        batch = torch.randn(2, *net.shape), torch.zeros(2, dtype=torch.long)
        found = pi.effective_masks(net, [batch], masks)
        assert found == by_force(net, masks), f"seed {seed}"
        some_died += found.kept < masks.kept
    assert some_died > 5


# By hand ------------------------------------------------------------------------------------------------------------


def live(model, x, masks=None, loss=None):
    """The live weights as lists, for a model that takes one input; all ones where a mask is not given."""
    batch = x if isinstance(x, tuple) else (x,)
    run = loss or (lambda net, inputs: net(*inputs))
    whole = {name: torch.ones(found.shape).bool() for name, found in pi.prunable(model).items()}
    chosen = whole | {name: torch.as_tensor(mask).bool() for name, mask in (masks or {}).items()}
    return pi.effective_masks(model, [batch], pi.Masks(chosen), loss=run)


def test_taps_that_only_see_padding_are_dead():
    found = live(nn.Conv2d(1, 1, 3, padding=1), torch.randn(1, 1, 1, 1))
    assert found["weight"].nonzero().tolist() == [[0, 0, 1, 1]]
    found = live(nn.Conv2d(1, 1, 3, padding=1), torch.randn(1, 1, 1, 2))
    assert found["weight"].nonzero().tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 2]]
    found = live(nn.Conv2d(1, 1, 3, padding=2, dilation=2), torch.randn(1, 1, 2, 2))
    assert found["weight"].nonzero().tolist() == [[0, 0, 1, 1]]


def test_a_skip_connection_goes_around_an_empty_layer():
    from problems import Residual

    model = nn.Sequential(nn.Linear(6, 6), Residual(), nn.Linear(6, 3))
    found = live(model, torch.randn(1, 6), {"1.inner.0.weight": torch.zeros(6, 6)})
    assert found.counts == {
        "0.weight": (36, 36), "1.inner.0.weight": (0, 36), "1.inner.2.weight": (0, 36), "2.weight": (18, 18)
    }  # fmt: skip


def test_concatenation_and_groups():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(2, 2, 1)
            self.b = nn.Conv2d(4, 4, 1, groups=2)  # the first group sees x, the second a(x)

        def forward(self, x):
            return self.b(torch.cat([x, torch.relu(self.a(x))], 1)).mean((2, 3))

    mask = torch.ones(4, 2, 1, 1)
    mask[2:, 0] = 0  # nobody listens to the first channel of a
    found = live(Dense(), torch.randn(1, 2, 3, 3), {"b.weight": mask})
    assert found["a.weight"].flatten(1).tolist() == [[False, False], [True, True]]
    mask = torch.ones(2, 2, 1, 1)
    mask[1] = 0  # nobody speaks on the second
    found = live(Dense(), torch.randn(1, 2, 3, 3), {"a.weight": mask})
    assert found["b.weight"].flatten(1).tolist() == [[True, True], [True, True], [True, False], [True, False]]


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kdim", [None, 3])
def test_attention_depends_on_queries_keys_and_values(need_weights, kdim):
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(2, 4)
            self.memory = nn.Linear(2, kdim or 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, kdim=kdim, vdim=kdim)

        def forward(self, x):
            memory = self.memory(x)
            return self.attention(self.query(x), memory, memory, need_weights=need_weights)[0]

    model, x = Cross().eval(), torch.randn(1, 3, 2)
    assert live(model, x).sparsity == 0
    if kdim is None:
        ones, zeros = torch.ones(4, 4), torch.zeros(4, 4)
        dead_q = {"attention.in_proj_weight": torch.cat([zeros, ones, ones])}
        dead_v = {"attention.in_proj_weight": torch.cat([ones, ones, zeros])}
        dead_q_k = {"attention.in_proj_weight": torch.cat([zeros, zeros, ones])}
    else:
        dead_q = {"attention.q_proj_weight": torch.zeros(4, 4)}
        dead_v = {"attention.v_proj_weight": torch.zeros(4, 3)}
        dead_q_k = dead_q | {"attention.k_proj_weight": torch.zeros(4, 3)}
    found = live(model, x, dead_q)
    assert found.counts["query.weight"] == (0, 8)
    assert found.densities["memory.weight"] == 1
    assert live(model, x, dead_q_k).densities["memory.weight"] == 1
    assert live(model, x, dead_v).densities["memory.weight"] == 1  # by the keys
    # A head that nobody listens to is dead in all three, and nothing else is.
    half = torch.ones(4, 4)
    half[:, :2] = 0
    found = live(model, x, {"attention.out_proj.weight": half})
    rows = torch.cat([m.all(1) for n, m in found.items() if "proj_weight" in n]).tolist()
    assert rows == [False, False, True, True] * 3
    assert found.counts["query.weight"] == (8, 8)


@pytest.mark.parametrize("fused", [True, False])
def test_learned_queries_are_no_input_but_choose_among_the_values(fused):
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.start = nn.Parameter(torch.zeros(1, 1, 2))
            self.query, self.key, self.value = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(2, 3)

        def forward(self, x):
            q, k, v = self.query(self.start), self.key(x), self.value(x)
            if fused:
                return nn.functional.scaled_dot_product_attention(q, k, v)
            return (q @ k.mT).softmax(-1) @ v

    mask = torch.ones(4, 2)
    mask[1] = 0  # this dimension of the keys is compared with nothing
    found = live(Pooling(), torch.randn(1, 3, 2), {"key.weight": mask})
    assert found["query.weight"].equal(mask.bool())
    assert found.kept == found.total - 4


def test_a_layer_that_runs_twice_lives_by_either_use():
    from problems import SharedLayer, TiedWeights

    # 0 -> 1 -> 2 is a path of the two runs; 3 is read by nobody, and 4 leads to 3.
    mask = torch.zeros(6, 6)
    mask[1, 0] = mask[2, 1] = mask[3, 4] = 1
    head = torch.zeros(3, 6)
    head[0, 2] = 1
    found = live(SharedLayer(), torch.randn(1, 6), {"layer.weight": mask, "head.weight": head})
    assert found["layer.weight"].nonzero().tolist() == [[1, 0], [2, 1]]
    found = live(TiedWeights(), torch.randn(1, 6), {"first.weight": mask, "head.weight": head})
    assert found["first.weight"].nonzero().tolist() == [[1, 0], [2, 1]]


class Language(nn.Module):
    """Tokens in, logits of tokens out, with one matrix for both."""

    def __init__(self, tied):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.position = nn.Parameter(torch.zeros(1, 3, 4))
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(4, 5, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.encoder(self.embedding(tokens) + self.position, mask=causal, is_causal=True))


@pytest.mark.parametrize("tied", [True, False])
def test_tokens_through_a_transformer(tied):
    model, tokens = Language(tied), torch.tensor([[1, 3, 3]])
    assert live(model, tokens).sparsity == 0
    nothing = {n: torch.zeros(w.shape) for n, w in pi.prunable(model).items() if "encoder" in n}
    # The residual stream is left: what the embedding writes, the head reads.
    found = live(model, tokens, nothing)
    assert found.counts["head.weight"] == (20, 20)
    assert found.kept == 20
    silent = {"encoder.layers.1.linear1.weight": torch.zeros(8, 4)}
    assert live(model, tokens, silent).counts["encoder.layers.1.linear2.weight"] == (0, 32)


@pytest.mark.parametrize("look_up", [lambda table, t: nn.functional.embedding(t, table), lambda table, t: table[t]])
def test_a_row_of_a_tied_embedding_lives_by_its_token_even_where_the_head_is_silent(look_up):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 4, bias=False)
            self.out = nn.Linear(2, 1)

        def forward(self, tokens):
            return self.out(look_up(self.head.weight, tokens).sum(1))

    found = live(Tied(), torch.tensor([[0, 2]]), {"out.weight": [[1, 0]]})
    assert found["head.weight"].tolist() == [[True, False], [False, False], [True, False], [False, False]]


def test_before_and_after_a_recurrent_layer():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.lstm = nn.LSTM(4, 5, batch_first=True)
            self.last = nn.Linear(5, 2)

        def forward(self, x):
            return self.last(self.lstm(self.first(x))[0][:, -1])

    model, x = Recurrent(), torch.randn(1, 6, 3)
    assert live(model, x).sparsity == 0
    found = live(model, x, {"first.weight": torch.zeros(4, 3)})
    assert found.kept == 0  # what the biases say is no path


def test_branches_are_taken_as_the_example_takes_them():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.up(x) if x.sum() > 0 else self.down(x)

    assert live(Branching(), torch.ones(1, 2)).counts == {"up.weight": (4, 4), "down.weight": (0, 4)}
    assert live(Branching(), -torch.ones(1, 2)).counts == {"up.weight": (0, 4), "down.weight": (4, 4)}
    # Only the first example counts.
    assert live(Branching(), torch.tensor([[1.0, 1.0], [-9.0, -9.0]])).counts["up.weight"] == (4, 4)


def test_a_choice_is_a_path_for_what_it_is_made_of():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.value = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return torch.where(self.gate(x) > 0, self.value(x), 0.0)

    assert live(Gated(), torch.randn(1, 2)).sparsity == 0
    assert live(Gated(), torch.randn(1, 2), {"value.weight": torch.zeros(2, 2)}).counts["gate.weight"] == (4, 4)

    class Overwritten(Gated):
        def forward(self, x):
            value = self.value(x)
            value[self.gate(x) < 100] = 0  # all, for this example
            return value

    assert live(Overwritten(), torch.randn(1, 2)).sparsity == 0

    class Chosen(Gated):
        def forward(self, x):
            return nn.functional.one_hot(self.gate(x).argmax(1), 2)

    assert live(Chosen(), torch.randn(1, 2)).counts == {"gate.weight": (4, 4), "value.weight": (0, 4)}


def rectified_by_where(x):
    return torch.where(x > 0, x, 0.0)


def rectified_by_mask(x):
    return x.masked_fill(x < 0, 0.0)


def rectified_in_place(x):
    x[x < 0] = 0
    return x


def leaking_in_place(x):
    x[x < 0] *= 0.1
    return x


@pytest.mark.parametrize("rectify", [rectified_by_where, rectified_by_mask, rectified_in_place, leaking_in_place])
def test_an_activation_lets_pass_what_it_stops_for_the_example(rectify):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(rectify(self.first(x)))

    mask = torch.ones(8, 2)
    mask[3] = 0
    found = live(Net(), torch.ones(1, 2), {"first.weight": mask})
    assert found.counts["first.weight"] == (14, 16)
    # What was packed together by a mask depends on all of it.
    assert found.counts["last.weight"] == ((16, 16) if rectify is leaking_in_place else (14, 16))


def test_parameters_that_are_zero_now_let_a_signal_through_and_zero_constants_do_not():
    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.layer, self.scale = nn.Linear(2, 2), scale

        def forward(self, x):
            return self.scale.reshape(1, -1) * self.layer(x)

    assert live(Scaled(nn.Parameter(torch.zeros(2))), torch.randn(1, 2)).kept == 4
    assert live(Scaled(torch.tensor([0.0, 2.0])), torch.randn(1, 2))["layer.weight"].tolist() == [[0, 0], [1, 1]]


def test_a_pruned_weight_that_has_something_added_to_it_still_passes_a_signal():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return nn.functional.linear(self.first(x), self.second.weight + torch.eye(2))

    found = live(Shifted(), torch.randn(1, 2), {"second.weight": [[0, 0], [0, 1]]})
    assert found.counts == {"first.weight": (4, 4), "second.weight": (1, 4)}


def test_weights_that_are_used_in_other_ways_than_by_their_layer():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(3, 2)

        def forward(self, x):
            low_rank = self.b.weight @ self.a.weight
            norm = self.c.weight / self.c.weight.norm(dim=1, keepdim=True)
            return nn.functional.linear(x, low_rank) @ norm[:, :2]

    found = live(Odd(), torch.randn(1, 2), {"a.weight": [[1, 0], [0, 0]], "c.weight": [[1, 0, 1], [1, 0, 0]]})
    assert found["a.weight"].tolist() == [[True, False], [False, False]]
    assert found["b.weight"].tolist() == [[True, False], [True, False]]
    assert found["c.weight"].tolist() == [[True, False, True], [True, False, False]]  # the third by the norm


@pytest.mark.parametrize("function", [torch.maximum, torch.cosine_similarity, torch.cdist])
def test_weights_in_operations_that_are_no_product_are_alive(function):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 4)

        def forward(self, x):
            return function(self.first(x), self.second.weight)

    found = live(Odd(), torch.randn(1, 2))
    assert found.sparsity == 0
    assert live(Odd(), torch.randn(1, 2), {"first.weight": torch.zeros(3, 2)}).kept == 0


def test_paths_are_found_in_very_deep_networks_where_their_number_overflows():
    model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(300)])
    masks = {"0.weight": torch.eye(16), "150.weight": torch.cat([torch.ones(8, 16), torch.zeros(8, 16)])}
    found = live(model, torch.randn(1, 16), masks)
    assert found.counts["299.weight"] == (256, 256)
    assert found.counts["151.weight"] == (128, 256)
    assert found["0.weight"].equal(torch.eye(16).bool())


def test_layers_that_normalise_by_the_batch_can_be_followed_with_one_example():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))
    assert live(model, torch.randn(2, 3)).sparsity == 0
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 1))
    assert live(model, torch.randn(1, 3, 1, 1)).sparsity == 0


def test_checkpointing_compilation_autocast_and_custom_functions():
    from torch.utils.checkpoint import checkpoint

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.enable_grad():
                x = checkpoint(lambda t: torch.relu(self.a(t)), x, use_reentrant=False)
            with torch.autocast("cpu", torch.bfloat16):
                x = Twice.apply(self.b(x))
            return self.c(x.float())

    mask = {"a.weight": [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], "b.weight": torch.eye(4)}
    found = live(Net(), torch.randn(1, 3), mask)
    assert {name: kept for name, (kept, _) in found.counts.items()} == {"a.weight": 2, "b.weight": 1, "c.weight": 2}
    compiled = Net()
    compiled.compile()
    assert live(compiled, torch.randn(1, 3), mask) == found


# What holds for all networks ----------------------------------------------------------------------------------------


def without_constants(model):
    """Biases and running means set to zero, so that a dead weight can change nothing at all."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model.double().eval()


NETWORKS = [
    ("resnet20", {"width": 4}, (3, 8, 8)),
    ("preact_resnet20", {"width": 4}, (3, 8, 8)),
    ("wrn-10-1", {}, (3, 8, 8)),
    ("vgg16", {"width": 4}, (3, 32, 32)),
    ("vcnn", {"depth": 6, "width": 8}, (1, 8, 8)),
    ("mlp", {"depth": 5, "width": 20}, (1, 4, 4)),
]


@pytest.mark.parametrize("name, options, shape", NETWORKS, ids=[name for name, _, _ in NETWORKS])
@pytest.mark.parametrize("sparsity", [0.8, 0.95])
def test_without_its_dead_weights_a_network_computes_the_same(name, options, shape, sparsity):
    torch.manual_seed(0)
    model = without_constants(pi.models.build(name, input_shape=shape, classes=10, **options))
    x, y = torch.randn(2, *shape, dtype=torch.float64), torch.tensor([1, 2])
    masks = pi.prune(model, pi.Random(), sparsity=sparsity)
    found = pi.effective_masks(model, [(x, y)], masks)
    assert 0 < found.kept < masks.kept
    assert torch.allclose(output(model, x, masks), output(model, x, found), rtol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_alive_or_dead_is_what_the_removal_of_a_single_weight_says(problem):
    torch.manual_seed(0)
    model = without_constants(problem.model())
    masks = pi.prune(model, pi.Random(3), sparsity=0.75)
    x, y = problem.batch(64)
    found = pi.effective_masks(model, [(x, y)], masks)
    before = output(model, x, masks)
    for name, mask in masks.items():
        for index in mask.nonzero().tolist():
            less = mask.clone()
            less[tuple(index)] = False
            changed = not torch.allclose(before, output(model, x, pi.Masks({**masks, name: less})), rtol=1e-13, atol=0)
            alive = bool(found[name][tuple(index)])
            # Attention counts queries and keys as paths also where there are no values to weigh.
            assert alive == changed or (alive and problem.name == "attention"), (name, index)


def output(model, x, masks):
    weights = {name: model.get_parameter(name) * mask for name, mask in masks.items()}
    aliases = {alias: weights[w.name] for w in pi.prunable(model).values() for alias in w.aliases}
    return torch.func.functional_call(model, weights | aliases, (x,)).detach()


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_effective_masks_are_smaller_stay_so_and_grow_with_the_masks(problem):
    model, batch = problem.model(), problem.batch()
    before = None
    for sparsity in (0.95, 0.8, 0.5, 0.0):
        masks = pi.prune(model, pi.Random(1), sparsity=sparsity)
        found = pi.effective_masks(model, [batch], masks)
        assert (found & masks) == found
        assert pi.effective_masks(model, [batch], found) == found
        assert before is None or (found & before) == before
        before = found


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_is_left_as_it_was(problem):
    model, batch = problem.model().train(), problem.batch()
    next(iter(model.parameters())).grad = torch.ones_like(next(iter(model.parameters())))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x, random = batch[0].clone(), torch.get_rng_state()
    pi.effective_masks(model, [batch])
    pi.prune(model, pi.Random(), [batch], sparsity=0.8, effective=True)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(batch[0], x)
    assert [p.grad is None for p in model.parameters()] == [False] + [True] * (len(list(model.parameters())) - 1)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_sparsified_and_rescaled_model_has_the_masks_of_the_dense_one(problem):
    model, batch = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(2), sparsity=0.6)
    expected = pi.effective_masks(model, [batch], masks)
    pi.sparsify_(pi.rescale_(model, masks=masks), masks)
    assert pi.effective_masks(model, [batch]) == expected
    # What is gone does not come back by masks that ask for it.
    assert pi.effective_masks(model, [batch], pi.Masks({n: torch.ones_like(m) for n, m in masks.items()})) == expected


def test_a_stabilised_network():
    model = pi.models.build("resnet20", input_shape=(3, 8, 8), classes=10, width=4)
    batch = torch.randn(2, 3, 8, 8), torch.tensor([1, 2])
    masks = pi.prune(model, pi.Random(2), sparsity=0.9)
    expected = pi.effective_masks(model, [batch], masks)
    pi.stabilize_residuals_(model, batch[0])
    assert pi.effective_masks(model, [batch], masks) == expected


def test_masks_of_some_weights_leave_the_others_whole():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    some = pi.Masks({"1.weight": torch.tensor([[True, False, False], [True, False, False]])})
    assert pi.effective_masks(model, [(torch.randn(2, 3), torch.tensor([0, 1]))], some) == some


def test_a_reacher_serves_many_masks():
    problem = PROBLEMS[1]
    model, batch = problem.model(), problem.batch()
    alive = reacher(model, iter([batch]))
    for sparsity in (0.9, 0.3, 0.7):
        masks = pi.prune(model, pi.Random(), sparsity=sparsity)
        assert alive(masks) == pi.effective_masks(model, [batch], masks)
    assert alive(None) == pi.effective_masks(model, [batch])


@pytest.mark.parametrize(
    "batches, masks, loss, message",
    [
        ([], None, None, "there are no batches"),
        ([(torch.zeros(1, 7), torch.zeros(1).long())], None, None, "cannot be run on the batch given"),
        ([(torch.zeros(1, 3), torch.zeros(1).long())], {"weight": torch.ones(3, 2).bool()}, None, "the weight has"),
        ([(torch.zeros(1, 3), None)], None, lambda net, batch: net(batch[0]).sum().item(), "cannot be followed back"),
        ([(torch.zeros(1, 3), None)], None, lambda net, batch: net(torch.zeros(1, 3)), "cannot be followed back"),
    ],
)
def test_impossible_requests(batches, masks, loss, message):
    kwargs = {} if loss is None else {"loss": loss}
    with pytest.raises(pi.InputError, match=message):
        pi.effective_masks(nn.Linear(3, 2), batches, None if masks is None else pi.Masks(masks), **kwargs)
