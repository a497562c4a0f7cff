import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

import pruneinit as pi
from problems import IDS, PROBLEMS, Problem
from pruneinit.criteria.gradients import gradients
from pruneinit.weights import prunable
from scoring import assert_untouched, random_masks, snapshot


def twin(problem: Problem, model: nn.Module, batch, masks=None) -> dict[str, torch.Tensor]:
    """Plain autograd: set the weights to the masked ones, call backward, read `.grad`."""
    model.eval()
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.train(problem.norm == "batch")
    weights = {name: model.get_parameter(name) for name in prunable(model)}
    if masks is not None:
        for name, parameter in weights.items():
            parameter.data = parameter.data * masks[name]
    model.zero_grad()
    functional.cross_entropy(model(batch[0]), batch[1]).backward()
    return {name: parameter.grad for name, parameter in weights.items()}


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_gradients_equal_plain_autograd(problem, masked):
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model) if masked else None
    found = gradients(model, [batch], norm=problem.norm, masks=masks)
    expected = twin(problem, problem.model(), batch, masks)
    assert list(found) == list(expected)  # in this order equal scores are kept
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_scoring_leaves_the_model_exactly_as_it_was(problem, training):
    model, batch = problem.model(), problem.batch()
    model.train(training)
    next(iter(model.modules())).train(not training)  # an unusual mixture of modes must come back too
    next(iter(model.children())).train(training)
    before = snapshot(model)
    pi.score(model, pi.Snip(norm=problem.norm), [batch])
    assert_untouched(model, before)


def test_a_failing_batch_leaves_the_model_as_it_was_too():
    problem = PROBLEMS[IDS.index("batch-norm")]
    model = problem.model().train()
    before = snapshot(model)
    with pytest.raises(pi.InputError):
        pi.score(model, pi.Snip(norm="batch"), [(torch.zeros(2, 5, 4, 4), torch.zeros(2).long())])
    assert_untouched(model, before)


@pytest.mark.parametrize("name", ["dense", "conv-and-groups", "running-norm", "attention"])
@pytest.mark.parametrize("sizes", [[4, 4], [1] * 8, [5, 3]], ids=str)
def test_micro_batches_give_the_scores_of_one_batch(name, sizes):
    problem = PROBLEMS[IDS.index(name)]
    x, y = problem.batch(8)
    whole = gradients(problem.model(), [(x, y)], norm=problem.norm)
    parts = gradients(problem.model(), list(zip(x.split(sizes), y.split(sizes), strict=True)), norm=problem.norm)
    for weight in whole:
        torch.testing.assert_close(parts[weight], whole[weight], rtol=1e-10, atol=1e-14)


def test_the_statistics_of_batch_norm_must_be_named():
    problem = PROBLEMS[IDS.index("batch-norm")]
    with pytest.raises(pi.InputError, match="say norm='batch' or norm='running'"):
        pi.score(problem.model(), pi.Snip(), [problem.batch()])
    with pytest.raises(pi.InputError, match=r"unknown norm 'bach'.*did you mean 'batch'"):
        pi.score(problem.model(), pi.Snip(norm="bach"), [problem.batch()])


