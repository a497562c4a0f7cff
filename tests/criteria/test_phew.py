import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import pruneinit as pi
from networks import Net
from problems import IDS, PROBLEMS
from pruneinit.functional import call, cross_entropy, scoring_mode
from pruneinit.seeds import derived
from pruneinit.walks import Walker
from pruneinit.weights import weight
from pruneinit.wiring import wiring

GROUP = 1024


def problem_named(name):
    return PROBLEMS[IDS.index(name)]


def met(scores):
    return sum(int((score > 1).sum()) for score in scores.values())


def total(scores):
    return sum(score.numel() for score in scores.values())


def order_of(scores):
    """The weights that walks met, as (name, flat index), first met first."""
    found = [(s, n, i) for n, score in scores.items() for i, s in enumerate(score.flatten().tolist()) if s > 1]
    return [(name, i) for _, name, i in sorted(found, reverse=True)]


def sequential(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double()


CHAINS = {
    "linear": (lambda: sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)), (5,)),
    "conv": (lambda: sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.Flatten(),
                                nn.Linear(12, 3)), (2, 8, 8)),
    "flattened": (lambda: sequential(nn.Conv2d(2, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)), (2, 3, 3)),
    "groups": (lambda: sequential(nn.Conv1d(4, 6, 2, groups=2), nn.Flatten(), nn.Linear(6, 3)), (4, 2)),
    "transposed": (lambda: sequential(nn.ConvTranspose1d(4, 6, 2, groups=2), nn.BatchNorm1d(6),
                                      nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)), (4, 3)),
}  # fmt: skip


def edges_of(module):
    """The weights of a layer by hand, flat index first: (index, input channel, output channel, |w|)."""
    w, groups = module.weight.detach(), getattr(module, "groups", 1)
    found = []
    for index, place in enumerate(torch.cartesian_prod(*map(torch.arange, w.shape)).tolist()):
        a, b = place[:2]
        if isinstance(module, nn.ConvTranspose1d):
            unit, port = a // (w.shape[0] // groups) * w.shape[1] + b, a
        else:
            unit, port = a, a // (w.shape[0] // groups) * w.shape[1] + b
        found.append((index, port, unit, abs(w[tuple(place)].item())))
    return found


