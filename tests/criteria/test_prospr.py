import pytest
import torch
from torch import nn
from torch.nn import functional

import pruneinit as pi
from problems import IDS, PROBLEMS
from scoring import assert_close, assert_untouched, random_masks, snapshot
from twins import (
    Checkpointed,
    Coarse,
    Half,
    Recurrent,
    Transformer,
    Watched,
    plain_model,
)


def twin(model, batches, masks=None, steps=3, rate=0.1, momentum=0.0):
    """The unrolled steps of SGD on every trainable parameter, and plain autograd through all of them."""
    prunable = list(pi.prunable(model))
    initial = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]

    def loss(weights, batch):
        state = weights | {name: b.clone() for name, b in model.named_buffers()}
        return functional.cross_entropy(torch.func.functional_call(model, state, (batch[0],)), batch[1])

    current, velocity = initial, dict.fromkeys(initial, 0.0)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for batch in batches[:steps]:
            slopes = torch.autograd.grad(loss(current, batch), [current[n] for n in trainable], create_graph=True)
            moved = dict(current)
            for name, slope in zip(trainable, slopes, strict=True):
                velocity[name] = momentum * velocity[name] + slope
                allowed = masks[name] if masks is not None and name in masks else 1.0
                moved[name] = current[name] - rate * allowed * velocity[name]
            current = moved
        rest = batches[steps:]
        total = sum(len(batch[1]) * loss(current, batch) for batch in rest) / sum(len(batch[1]) for batch in rest)
        final = torch.autograd.grad(total, [initial[name] for name in prunable])
    return {name: (initial[name].detach() * slope).abs() for name, slope in zip(prunable, final, strict=True)}


def four(problem, sizes=(8, 6, 7, 5)):
    return [problem.batch(size, seed) for seed, size in enumerate(sizes)]


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scores_equal_autograd_through_unrolled_steps(problem, masked, momentum):
    masks = random_masks(problem.model()) if masked else None
    criterion = pi.ProsPr(learning_rate=0.5, momentum=momentum, norm=problem.norm)
    found = criterion(problem.model(), four(problem), masks)
    assert_close(found, twin(plain_model(problem, masks), four(problem), masks, rate=0.5, momentum=momentum))


@pytest.mark.parametrize("steps", [1, 2])
def test_all_batches_after_the_steps_share_the_loss_by_their_examples(steps):
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    found = pi.ProsPr(steps=steps)(problem.model(), iter(four(problem)))
    assert_close(found, twin(plain_model(problem), four(problem), steps=steps))
    *inner, (x, y) = four(problem)
    cut = [*inner, (x[:2], y[:2]), (x[2:], y[2:])]
    assert_close(pi.ProsPr()(problem.model(), cut), twin(plain_model(problem), four(problem)))


def test_a_step_of_next_to_no_length_leaves_the_scores_of_snip():
    problem = PROBLEMS[IDS.index("dense")]
    batches = four(problem)
    found = pi.ProsPr(learning_rate=1e-13)(problem.model(), batches)
    assert_close(found, pi.Snip()(problem.model(), batches[3:]))