def test_dropout_is_off_while_scoring():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 3)).train()
    batch = (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert all(
        torch.equal(a, b)
        for a, b in zip(gradients(model, [batch]).values(), gradients(model, [batch]).values(), strict=True)
    )


def test_frozen_weights_are_scored_and_stay_frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    model[0].weight.requires_grad_(False)
    assert gradients(model, [(torch.randn(5, 4), torch.zeros(5).long())])["0.weight"].abs().sum() > 0
    assert not model[0].weight.requires_grad


def test_a_weight_that_the_loss_does_not_see_has_gradient_zero():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.warns(UserWarning, match="the loss does not depend on 1 of 2 weights, which score 0: unused.weight"):
        found = gradients(Half(), [(torch.randn(5, 4), torch.zeros(5).long())])
    assert found["unused.weight"].count_nonzero() == 0
    assert found["used.weight"].count_nonzero() > 0


def test_any_batch_works_with_a_loss_of_its_own():
    model = nn.Linear(4, 3)
    batch = {"a": torch.randn(5, 4), "b": [torch.randn(5, 4)]}

    def loss(net, batch):
        return (net(batch["a"]) - net(batch["b"][0])).square().mean()

    assert pi.score(model, pi.Snip(loss=loss), [batch])["weight"].shape == (3, 4)


@pytest.mark.parametrize(
    "batches, message",
    [
        (None, "needs data: pass batches="),
        ([], "there are no batches"),
        ((torch.zeros(2, 5), torch.zeros(2).long()), "got a single batch; pass \\[batch\\]"),
        ([(torch.zeros(0, 5), torch.zeros(0).long())], r"a batch is empty: \(float32 0x5, int64 0\)"),
        (
            [(torch.zeros(2, 4), torch.zeros(2).long())],
            r"batch given, \(float32 2x4, int64 2\): mat",
        ),
        ([(torch.zeros(2, 5), torch.tensor([0, 9]))], r"cannot be run on the batch given.*Target 9 is out of bounds"),
        (
            [(torch.full((2, 5), torch.nan), torch.zeros(2).long())],
            r"the batch \(float32 2x5, int64 2\) holds NaN or inf: 10 of the 10 values of its tensor 1; clean the data",
        ),
        ([(torch.tensor([[torch.inf, 0, 0, 0, 0]]), torch.zeros(1).long())], "1 of the 5 values of its tensor 1"),
        ([torch.zeros(2, 5)], "cannot be run on the batch given"),
        (5, "batches must be an iterable of .inputs, labels., got int"),
        ("x", "batches must be an iterable of .inputs, labels., got str"),
        ({"x": torch.zeros(2, 5)}, "got a single batch; pass \\[batch\\]"),
        ([None], "a batch is None: expected .inputs, labels."),
        ([(np.zeros((2, 5)), np.zeros(2))], r"a batch holds a NumPy array, float64 2x5, .* torch.from_numpy\(array\)"),
        ([{"x": torch.zeros(2, 5), "y": np.zeros(2, int)}], "a batch holds a NumPy array, int64 2,"),
        (np.zeros((2, 5)), "a batch holds a NumPy array, float64 5,"),
    ],
    ids=[
        "none",
        "no-batches",
        "not-a-list",
        "empty",
        "shape",
        "labels",
        "nan",
        "inf",
        "no-labels",
        "a-number",
        "a-string",
        "a-dictionary",
        "a-batch-is-none",
        "numpy",
        "numpy-labels",
        "a-numpy-array",
    ],
)
def test_bad_batches(batches, message):
    model = PROBLEMS[0].model(dtype=torch.float32)
    with pytest.raises(pi.InputError, match=message):
        pi.score(model, pi.Snip(), batches)
    with pytest.raises(pi.InputError, match=message):
        pi.second_moments(model, batches)
    if batches is not None:
        with pytest.raises(pi.InputError, match=message):
            pi.rescale_(model, batches, masks=pi.prune(model, pi.Magnitude(), sparsity=0.5))


def test_an_overflow_is_not_blamed_on_sound_data_or_on_an_attention_mask():
    model = PROBLEMS[0].model(dtype=torch.float32)
    nn.init.constant_(model[0].weight, 3e38)
    mask = torch.full((2, 2), -torch.inf).triu(1)

    def loss(net, batch):
        return nn.functional.cross_entropy(torch.softmax(batch[2], 1) @ net(batch[0]) * torch.inf, batch[1])

    with pytest.raises(pi.InputError, match="the loss is nan on the batch given"):
        pi.score(model, pi.Snip(loss=loss), [(torch.ones(2, 5), torch.zeros(2).long(), mask)])


def test_a_sparsified_model_has_the_gradients_of_the_masked_dense_one():
    problem = PROBLEMS[IDS.index("tied-weights")]
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model)
    expected = gradients(model, [batch], masks=masks)
    found = gradients(pi.sparsify_(model, masks), [batch])
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_random_numbers_drawn_in_a_forward_pass_do_not_move_the_global_ones():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x + torch.rand_like(x))

    model, before = Noisy(), torch.get_rng_state()
    gradients(model, [(torch.zeros(5, 4), torch.zeros(5).long())])
    assert torch.equal(torch.get_rng_state(), before)


def test_normalisation_that_keeps_no_running_statistics_leaves_no_choice():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))
    assert gradients(model, [(torch.randn(5, 4), torch.zeros(5).long())])["0.weight"].shape == (6, 4)


@pytest.mark.parametrize("tied", [False, True])
def test_an_embedding_that_shortens_its_vectors_is_left_alone(tied):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4, max_norm=0.1), nn.Linear(4, 7)
            if tied:
                self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens).mean(1))

    model, tokens = Tokens(), torch.arange(6).view(2, 3)
    before = model.embed.weight.detach().clone()
    scores = pi.score(model, pi.Snip(), [(tokens, torch.zeros(2).long())])
    pi.second_moments(model, [(tokens, torch.zeros(2).long())])
    pi.find_residuals(model, tokens)
    assert torch.equal(model.embed.weight, before)
    assert scores["head.weight"].any()


