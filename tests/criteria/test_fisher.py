from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import pruneinit as pi
from problems import IDS, PROBLEMS
from scoring import assert_close, assert_untouched, random_masks, snapshot

APART = [problem for problem in PROBLEMS if problem.norm != "batch"]


def twin(model, batch, masks=None):
    """For each example set the masked weights, call backward, square `.grad`."""
    model.eval()
    names = list(pi.prunable(model))
    if masks is not None:
        for name in names:
            model.get_parameter(name).data.mul_(masks[name])
    total = {name: torch.zeros_like(model.get_parameter(name)) for name in names}
    for x, y in zip(*batch, strict=True):
        model.zero_grad()
        functional.cross_entropy(model(x.unsqueeze(0)), y.unsqueeze(0)).backward()
        for name in names:
            total[name] += model.get_parameter(name).grad ** 2
    return {n: (model.get_parameter(n) ** 2 * total[n] / len(batch[0]) / 2).detach() for n in names}


@pytest.mark.parametrize("problem", APART, ids=lambda problem: problem.name)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_fisher_is_the_mean_over_examples_of_the_square_of_their_own_gradients(problem, masked, chunk):
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model) if masked else None
    expected = twin(problem.model(), batch, masks)
    assert_close(pi.Fisher(norm=problem.norm, chunk=chunk)(model, [batch], masks), expected)


@pytest.mark.parametrize("problem", APART, ids=lambda problem: problem.name)
@pytest.mark.parametrize("chunk", [1, 4])
def test_scoring_leaves_the_model_exactly_as_it_was(problem, chunk):
    model, batch = problem.model().train(), problem.batch()
    next(iter(model.children())).eval()
    before = snapshot(model)
    scores = pi.score(model, pi.Fisher(norm=problem.norm, chunk=chunk), [batch])
    assert_untouched(model, before)
    assert not any(score.requires_grad for score in scores.values())


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("sizes", [[4, 4], [1] * 8, [5, 3]], ids=str)
def test_micro_batches_give_the_scores_of_one_batch(chunk, sizes):
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    x, y = problem.batch(8)
    parts = zip(x.split(sizes), y.split(sizes), strict=True)
    fisher = pi.Fisher(chunk=chunk)
    assert_close(fisher(problem.model(), parts), fisher(problem.model(), [(x, y)]))


@pytest.mark.parametrize("norm", [None, "batch"])
def test_batch_normalisation_that_mixes_examples_is_refused(norm):
    problem = PROBLEMS[IDS.index("batch-norm")]
    model = problem.model()
    before = snapshot(model)
    with pytest.raises(pi.InputError, match="1 normalises by the statistics of the batch: say norm='running'"):
        pi.Fisher(norm=norm)(model, [problem.batch()])
    assert_untouched(model, before)


def test_batch_normalisation_without_running_statistics_is_refused():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))
    with pytest.raises(pi.InputError, match="1 normalises by the statistics of the batch.*use a layer that keeps"):
        pi.Fisher(norm="running")(model, [(torch.randn(5, 4), torch.zeros(5).long())])


def test_normalisation_within_an_example_needs_no_running_statistics():
    model = nn.Sequential(nn.Conv1d(1, 4, 2), nn.InstanceNorm1d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)).double()
    batch = (torch.randn(6, 1, 5, dtype=torch.float64), torch.randint(3, (6,)))
    assert_close(pi.Fisher()(model, [batch]), twin(model, batch))


@pytest.mark.parametrize("chunk", [1, 2])
def test_batches_of_any_structure_are_cut_where_a_tensor_has_a_row_for_each_example(chunk):
    model = nn.Linear(4, 3).double()
    batch = {"a": torch.randn(5, 4).double(), "b": [torch.randn(5, 4).double(), 2.0], "shared": torch.randn(4).double()}

    def loss(net, batch):
        return (net(batch["a"] * batch["shared"]) - batch["b"][1] * net(batch["b"][0])).square().mean()

    total = 0
    for a, b in zip(batch["a"], batch["b"][0], strict=True):
        model.zero_grad()
        (model(a * batch["shared"]) - 2 * model(b)).square().mean().backward()
        total = total + model.weight.grad**2
    expected = model.weight.detach() ** 2 * total / 10
    assert_close(pi.Fisher(loss=loss, chunk=chunk)(model, [batch]), {"weight": expected})


def test_a_batch_without_tensors_cannot_be_cut():
    model = nn.Linear(4, 3)
    with pytest.raises(pi.InputError, match=r"batch \(int\) cannot be cut into examples: expected tensors"):
        pi.Fisher(loss=lambda net, batch: net(torch.ones(1, 4)).sum())(model, [3])


