import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.seeds import derived
from scoring import assert_close, assert_untouched, random_masks, snapshot
from twins import Checkpointed, Coarse, Half, Recurrent, Transformer, plain_model


def hessian(model, batch):
    """The whole Hessian by all weights, a row for each entry, by plain loops of plain autograd; and the weights."""
    names = list(pi.prunable(model))
    parameters = [model.get_parameter(name) for name in names]
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        loss = functional.cross_entropy(model(batch[0]), batch[1])
    slopes = torch.autograd.grad(loss, parameters, create_graph=True)
    rows = []
    for entry in torch.cat([slope.flatten() for slope in slopes]):
        row = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros_like(p).flatten() if r is None else r.flatten()
                               for p, r in zip(parameters, row, strict=True)]))  # fmt: skip
    return torch.stack(rows), torch.cat([p.detach().flatten() for p in parameters])


def split(values, model):
    sizes = {name: found.shape for name, found in pi.prunable(model).items()}
    parts = values.split([shape.numel() for shape in map(torch.Size, sizes.values())])
    return {name: part.reshape(shape) for (name, shape), part in zip(sizes.items(), parts, strict=True)}


def exact_twin(model, batch):
    curvature, weights = hessian(model, batch)
    return split(0.5 * curvature.diagonal() * weights**2, model)


def estimate_twin(model, batch, samples, seed):
    """The same signs through the whole Hessian."""
    curvature, weights = hessian(model, batch)
    total = torch.zeros_like(weights)
    for sample in range(samples):
        signs = []
        for name, found in pi.prunable(model).items():
            generator = torch.Generator().manual_seed(derived("obd signs", seed, sample, name))
            signs.append(torch.randint(0, 2, found.shape, generator=generator, dtype=torch.int8).flatten())
        vector = (2.0 * torch.cat(signs).double() - 1) * (weights != 0)
        total += vector * (curvature @ vector) / samples
    return split(0.5 * total * weights**2, model)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_exact_scores_are_those_of_the_whole_hessian(problem, masked):
    batch = problem.batch()
    masks = random_masks(problem.model()) if masked else None
    expected = exact_twin(plain_model(problem, masks), batch)
    found = pi.Obd(norm=problem.norm, exact_up_to=10_000)(problem.model(), [batch], masks)
    assert_close(found, expected)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_estimates_are_those_of_the_same_signs_through_the_whole_hessian(problem, masked):
    batch = problem.batch()
    masks = random_masks(problem.model()) if masked else None
    expected = estimate_twin(plain_model(problem, masks), batch, samples=3, seed=7)
    found = pi.Obd(norm=problem.norm, exact_up_to=0, samples=3, seed=7)(problem.model(), [batch], masks)
    assert_close(found, expected)


def test_small_weights_are_exact_beside_large_ones_that_are_estimated():
    problem = PROBLEMS[IDS.index("dense")]
    model, batch = problem.model(), problem.batch()
    exact = exact_twin(plain_model(problem), batch)
    found = pi.Obd(exact_up_to=20, samples=2)(model, [batch])
    assert (found["4.weight"] - exact["4.weight"]).abs().max() < 1e-12
    assert (found["0.weight"] - exact["0.weight"]).abs().max() > 1e-6


def test_estimates_have_the_exact_mean_and_the_variance_that_is_promised():
    problem = PROBLEMS[IDS.index("dense")]
    model, batch = problem.model(), problem.batch()
    curvature, weights = hessian(plain_model(problem), batch)
    samples = 400
    found = pi.Obd(exact_up_to=0, samples=samples)(model, [batch])
    error = torch.cat([score.flatten() for score in found.values()]) - 0.5 * curvature.diagonal() * weights**2
    # v_k sum_j H_kj v_j: an entry's own term is exact, and the others come with random signs, each of mean 0.
    others = (curvature - curvature.diagonal().diag()).square().sum(1)
    deviation = 0.5 * weights**2 * (others / samples).sqrt()
    relative = error[deviation > 0] / deviation[deviation > 0]
    assert relative.abs().max() < 5
    assert 0.7 < relative.square().mean() < 1.4


def test_scores_are_signed():
    problem = PROBLEMS[IDS.index("dense")]
    scores = torch.cat([s.flatten() for s in pi.Obd()(problem.model(), [problem.batch()]).values()])
    assert (scores < 0).any()
    assert (scores > 0).any()