def test_checkpointed_blocks_are_recomputed_with_the_weights_that_are_scored():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)

    model = Checkpointed().train()
    batch = (torch.randn(8, 4), torch.randint(3, (8,)))
    masks = random_masks(model)
    before = snapshot(model)
    found = gradients(model, [batch], norm="batch", masks=masks)
    assert_untouched(model, before)
    expected = gradients(model.body, [batch], norm="batch", masks=pi.Masks({n[5:]: m for n, m in masks.items()}))
    for name in expected:
        torch.testing.assert_close(found[f"body.{name}"], expected[name])


def test_two_weights_that_get_one_and_the_same_gradient_are_averaged_apart():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)

        def forward(self, x):
            return nn.functional.linear(x, self.a.weight + self.b.weight)

    model, x, y = Sum().double(), torch.randn(6, 4).double(), torch.randint(3, (6,))
    whole = gradients(model, [(x, y)])
    parts = gradients(model, [(x[:2], y[:2]), (x[2:3], y[2:3]), (x[3:], y[3:])])
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name])


@pytest.mark.parametrize("way", ["views", "slices", "the-same"])
def test_weights_whose_gradients_share_memory_get_scores_of_their_own(way):
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)

        def forward(self, x):
            a, b = self.a.weight, self.b.weight
            if way == "views":
                return functional.linear(x, (a.view(-1) + b.view(-1)).view(3, 4))
            return functional.linear(x, torch.cat([a, b]) if way == "slices" else a + b)

    model, batch = Joined().double(), (torch.randn(6, 4).double(), torch.randint(3, (6,)))
    functional.cross_entropy(model(batch[0]), batch[1]).backward()
    expected = {name: (p * p.grad).detach().abs() for name, p in model.named_parameters()}
    for batches in ([batch], [batch, batch]):
        found = pi.score(model, pi.Snip(), batches)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name])
            assert found[name].untyped_storage().nbytes() == 8 * 12  # and holds nothing of its neighbour