@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize(
    "batch, message",
    [
        ((torch.zeros(2, 5), torch.zeros(2).long()), "mat1 and mat2"),
        ((torch.full((2, 4), torch.nan), torch.zeros(2).long()), "holds NaN or inf"),
    ],
    ids=["shape", "nan"],
)
def test_bad_batches_are_named(chunk, batch, message):
    with pytest.raises(pi.InputError, match=message):
        pi.Fisher(chunk=chunk)(nn.Linear(4, 3), [batch])


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_loss_that_is_no_scalar_is_refused(chunk):
    with pytest.raises(pi.InputError, match="the loss must be a scalar tensor"):
        pi.Fisher(loss=lambda net, batch: net(batch[0]), chunk=chunk)(nn.Linear(4, 3), [(torch.zeros(2, 4),)])


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_loss_that_overflows_on_sound_data_is_named(chunk):
    with pytest.raises(pi.InputError, match="the loss is inf on the batch given"):
        loss = lambda net, batch: (net(batch[0]).square().sum() * 1e30).exp()  # noqa: E731
        pi.Fisher(loss=loss, chunk=chunk)(nn.Linear(4, 1), [(torch.ones(2, 4),)])


def test_no_data_is_refused():
    with pytest.raises(pi.InputError, match="needs data"):
        pi.Fisher()(nn.Linear(4, 3))


@pytest.mark.parametrize("chunk", [0, 1.5, -1])
def test_impossible_chunks_are_refused(chunk):
    with pytest.raises(pi.InputError, match=f"chunk must be a whole number, at least 1, got {chunk}"):
        pi.Fisher(chunk=chunk)


class Choosy(nn.Module):
    """Decides by a value, which vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else 2 * self.layer(x)


def test_a_model_that_cannot_be_vectorised_is_scored_one_example_at_a_time():
    batch = (torch.randn(5, 4), torch.zeros(5).long())
    assert pi.Fisher()(Choosy(), [batch])["layer.weight"].all()
    with pytest.raises(pi.InputError, match="gradients of 2 examples cannot be computed at once.*use chunk=1"):
        pi.Fisher(chunk=2)(Choosy(), [batch])


def test_squares_of_gradients_below_float32_are_not_lost():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6)), nn.Linear(4, 3))
    for layer in model[1:]:
        layer.weight.data *= 1e-4
    batch = (torch.randn(5, 4), torch.randint(3, (5,)))
    scores = pi.Fisher()(model, [batch])
    assert 0 < scores["0.weight"].min() < 1e-45  # what float32 holds
    assert_close(scores, twin(model.double(), (batch[0].double(), batch[1])), 1e-4)


def test_bfloat16_models_are_scored_in_float64():
    problem = PROBLEMS[IDS.index("dense")]
    scores = pi.Fisher()(problem.model(dtype=torch.bfloat16), [problem.batch(dtype=torch.bfloat16)])
    exact = twin(problem.model(), problem.batch())
    assert all(score.dtype == torch.float64 for score in scores.values())
    for name in exact:
        assert torch.corrcoef(torch.stack([scores[name].flatten(), exact[name].flatten()]))[0, 1] > 0.99


def test_a_sparsified_model_has_the_scores_of_the_masked_dense_one():
    problem = PROBLEMS[IDS.index("tied-weights")]
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model)
    expected = pi.Fisher()(model, [batch], masks)
    assert_close(pi.score(pi.sparsify_(model, masks), pi.Fisher(), [batch]), expected)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_weight_that_the_loss_does_not_see_scores_zero(chunk):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    with nullcontext() if chunk > 1 else pytest.warns(UserWarning, match="does not depend on 1 of"):
        found = pi.Fisher(chunk=chunk)(Half(), [(torch.randn(5, 4), torch.zeros(5).long())])
    assert not found["unused.weight"].any()
    assert found["used.weight"].any()


def test_checkpointed_blocks_are_recomputed_with_the_weights_that_are_scored():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=False)

    model = Checkpointed().double()
    batch = (torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,)))
    masks = random_masks(model)
    found = pi.Fisher()(model, [batch], masks)
    expected = pi.Fisher()(model.body, [batch], pi.Masks({name[5:]: mask for name, mask in masks.items()}))
    assert_close({name[5:]: score for name, score in found.items()}, expected)


def test_compiled_models_are_scored_as_they_are():
    problem = PROBLEMS[0]
    model, batch = problem.model(), problem.batch()
    assert_close(pi.score(torch.compile(model), pi.Fisher(chunk=4), [batch]), pi.Fisher()(model, [batch]))