class SlowWalks:
    """Walks over a chain of layers, one by one in plain Python. A channel feeds `width` features of the next layer."""

    def __init__(self, model):
        named = [(n, m) for n, m in model.named_children() if hasattr(m, "weight") and m.weight.dim() > 1]
        self.names = [f"{n}.weight" for n, _ in named]
        self.edges = [edges_of(m) for _, m in named]
        self.ports = [1 + max(e[1] for e in edges) for edges in self.edges]
        self.units = [1 + max(e[2] for e in edges) for edges in self.edges]
        self.width = [b // a for a, b in zip(self.units, self.ports[1:], strict=False)]

    @staticmethod
    def draw(choices, u):
        """The first choice at which the sum of weights exceeds u times the total."""
        goal, sum_so_far = u * sum(w for _, w in choices), 0.0
        for choice, w in choices:
            sum_so_far += w
            if sum_so_far > goal:
                return choice
        return choices[-1][0]

    def leaving(self, layer, port):
        return [(e, e[3]) for e in self.edges[layer] if e[1] == port]

    def feeding(self, layer, unit):
        return [(e, e[3]) for e in self.edges[layer] if e[2] == unit]

    def forward(self, number, u):
        port, edge = number % self.ports[0], (0, 0, 0, 0.0)
        for layer, name in enumerate(self.names):
            if layer:
                width = self.width[layer - 1]
                ports = range(edge[2] * width, (edge[2] + 1) * width)
                port = self.draw([(p, sum(w for _, w in self.leaving(layer, p))) for p in ports], u[layer][0])
            edge = self.draw(self.leaving(layer, port), u[layer][1])
            yield name, edge[0]

    def backward(self, number, u):
        unit, edge = number % self.units[-1], (0, 0, 0, 0.0)
        for step, layer in enumerate(reversed(range(len(self.names)))):
            if step:
                unit = edge[1] // self.width[layer]  # the only one that the port reads
            edge = self.draw(self.feeding(layer, unit), u[step][1])
            yield self.names[layer], edge[0]

    def order(self, seed):
        generator = torch.Generator().manual_seed(derived("phew walks", seed))
        depth, found = len(self.names), {}
        u = torch.rand(GROUP * 2 * depth * 2, generator=generator, dtype=torch.float64).tolist()
        rows = [[u[2 * (row * depth + k) :][:2] for k in range(depth)] for row in range(2 * GROUP)]
        for number in range(GROUP):
            for visit in self.forward(number, rows[2 * number]):
                found.setdefault(visit)
            for visit in self.backward(number, rows[2 * number + 1]):
                found.setdefault(visit)
        return list(found)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_is_that_of_slow_walks_with_the_same_numbers(chain, seed):
    build, shape = CHAINS[chain]
    model = build()
    scores = pi.Phew(coverage=0.01, seed=seed)(model, [(torch.zeros(2, *shape).double(), torch.tensor([0, 1]))])
    assert order_of(scores) == SlowWalks(model).order(seed)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("share", [1.0, 0.6, 0.3])
def test_what_is_kept_lies_on_paths_from_input_to_output(problem, share):
    model, batch = problem.model(), problem.batch()
    scores = pi.Phew(coverage=0.9)(model, [batch])
    count = round(share * met(scores))
    masks = pi.select(scores, 1 - count / total(scores))
    alive = pi.effective_masks(model, [batch], masks).kept
    assert masks.kept == count
    calls = 4 if problem.name != "attention" else 5
    assert count - calls < alive <= count  # all but those of the last walk, which may be cut short
    assert share < 1 or alive == count


@pytest.mark.parametrize("seed", range(20))
def test_walks_find_their_way_through_any_graph_of_layers(seed):
    """Sums, concatenations, slices, pooling, shuffles: every weight that is met is alive in the whole network."""
    model = Net(seed)
    batch = (torch.randn(1, *model.shape),)

    def loss(net, part):
        return net(*part)

    scores = pi.Phew(coverage=1.0, loss=loss)(model, [batch])
    whole = pi.Masks({name: torch.ones(score.shape).bool() for name, score in scores.items()})
    alive = pi.effective_masks(model, [batch], whole, loss=loss)
    assert not any(bool(((score > 1) & ~alive[name]).any()) for name, score in scores.items())
    assert met(scores) >= 0.5 * alive.kept  # of one of the twenty nothing is alive


class Branches(nn.Module):
    """A sum and a concatenation, wired so that each is read by several layers."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.side = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.first(x)
        x = x + torch.tanh(self.inner(x))
        return self.head(torch.cat([x, torch.relu(self.side(x))], 1))


def test_visits_are_as_frequent_as_the_markov_chain_says():
    """Through a sum, a concatenation and past them; the chain's probabilities by solving it with dense matrices."""
    torch.manual_seed(0)
    model = Branches().double()
    batch = (torch.zeros(1, 3).double(), torch.zeros(1).long())
    a, b, c, d = (m.weight.detach().abs() for m in (model.first, model.inner, model.side, model.head))
    # Forward: from unit i of `first` to inner, side and head; `inner` feeds the same sum but not itself.
    after = torch.cat([c, d[:, :4]]).sum(0)
    first = a / a.sum(0) / 3
    at = first.sum(1)
    inner = b / (b.sum(0) + after) * at
    stream = at / (b.sum(0) + after) + inner.sum(1) / after
    side = c * stream
    head = torch.cat([d[:, :4] * stream, d[:, 4:] / d[:, 4:].sum(0) * side.sum(1)], 1)
    expected = {"first.weight": first, "inner.weight": inner, "side.weight": side, "head.weight": head}
    # Backward: from each output unit to what the port reads.
    last = d / d.sum(1, keepdim=True) / 3
    side_back = c / c.sum(1, keepdim=True) * last[:, 4:].sum(0)[:, None]
    at_sum = last[:, :4].sum(0) + side_back.sum(0)
    both = a.sum(1) + b.sum(1)
    inner_back = b * (at_sum / both)[:, None]
    first_back = a * (at_sum / both + inner_back.sum(0) / a.sum(1))[:, None]
    backward = {"first.weight": first_back, "inner.weight": inner_back, "side.weight": side_back, "head.weight": last}

    values = {name: weight(model, name).detach() for name in pi.prunable(model)}
    with scoring_mode(model, "running"):
        wires = call(model, batch, lambda net, part: wiring(net, part, cross_entropy, values), values)
    walker = Walker(wires, {name: value.abs().flatten() for name, value in values.items()})
    generator = torch.Generator().manual_seed(0)
    visits = torch.stack([walker.visit(0, generator) for _ in range(60)])
    sizes = [value.numel() for value in values.values()]
    for rows, probabilities in ((visits[:, 0::2], expected), (visits[:, 1::2], backward)):
        walks = rows[..., 0].numel()
        counts = torch.bincount(rows[rows >= 0], minlength=sum(sizes)) / walks
        for name, found in zip(values, torch.split(counts, sizes), strict=True):
            p = probabilities[name].flatten()
            # Five standard deviations; and the starts go in turn, while 1,024 walks cannot be shared out among three.
            assert ((found - p).abs() < 5 * (p * (1 - p) / walks).sqrt() + 5e-4).all(), name


def test_any_sparsity_is_met_exactly_and_what_no_walk_met_goes_by_magnitude():
    model = problem_named("dense").model()
    scores = pi.Phew(coverage=0.01)(model, [problem_named("dense").batch()])
    for sparsity in (0.99, 0.7, 0.4, 0.02):
        assert pi.select(scores, sparsity).kept == round((1 - sparsity) * total(scores))
    flat = torch.cat([s.flatten() for s in scores.values()])
    sizes = torch.cat([weight(model, n).detach().abs().flatten() for n in scores])
    rest = flat <= 1
    assert len(set(flat[~rest].tolist())) == met(scores)
    assert torch.equal(flat[rest].argsort(), sizes[rest].argsort())


def test_walks_go_round_what_masks_remove_and_weights_of_zero():
    problem = problem_named("residual")
    model, batch = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(seed=4), sparsity=0.4)
    scores = pi.Phew(coverage=0.9)(model, [batch], masks)
    assert all(not bool(score[~masks[name]].any()) for name, score in scores.items())
    sparse = pi.sparsify_(copy.deepcopy(model), masks)
    again = pi.Phew(coverage=0.9)(sparse, [batch])
    assert all(torch.equal(scores[name], again[name]) for name in scores)