def test_the_score_is_the_change_of_the_later_loss_by_a_small_step_of_the_mask():
    problem = PROBLEMS[IDS.index("dense")]
    scores = pi.ProsPr(momentum=0.5, learning_rate=0.3)(problem.model(), four(problem))

    def later(name, index, factor):
        model = problem.model()
        model.get_parameter(name).data.view(-1)[index] *= factor
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.5)
        *inner, last = four(problem)
        for x, y in inner:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return functional.cross_entropy(model(last[0]), last[1]).item()

    for name, score in scores.items():
        for index in range(0, score.numel(), 7):
            slope = (later(name, index, 1 + 1e-5) - later(name, index, 1 - 1e-5)) / 2e-5
            assert score.view(-1)[index].item() == pytest.approx(abs(slope), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_sparsified_model_has_the_scores_of_the_masked_dense_one(problem):
    model, criterion = problem.model(), pi.ProsPr(learning_rate=0.5, norm=problem.norm)
    masks = random_masks(model)
    expected = criterion(model, four(problem), masks)
    assert_close(criterion(pi.sparsify_(model, masks), four(problem)), expected)


def test_a_rescaled_model_trains_its_parameters_and_not_the_scaled_tensors():
    problem = PROBLEMS[IDS.index("dense")]
    model = problem.model()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.3)
    pi.sparsify_(pi.rescale_(model, four(problem), masks=masks), masks)
    scores = pi.ProsPr(learning_rate=0.5, momentum=0.5)(model, four(problem))
    name = "2.weight"
    parameter, mask = pi.reparametrize.stored(model, name), masks[name]
    state = {key: value.clone() for key, value in model.state_dict().items()}

    def later(index, factor):
        model.load_state_dict(state)
        fresh = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
        parameter.data[index] *= factor
        *inner, last = four(problem)
        for x, y in inner:
            fresh.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            fresh.step()
        return functional.cross_entropy(model(last[0]), last[1]).item()

    for index in range(0, parameter.numel(), 5):
        slope = (later(index, 1 + 1e-5) - later(index, 1 - 1e-5)) / 2e-5
        assert scores[name][mask][index].item() == pytest.approx(abs(slope), rel=1e-4, abs=1e-9)


def test_frozen_parameters_do_not_move_but_are_scored():
    problem = PROBLEMS[IDS.index("dense")]
    model, plain = problem.model(), plain_model(problem)
    for net in (model, plain):
        net[0].weight.requires_grad_(False)
        net[2].bias.requires_grad_(False)
    found = pi.ProsPr(learning_rate=0.5)(model, four(problem))
    assert_close(found, twin(plain, four(problem), rate=0.5))
    assert found["0.weight"].any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_that_end_early_are_counted(count):
    problem = PROBLEMS[0]
    with pytest.raises(
        pi.InputError, match=rf"ProsPr\(steps=3\) needs at least 4 batches.*got {count}: give more or smaller"
    ):
        pi.ProsPr()(problem.model(), four(problem)[:count])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ({"steps": 1.5}, "steps must be a whole number, at least 1, got 1.5"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
        ({"momentum": 1}, r"momentum must be a number in \[0, 1\), got 1"),
        ({"momentum": -0.1}, r"momentum must be a number in \[0, 1\), got -0.1"),
    ],
    ids=str,
)
def test_bad_hyper_parameters(arguments, message):
    with pytest.raises(pi.InputError, match=message):
        pi.ProsPr(**arguments)


def test_bad_batches():
    problem = PROBLEMS[0]
    good = [problem.batch(dtype=torch.float32)] * 3
    for bad, message in [
        ((torch.zeros(2, 4), torch.zeros(2).long()), "cannot be run on the batch given"),
        ((torch.full((2, 5), torch.nan), torch.zeros(2).long()), "holds NaN or inf"),
        ((torch.zeros(0, 5), torch.zeros(0).long()), "a batch is empty"),
    ]:
        for batches in ([*good, bad], [bad, *good]):
            with pytest.raises(pi.InputError, match=message):
                pi.ProsPr()(problem.model(dtype=torch.float32), batches)
    with pytest.raises(pi.InputError, match="needs data"):
        pi.ProsPr()(problem.model())


def test_a_later_batch_with_nan_is_blamed_and_not_the_learning_rate():
    problem = PROBLEMS[0]
    good, spoilt = problem.batch(dtype=torch.float32), (torch.full((2, 5), torch.nan), torch.zeros(2).long())
    with pytest.raises(pi.InputError, match="holds NaN or inf") as refused:
        pi.ProsPr()(problem.model(dtype=torch.float32), [good, spoilt, good, good])
    assert "lower" not in str(refused.value)


def test_steps_that_diverge_are_said_to_and_leave_the_model_as_it_was():
    problem = PROBLEMS[IDS.index("dense")]
    model = problem.model(dtype=torch.float32)
    before = snapshot(model)
    batches = [problem.batch(seed=seed, dtype=torch.float32) for seed in range(4)]
    with pytest.raises(pi.InputError, match=r"after 1 steps with learning_rate=1e\+38: the loss is .*a lower one may"):
        pi.ProsPr(learning_rate=1e38)(model, batches)
    assert_untouched(model, before)


