import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.seeds import derived
from scoring import assert_close, assert_untouched, random_masks, snapshot
from twins import Half, Recurrent, Transformer, plain_model

# Enough to average over, and quick.
FEW = {"samples": 2, "seed": 5}


def twin(model, batches, masks=None, samples=2, epsilon=0.01, seed=5, noise=True, survivors=None):
    """One graph with the masks as variables, all draws first, in the order that the criterion documents."""
    names = list(pi.prunable(model))
    weights = {name: model.get_parameter(name).detach() for name in names}
    kept = {n: torch.ones(w.shape).bool() if masks is None else masks[n] for n, w in weights.items()}
    generator = torch.Generator().manual_seed(derived("NTK-SAP", seed, sum(int(m.sum()) for m in kept.values())))
    variables = {name: mask.double().requires_grad_() for name, mask in kept.items()}
    total = 0.0
    for _ in range(samples):
        drawn = {}
        for name, weight in weights.items():
            values = weight.flatten().tolist()
            places = [i for i in range(len(values)) if survivors is None or survivors[name].flatten()[i]]
            order = torch.randperm(len(places), generator=generator).tolist()
            fresh = list(values)
            for place, source in zip(places, order, strict=True):
                fresh[place] = values[places[source]]
            drawn[name] = torch.tensor(fresh, dtype=torch.float64).view_as(weight)
        steps = {n: epsilon * torch.randn(w.shape, generator=generator).double() for n, w in weights.items()}
        for x, _ in batches:
            x = torch.stack([torch.randn(x.shape[1:], generator=generator).double() for _ in x]) if noise else x

            def outputs(tensors, x=x):
                state = {name: variables[name] * tensor for name, tensor in tensors.items()}
                state |= {name: buffer.clone() for name, buffer in model.named_buffers()}
                return torch.func.functional_call(model, state, (x,))

            change = outputs(drawn) - outputs({n: drawn[n] + steps[n] for n in names})
            total = total + change.square().sum()
    examples = sum(len(x) for x, _ in batches)
    slopes = torch.autograd.grad(total / samples / examples, list(variables.values()))
    return {n: (kept[n] * slope).abs() for n, slope in zip(names, slopes, strict=True)}


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_scores_equal_autograd_through_explicit_masks(problem, masked):
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model) if masked else None
    found = pi.NtkSap(norm=problem.norm, **FEW)(model, [batch], masks)
    assert_close(found, twin(plain_model(problem), [batch], masks))


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.norm != "batch"], ids=lambda problem: problem.name)
def test_micro_batches_give_the_scores_of_one_batch(problem, noise):
    x, y = problem.batch(8)
    criterion = pi.NtkSap(norm=problem.norm, noise=noise, **FEW)
    found = criterion(problem.model(), zip(x.split([5, 2, 1]), y.split([5, 2, 1]), strict=True))
    assert_close(found, twin(plain_model(problem), [(x, y)], noise=noise))


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_sparsified_model_moves_its_survivors_among_their_places(problem):
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model)
    found = pi.NtkSap(norm=problem.norm, **FEW)(pi.sparsify_(model, masks), [batch])
    assert_close(found, twin(plain_model(problem, masks), [batch], masks, survivors=masks))


def test_data_and_the_order_of_the_weights_do_not_matter_but_shapes_do():
    problem = PROBLEMS[IDS.index("dense")]
    model, (x, y) = problem.model(), problem.batch()
    scores = pi.NtkSap(**FEW)(model, [(x, y)])
    assert_close(pi.NtkSap(**FEW)(model, [(torch.zeros_like(x), 1 - y)]), scores)
    other = pi.NtkSap(noise=False, **FEW)(model, [(x, y)])
    assert not torch.allclose(other["0.weight"], scores["0.weight"])


def test_the_score_follows_the_seed_and_nothing_else():
    problem = PROBLEMS[IDS.index("dense")]
    model, batch = problem.model(), problem.batch()
    first = pi.NtkSap(**FEW)(model, [batch])
    torch.manual_seed(99)
    assert_close(pi.NtkSap(**FEW)(model, [batch]), first, 0)
    assert_close(pi.score(model, pi.NtkSap(**FEW), [batch]), first, 0)
    other = pi.NtkSap(samples=2, seed=6)(model, [batch])
    assert not torch.allclose(other["0.weight"], first["0.weight"])