class _Inner(torch.autograd.Function):
    """tanh(x W^T), differentiated by a backward pass within the backward pass, as reversible blocks do it."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x)
        ctx.weight = weight
        return torch.tanh(x @ weight.T)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            torch.tanh(x @ ctx.weight.T).backward(gradient)
        return x.grad, None


def test_blocks_that_differentiate_themselves_are_added_to_the_rest():
    class Reversible(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.layer, self.head, self.inner = nn.Linear(6, 6, bias=False), nn.Linear(6, 3), inner

        def forward(self, x):
            x = torch.tanh(self.layer(x))
            x = _Inner.apply(x, self.layer.weight) if self.inner else torch.tanh(self.layer(x))
            return self.head(x)

    torch.manual_seed(0)
    model, plain = Reversible(True).double(), Reversible(False).double()
    plain.load_state_dict(model.state_dict())
    batches = [(torch.randn(n, 6).double(), torch.randint(3, (n,))) for n in (4, 2)]
    expected = gradients(plain, batches)
    for name, gradient in gradients(model, batches).items():
        torch.testing.assert_close(gradient, expected[name])


def test_a_loss_that_takes_a_gradient_of_its_own_is_differentiated_through_it():
    def loss(net, batch):
        x = batch[0].clone().requires_grad_()
        output = net(x)
        (slope,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        return functional.cross_entropy(output, batch[1]) + slope.square().mean()

    problem = PROBLEMS[IDS.index("layer-run-twice")]
    model, batch = problem.model(), problem.batch()
    loss(model, batch).backward()
    for name, gradient in gradients(model, [batch], loss=loss).items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("order", [["a", "b", "ab"], ["b", "a", "a"], ["ab", "a", "b"]], ids="-".join)
def test_a_weight_that_only_some_batches_reach_counts_as_zero_in_the_others(order):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x, which):
            return sum(self.get_submodule(name)(x) for name in which)

    def loss(net, batch):
        return functional.cross_entropy(net(batch["x"], batch["which"]), batch["y"])

    model = Branches().double()
    batches = [
        {"x": torch.randn(n, 4).double(), "y": torch.randint(3, (n,)), "which": which}
        for n, which in zip((3, 2, 5), order, strict=True)
    ]
    sum(loss(model, batch) * len(batch["x"]) / 10 for batch in batches).backward()
    for name, gradient in gradients(model, batches, loss=loss).items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_large_weights_are_averaged_in_slices_to_the_same_numbers(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 700), nn.Tanh(), nn.Linear(700, 700), nn.Tanh(), nn.Linear(700, 3)).to(dtype)
    x, y = torch.randn(6, 5).to(dtype), torch.randint(3, (6,))
    parts = [(x[i : i + 2], y[i : i + 2]) for i in (0, 2, 4)]
    found = gradients(model, parts)
    each = [gradients(model, [part]) for part in parts]
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, each[0][name].lerp(each[1][name], 1 / 2).lerp(each[2][name], 1 / 3))


def test_convolutions_in_another_memory_format_have_the_same_gradients():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    x, y = problem.batch()
    expected = gradients(problem.model(), [(x, y), (x[:3], y[:3])])
    model, x = problem.model().to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    for name, gradient in gradients(model, [(x, y), (x[:3], y[:3])]).items():
        torch.testing.assert_close(gradient, expected[name])


def test_a_compiled_model_has_the_gradients_of_the_plain_one():
    problem = PROBLEMS[IDS.index("layer-run-twice")]
    model, batch = problem.model(), problem.batch()
    expected = gradients(model, [batch])
    for name, gradient in gradients(torch.compile(model, backend="eager"), [batch]).items():
        assert torch.equal(gradient, expected[name])


def failing(batches, last):
    yield from batches
    if isinstance(last, Exception):
        raise last
    yield last


@pytest.mark.parametrize(
    "last, error, message",
    [
        (OSError("the disk is gone"), OSError, "^the disk is gone$"),
        ((torch.zeros(0, 5), torch.zeros(0).long()), pi.InputError, "a batch is empty"),
        ((torch.full((2, 5), torch.nan), torch.zeros(2).long()), pi.InputError, "holds NaN or inf: 10 of the 10"),
        (None, pi.InputError, "a batch is None"),
        ((torch.zeros(2, 4), torch.zeros(2).long()), pi.InputError, "cannot be run on the batch given"),
    ],
    ids=["raises", "empty", "nan", "none", "shape"],
)
def test_an_iterator_that_goes_wrong_after_good_batches_is_not_taken_for_its_end(last, error, message):
    problem = PROBLEMS[0]
    model = problem.model(dtype=torch.float32)
    before = snapshot(model)
    with pytest.raises(error, match=message):
        gradients(model, failing([problem.batch(dtype=torch.float32)] * 2, last))
    assert_untouched(model, before)


def test_an_iterator_that_is_used_up_has_no_batches():
    problem = PROBLEMS[0]
    used = iter([problem.batch()])
    gradients(problem.model(), used)
    with pytest.raises(pi.InputError, match="there are no batches"):
        gradients(problem.model(), used)


def test_a_gradient_that_is_not_finite_is_blamed_on_a_batch_that_is_not_even_where_the_loss_is():
    def loss(net, batch):
        return (net.weight * batch).clamp(min=0).sum()  # of -1 times inf: 0, with the gradient 0 times inf

    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, -1.0)
    batch = torch.ones(3, 4)
    batch[0, 0] = torch.inf
    with pytest.raises(pi.InputError, match=r"the batch .* holds NaN or inf: 1 of the 12 values"):
        gradients(model, [batch], loss=loss)


def test_the_state_of_another_librarys_parametrisation_is_left_alone():
    model = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 3)).train()
    batch = (torch.randn(5, 4), torch.zeros(5).long())
    before = snapshot(model)
    pi.score(model, pi.Snip(), [batch])
    assert_untouched(model, before)


def test_a_model_that_assigns_a_module_in_its_forward_pass_can_be_scored():
    class Assigns(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            self.act = nn.Tanh()
            return self.layer(self.act(x))

    assert gradients(Assigns(), [(torch.randn(5, 4), torch.zeros(5).long())])["layer.weight"].abs().sum() > 0


@pytest.mark.parametrize("loss", [lambda net, batch: batch[0].missing, lambda net, batch: net()])
def test_a_loss_that_cannot_be_run_is_named(loss):
    with pytest.raises(pi.InputError, match="cannot be run on the batch given"):
        gradients(nn.Linear(4, 3), [(torch.randn(5, 4), torch.zeros(5).long())], loss=loss)