@pytest.mark.parametrize("exact_up_to", [0, 30, 1000])
@pytest.mark.parametrize("sizes", [[4, 4], [1] * 8, [5, 3]], ids=str)
def test_micro_batches_give_the_scores_of_one_batch(exact_up_to, sizes):
    problem = PROBLEMS[IDS.index("dense")]
    x, y = problem.batch(8)
    parts = zip(x.split(sizes), y.split(sizes), strict=True)
    obd = pi.Obd(exact_up_to=exact_up_to, samples=2)
    assert_close(obd(problem.model(), parts), obd(problem.model(), [(x, y)]))


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_scoring_leaves_the_model_exactly_as_it_was(problem):
    model, batch = problem.model().train(), problem.batch()
    next(iter(model.children())).eval()
    before = snapshot(model)
    scores = pi.score(model, pi.Obd(norm=problem.norm, samples=2, exact_up_to=20), [batch])
    assert_untouched(model, before)
    assert not any(score.requires_grad for score in scores.values())


def test_a_sparsified_model_has_the_scores_of_the_masked_dense_one():
    problem = PROBLEMS[IDS.index("tied-weights")]
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model)
    for obd in (pi.Obd(samples=2, exact_up_to=0), pi.Obd()):
        expected = obd(model, [batch], masks)
        sparse = pi.sparsify_(problem.model(), masks)
        assert_close(pi.score(sparse, obd, [batch]), expected)
        assert_close(obd(sparse, [batch]), expected)


def test_bfloat16_models_are_scored_in_float32():
    problem = PROBLEMS[IDS.index("dense")]
    found = pi.Obd()(problem.model(dtype=torch.bfloat16), [problem.batch(dtype=torch.bfloat16)])
    exact = exact_twin(plain_model(problem), problem.batch())
    assert all(score.dtype == torch.float32 for score in found.values())
    for name in exact:
        assert torch.corrcoef(torch.stack([found[name].flatten().double(), exact[name].flatten()]))[0, 1] > 0.98


@pytest.mark.parametrize("build, shape", [(Recurrent, (3, 4)), (Transformer, (3, 6)), (Checkpointed, (4,))])
@pytest.mark.parametrize("exact_up_to", [0, 10_000])
def test_attention_recurrence_and_checkpoints_have_second_derivatives(build, shape, exact_up_to):
    torch.manual_seed(0)
    model = build().double().eval()
    batch = (torch.randn(5, *shape, dtype=torch.float64), torch.randint(3, (5,)))
    found = pi.Obd(exact_up_to=exact_up_to, samples=2)(model, [batch])
    names = list(pi.prunable(model))
    plain = model
    if build is Checkpointed:  # which the twin runs without checkpoints
        plain = model.body
        found = {name.removeprefix("body."): score for name, score in found.items()}
    if exact_up_to:
        assert_close(found, exact_twin(plain, batch))
    assert all(found[name.removeprefix("body.") if build is Checkpointed else name].any() for name in names)


def test_an_operation_without_a_second_derivative_is_refused():
    model, batch = Coarse(), (torch.randn(5, 4), torch.zeros(5).long())
    before = snapshot(model)
    with pytest.raises(pi.InputError, match="Obd needs second derivatives.*choose Fisher"):
        pi.Obd()(model, [batch])
    assert_untouched(model, before)


def test_a_weight_that_the_loss_does_not_see_scores_zero():
    with pytest.warns(UserWarning, match="does not depend on 1 of"):
        found = pi.Obd()(Half(), [(torch.randn(5, 4), torch.zeros(5).long())])
    assert not found["unused.weight"].any()
    assert found["used.weight"].any()


def test_a_loss_without_curvature_is_said_to_score_zero():
    with pytest.warns(UserWarning, match="every score is 0"):
        pi.Obd(loss=lambda net, batch: net(batch[0]).sum())(nn.Linear(4, 3), [(torch.ones(2, 4),)])


def test_the_seed_decides_the_signs_and_nothing_else_does():
    problem = PROBLEMS[IDS.index("dense")]
    first, again, other = (
        pi.Obd(samples=1, exact_up_to=0, seed=seed)(problem.model(), [problem.batch()]) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


@pytest.mark.parametrize("settings", [{"samples": 0}, {"samples": 1.5}, {"exact_up_to": -1}, {"exact_up_to": True}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(pi.InputError, match=f"{next(iter(settings))} must be a whole number"):
        pi.Obd(**settings)


@pytest.mark.parametrize(
    "batches, message",
    [
        (None, "needs data"),
        ([(torch.zeros(2, 5), torch.zeros(2).long())], "mat1 and mat2"),
        ([(torch.full((2, 4), torch.nan), torch.zeros(2).long())], "holds NaN or inf"),
    ],
    ids=["none", "shape", "nan"],
)
def test_bad_batches_are_named(batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.Obd()(nn.Linear(4, 3), batches)


def test_batch_normalisation_must_be_told_which_statistics_to_take():
    problem = PROBLEMS[IDS.index("batch-norm")]
    with pytest.raises(pi.InputError, match="say norm='batch' or norm='running'"):
        pi.Obd()(problem.model(), [problem.batch()])