def test_walks_pass_through_weights_that_are_not_to_be_pruned():
    problem = problem_named("dense")
    scores = pi.score(problem.model(), pi.Phew(), [problem.batch()], exclude="2.weight")
    assert list(scores) == ["0.weight", "4.weight"]
    assert met(scores) > 0


def test_scores_follow_the_seed_alone_and_leave_the_global_random_numbers():
    problem = problem_named("conv-and-groups")
    model, batch = problem.model(), problem.batch()
    state = torch.get_rng_state()
    first, again, other = (pi.Phew(coverage=0.01, seed=s)(model, [batch]) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert order_of(first) != order_of(other)
    data = pi.Phew(coverage=0.01, seed=1)(model, [problem.batch(3, seed=9)])
    assert all(torch.equal(first[n], data[n]) for n in first)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_stays_as_it_was(problem):
    model = problem.model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pi.Phew()(model, [problem.batch()])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_weights_of_bfloat16_have_the_order_of_their_values_in_float64():
    problem = problem_named("dense")
    low = problem.model(dtype=torch.bfloat16)
    x, y = problem.batch(dtype=torch.bfloat16)
    scores = pi.Phew()(low, [(x, y)])
    exact = pi.Phew()(copy.deepcopy(low).double(), [(x.double(), y)])
    assert all(torch.equal(scores[n], exact[n]) for n in scores)


def test_more_walks_are_made_until_the_coverage_is_met():
    model = nn.Sequential(nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 50))
    batch = (torch.zeros(1, 50), torch.zeros(1).long())
    few, many = (pi.Phew(coverage=c)(model, [batch]) for c in (0.05, 0.7))
    assert met(few) < 0.3 * total(few)
    assert met(many) >= 0.7 * total(many)
    assert order_of(many)[: met(few)] == order_of(few)