@pytest.mark.parametrize("build", [Recurrent, Transformer], ids=["recurrent", "transformer"])
def test_fused_operations_without_a_second_derivative_are_replaced(build):
    torch.manual_seed(0)
    model = build().double().eval()
    size = 4 if build is Recurrent else 6
    batches = [(torch.randn(8, 5, size).double(), torch.randint(3, (8,))) for _ in range(4)]
    outputs, before = model(batches[0][0]), snapshot(model)
    found = pi.ProsPr()(model, batches)
    assert_untouched(model, before)
    assert torch.equal(model(batches[0][0]), outputs)
    assert_close(found, twin(model, batches))


def test_an_operation_without_a_second_derivative_is_named():
    batches = [(torch.randn(8, 4), torch.randint(3, (8,)))] * 4
    with pytest.raises(pi.InputError, match="needs second derivatives.*such as Snip"):
        pi.ProsPr()(Coarse(), batches)


def test_checkpointed_blocks_give_the_scores_of_plain_ones():
    torch.manual_seed(0)
    model = Checkpointed().double()
    batches = [(torch.randn(8, 4).double(), torch.randint(3, (8,))) for _ in range(4)]
    expected = pi.ProsPr()(model.body, batches)
    assert_close(pi.ProsPr()(model, batches), {f"body.{name}": score for name, score in expected.items()})


def test_a_compiled_model_has_the_scores_of_the_plain_one():
    problem = PROBLEMS[IDS.index("dense")]
    compiled = torch.compile(problem.model())
    assert_close(pi.ProsPr()(compiled, four(problem)), pi.ProsPr()(problem.model(), four(problem)))


def test_at_most_one_graph_is_held_at_a_time():
    model = Watched()
    pi.ProsPr(steps=6)(model, [(torch.randn(2, 4), torch.tensor([0, 1])) for _ in range(8)])
    assert len(model.values) == 14
    assert model.held == 0


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_is_left_exactly_as_it_was(problem):
    model = problem.model().train()
    next(iter(model.children())).eval()
    before = snapshot(model)
    pi.score(model, pi.ProsPr(norm=problem.norm), four(problem))
    assert_untouched(model, before)


def test_an_embedding_that_shortens_its_vectors_is_left_alone():
    model = nn.Sequential(nn.Embedding(7, 4, max_norm=0.1), nn.Flatten(), nn.Linear(12, 7))
    before = model[0].weight.detach().clone()
    batches = [(torch.arange(6).view(2, 3), torch.tensor([0, 1])) for _ in range(4)]
    assert pi.ProsPr()(model, batches)["2.weight"].any()
    assert torch.equal(model[0].weight, before)


def test_a_weight_that_the_loss_does_not_see_is_named_and_scores_zero():
    batches = [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(4)]
    with pytest.warns(UserWarning, match="does not depend on 1 of 3 weights, which score 0: unused.weight"):
        scores = pi.ProsPr()(Half(), batches)
    assert not scores["unused.weight"].any()
    assert scores["used.weight"].any()


def test_scores_that_are_all_zero_are_said_to_be():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    with pytest.warns(UserWarning, match="every score is 0"):
        pi.ProsPr()(model, [(torch.zeros(2, 4), torch.zeros(2).long())] * 4)


def test_scores_of_a_bfloat16_model_are_float32_and_near_those_of_its_exact_twin():
    problem = PROBLEMS[IDS.index("dense")]
    model = problem.model(dtype=torch.bfloat16)
    batches = [problem.batch(32, seed, torch.bfloat16) for seed in range(4)]
    exact = problem.model()
    exact.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    expected = twin(exact, [(x.double(), y) for x, y in batches])
    for name, score in pi.ProsPr()(model, batches).items():
        assert score.dtype == torch.float32
        assert (score - expected[name]).norm() < 0.05 * expected[name].norm()


def test_pruning_keeps_what_scores_highest():
    problem = PROBLEMS[IDS.index("dense")]
    masks = pi.prune(problem.model(), pi.ProsPr(), four(problem), sparsity=0.5)
    scores = pi.ProsPr()(problem.model(), four(problem))
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    values = torch.cat([score.flatten() for score in scores.values()])
    assert values[kept].min() >= values[~kept].max()