def test_each_round_has_random_numbers_of_its_own():
    problem = PROBLEMS[IDS.index("dense")]
    model, batch = problem.model(), problem.batch()
    nearly = {name: torch.ones(found.shape).bool() for name, found in pi.prunable(model).items()}
    nearly["0.weight"][0, 0] = False
    whole, later = (pi.NtkSap(**FEW)(model, [batch], masks) for masks in (None, pi.Masks(nearly)))
    assert not torch.allclose(whole["4.weight"], later["4.weight"], rtol=0.05)


def test_many_samples_approach_the_sensitivity_of_the_trace_of_the_kernel():
    """Without noise in the inputs and for a linear network the expectation over Δ is known: ε² times the trace."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    scores = pi.NtkSap(samples=3000, noise=False, epsilon=0.1)(model, [(x, torch.zeros(4))])
    # ‖Σ_j m_ij Δ_ij x_j‖² has the mean ε² Σ m_ij² x_j², so its derivative at m = 1 is 2 ε² x_j².
    expected = 2 * 0.1**2 * x.square().mean(0).expand(2, 3)
    torch.testing.assert_close(scores["weight"], expected, rtol=0.1, atol=0)


def test_several_rounds_prune_to_the_sparsity_and_score_removed_weights_zero():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model, batch = problem.model(), problem.batch()
    masks = pi.prune(model, pi.NtkSap(**FEW), [batch], sparsity=0.8, rounds=3)
    assert masks.kept == round(0.2 * masks.total)
    scores = pi.NtkSap(**FEW)(model, [batch], masks)
    assert not any(score[~masks[name]].any() for name, score in scores.items())
    assert pi.NtkSap().rounds == 20


def test_outputs_of_ones_own_and_batches_of_any_structure():
    model = nn.Linear(4, 3)
    batch = {"a": torch.zeros(5, 4), "mask": torch.zeros(2, 2), "tokens": torch.arange(5)}
    seen = []

    def outputs(net, batch):
        seen.append(batch)
        return net(batch["a"]).tanh()

    assert pi.NtkSap(outputs=outputs, samples=1)(model, [batch])["weight"].all()
    assert seen[0]["a"].all()
    assert torch.equal(seen[0]["a"], seen[1]["a"])  # both sets of weights see the same inputs
    assert torch.equal(seen[0]["tokens"], batch["tokens"])
    assert torch.equal(seen[0]["mask"], batch["mask"])  # of no example
    assert not batch["a"].any()
    with pytest.raises(pi.InputError, match="must be one tensor, got .*choose one of them"):
        pi.NtkSap(outputs=lambda net, batch: [net(batch["a"])])(model, [batch])


@pytest.mark.parametrize("build", [Recurrent, Transformer], ids=["recurrent", "transformer"])
def test_recurrent_networks_and_transformers(build):
    torch.manual_seed(0)
    model = build().double().eval()
    batch = (torch.randn(8, 5, 4 if build is Recurrent else 6).double(), torch.zeros(8).long())
    outputs, before = model(batch[0]), snapshot(model)
    found = pi.NtkSap(**FEW)(model, [batch])
    assert_untouched(model, before)
    assert torch.equal(model(batch[0]), outputs)
    assert_close(found, twin(model, [batch]))


def test_checkpointed_blocks_give_the_scores_of_plain_ones():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)

    torch.manual_seed(0)
    model, batch = Checkpointed().double(), (torch.zeros(8, 4).double(), torch.zeros(8))
    expected = pi.NtkSap(**FEW)(model.body, [batch])
    assert_close(pi.NtkSap(**FEW)(model, [batch]), {f"body.{name}": score for name, score in expected.items()})


def test_a_compiled_model_has_the_scores_of_the_plain_one():
    problem = PROBLEMS[IDS.index("dense")]
    compiled = torch.compile(problem.model())
    batch = problem.batch()
    assert_close(pi.NtkSap(**FEW)(compiled, [batch]), pi.NtkSap(**FEW)(problem.model(), [batch]))


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_is_left_exactly_as_it_was(problem):
    model = problem.model().train()
    next(iter(model.children())).eval()
    before = snapshot(model)
    pi.score(model, pi.NtkSap(norm=problem.norm, **FEW), [problem.batch(), problem.batch(seed=2)])
    assert_untouched(model, before)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rounds": 0}, "rounds must be a whole number, at least 1, got 0"),
        ({"samples": 0}, "samples must be a whole number, at least 1, got 0"),
        ({"epsilon": 0.0}, "epsilon must be a number above 0, got 0.0"),
        ({"epsilon": -1}, "epsilon must be a number above 0, got -1"),
    ],
    ids=str,
)
def test_bad_hyper_parameters(arguments, message):
    with pytest.raises(pi.InputError, match=message):
        pi.NtkSap(**arguments)


@pytest.mark.parametrize(
    "batches, message",
    [
        (None, "needs data: pass batches="),
        ([], "there are no batches"),
        ([(torch.zeros(0, 5), torch.zeros(0).long())], "a batch is empty"),
        ([(torch.zeros(2, 4), torch.zeros(2).long())], "cannot be run on the batch given"),
        ([(torch.arange(10).view(2, 5), torch.zeros(2).long())], "cannot be run on the batch given"),
    ],
    ids=["none", "no-batches", "empty", "shape", "whole-numbers"],
)
def test_bad_batches(batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.NtkSap()(PROBLEMS[0].model(dtype=torch.float32), batches)


def test_data_that_is_not_finite_is_named_where_it_is_used():
    model, bad = PROBLEMS[0].model(dtype=torch.float32), [(torch.full((2, 5), torch.nan), torch.zeros(2))]
    assert pi.NtkSap(**FEW)(model, bad)["0.weight"].isfinite().all()
    with pytest.raises(pi.InputError, match="holds NaN or inf"):
        pi.NtkSap(noise=False)(model, bad)


def test_an_overflow_is_laid_to_the_initialisation():
    model = PROBLEMS[0].model(dtype=torch.float32)
    nn.init.constant_(model[4].weight, 3e38)
    with pytest.raises(pi.InputError, match="outputs are not finite.*check the initialisation"):
        pi.NtkSap()(model, [(torch.zeros(2, 5), torch.zeros(2))])


def test_a_weight_that_the_outputs_do_not_see_is_named_and_scores_zero():
    with pytest.warns(UserWarning, match="does not depend on 1 of 3 weights, which score 0: unused.weight"):
        scores = pi.NtkSap(**FEW)(Half(), [(torch.randn(8, 4), torch.zeros(8))])
    assert not scores["unused.weight"].any()
    assert scores["used.weight"].any()


def test_scores_of_a_bfloat16_model_are_float32_and_near_those_of_its_exact_twin():
    problem = PROBLEMS[IDS.index("dense")]
    model = problem.model(dtype=torch.bfloat16)
    x, y = problem.batch(32, dtype=torch.bfloat16)
    exact = problem.model()
    exact.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    # Large enough a step for the outputs to differ by more than bfloat16 rounds.
    expected = twin(exact, [(x.double(), y)], epsilon=0.3)
    for name, score in pi.NtkSap(epsilon=0.3, **FEW)(model, [(x, y)]).items():
        assert score.dtype == torch.float32
        assert (score - expected[name]).norm() < 0.1 * expected[name].norm()


def test_a_batch_may_be_the_inputs_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(6, 3)
    alone, paired = (pi.NtkSap(**FEW)(model, [batch]) for batch in (x, (x, torch.zeros(6).long())))
    assert all(torch.equal(alone[name], paired[name]) for name in alone)


def test_batches_of_another_structure_are_told_to_need_outputs():
    with pytest.raises(pi.InputError, match=r"got a dict: pass NtkSap\(outputs=...\)"):
        pi.NtkSap(**FEW)(nn.Linear(3, 2), [{"x": torch.randn(6, 3)}])