def test_a_network_without_a_path_is_scored_by_magnitude():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    nn.init.zeros_(model[0].weight)
    scores = pi.Phew()(model, [(torch.zeros(1, 4), torch.zeros(1).long())])
    assert met(scores) == 0
    assert scores["1.weight"].argmax() == model[1].weight.abs().argmax()


def test_a_transformer_can_be_walked():
    torch.manual_seed(0)
    body = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(5, 8), body, nn.Flatten(), nn.Linear(24, 3)).eval()
    batch = (torch.randn(2, 3, 5), torch.zeros(2).long())
    scores = pi.Phew(coverage=0.5)(model, [batch])
    masks = pi.select(scores, 1 - met(scores) / total(scores))
    assert all(bool((score > 1).any()) for score in scores.values())
    assert pi.effective_masks(model, [batch], masks) == masks


class Computed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return functional.linear(x, self.a.weight + self.b.weight)


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return torch.einsum("ni,oi->no", x, self.a.weight)


@pytest.mark.parametrize(
    "model, message",
    [
        (Computed(), "the paths through a tensor computed from weights in linear cannot be walked: expected"),
        (Einsum(), r"the paths through a.weight in einsum cannot be walked: expected linear layers"),
    ],
)
def test_what_cannot_be_walked_is_named(model, message):
    with pytest.raises(pi.InputError, match=message):
        pi.Phew()(model, [(torch.zeros(1, 4), torch.zeros(1).long())])


def test_a_weight_that_is_a_matrix_in_a_product_is_a_layer():
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False)

        def forward(self, x):
            return torch.tanh(x @ self.a.weight.T) @ self.b.weight.t()

    torch.manual_seed(0)
    model = Product()
    batch = [(torch.zeros(1, 4), torch.zeros(1).long())]
    plain = nn.Sequential(copy.deepcopy(model.a), nn.Tanh(), copy.deepcopy(model.b))
    assert [i for _, i in order_of(pi.Phew()(model, batch))] == [i for _, i in order_of(pi.Phew()(plain, batch))]


@pytest.mark.parametrize("coverage", [0, -0.1, 1.5, float("nan"), "all", True])
def test_a_coverage_that_is_none_is_refused(coverage):
    with pytest.raises(pi.InputError, match="coverage must be a number in"):
        pi.Phew(coverage=coverage)


def test_bad_input():
    problem = problem_named("dense")
    model = problem.model()
    with pytest.raises(pi.InputError, match="needs data"):
        pi.Phew()(model)
    with pytest.raises(pi.InputError, match="unknown weight in the masks"):
        pi.Phew()(model, [problem.batch()], pi.Masks({"x": torch.ones(1).bool()}))
    with pytest.raises(pi.InputError, match="cannot be followed back"):
        pi.Phew(loss=lambda net, batch: 1.0)(model, [problem.batch()])
    model[2].weight.data[0, 0] = torch.nan
    with pytest.raises(pi.InputError, match=r"2.weight holds NaN"):
        pi.Phew()(model, [problem.batch()])
