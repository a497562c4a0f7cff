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


def twin(model: nn.Module, batch, masks=None, temperature: float = 200.0) -> dict[str, torch.Tensor]:
    """W · (H g) from the whole Hessian, row by row, over the weights that are kept."""
    weights = {name: model.get_parameter(name) for name in pi.prunable(model)}
    x, y = batch
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        value = functional.cross_entropy(model(x) / temperature, y)
    slopes = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(weights.values()), create_graph=True)])
    kept = torch.cat([torch.ones(w.numel()) if masks is None else masks[n].flatten() for n, w in weights.items()])
    rows = []
    for slope in slopes:
        row = torch.autograd.grad(slope, list(weights.values()), retain_graph=True, allow_unused=True)
        zeros = (torch.zeros_like(w) for w in weights.values())
        rows.append(torch.cat([z.flatten() if r is None else r.flatten() for r, z in zip(row, zeros, strict=True)]))
    product = torch.stack(rows) @ (kept * slopes.detach())
    parts = product.split([w.numel() for w in weights.values()])
    return {n: w.detach() * part.view_as(w) for (n, w), part in zip(weights.items(), parts, strict=True)}


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_scores_equal_the_weights_times_the_whole_hessian_times_the_gradient(problem, masked):
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model) if masked else None
    found = pi.Grasp(norm=problem.norm)(model, [batch], masks)
    assert_close(found, twin(plain_model(problem, masks), batch, masks))


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.norm != "batch"], ids=lambda problem: problem.name)
@pytest.mark.parametrize("sizes", [[4, 4], [1] * 8, [5, 3]], ids=str)
def test_micro_batches_give_the_scores_of_one_batch(problem, sizes):
    x, y = problem.batch(8)
    criterion = pi.Grasp(norm=problem.norm)
    parts = criterion(problem.model(), zip(x.split(sizes), y.split(sizes), strict=True))
    assert_close(parts, twin(plain_model(problem), (x, y)))


def test_a_small_step_of_a_weight_towards_zero_changes_the_gradient_flow_as_the_sign_says():
    problem = PROBLEMS[IDS.index("dense")]
    x, y = problem.batch()
    weights = dict(problem.model().named_parameters())

    def flow(name, index, factor):
        model = problem.model()
        model.get_parameter(name).data.view(-1)[index] *= factor
        value = functional.cross_entropy(model(x) / 3, y)
        slopes = torch.autograd.grad(value, [model.get_parameter(n) for n in pi.prunable(model)])
        return sum(slope.square().sum() for slope in slopes).item()

    scores = pi.Grasp(temperature=3)(problem.model(), [(x, y)])
    signs = set()
    for name, score in scores.items():
        for index in range(0, weights[name].numel(), 5):
            lost = (flow(name, index, 1 + 1e-5) - flow(name, index, 1 - 1e-5)) / 4e-5
            assert score.view(-1)[index].item() == pytest.approx(lost, rel=1e-4, abs=1e-9)
            signs.add(lost > 0)
    assert signs == {True, False}


def test_signed_scores_are_selected_from_largest_to_smallest():
    problem = PROBLEMS[IDS.index("dense")]
    model, batch = problem.model(), problem.batch()
    scores = torch.cat([s.flatten() for s in pi.Grasp()(model, [batch]).values()])
    masks = pi.prune(model, pi.Grasp(), [batch], sparsity=0.7)
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert scores[kept].min() >= scores[~kept].max()
    assert scores[~kept].min() < 0


def test_several_rounds_never_bring_back_a_removed_weight_whose_score_is_zero():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model, batch = problem.model(), problem.batch()
    first = pi.prune(model, pi.Grasp(), [batch], sparsity=1 - 0.2**0.5)
    both = pi.prune(model, pi.Grasp(), [batch], sparsity=0.8, rounds=2)
    assert both.kept == round(0.2 * both.total)
    assert (first & both) == both
    scores = pi.Grasp()(model, [batch], first)
    assert not any(score[~first[name]].any() for name, score in scores.items())


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_sparsified_model_has_the_scores_of_the_masked_dense_one(problem):
    model, batch = problem.model(), problem.batch()
    masks = random_masks(model)
    expected = pi.Grasp(norm=problem.norm)(model, [batch], masks)
    assert_close(pi.Grasp(norm=problem.norm)(pi.sparsify_(model, masks), [batch]), expected)


def test_a_factor_on_a_weight_is_that_of_a_layer_which_multiplies_its_output():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch, self.head = nn.Linear(5, 5, bias=False), nn.Linear(5, 3)
            self.factor = 1.0

        def forward(self, x):
            return self.head(torch.tanh(self.factor * self.branch(x)))

    torch.manual_seed(0)
    model = Scaled().double()
    batch = PROBLEMS[0].batch()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    factors = pi.rescale_(model, [batch], masks=masks, fold=False)
    found = pi.Grasp()(factors, [batch])
    plain = Scaled().double()
    plain.load_state_dict({n: pi.weights.weight(model, n).detach() for n in plain.state_dict()})
    weight, scale = plain.branch.weight, pi.reparametrize.factor(model, "branch.weight").item()
    head = pi.reparametrize.factor(model, "head.weight").item()
    assert scale != 1
    assert head != 1

    def slopes(create_graph):
        value = functional.cross_entropy(plain(batch[0]) / 200, batch[1])
        return torch.autograd.grad(value, [weight, plain.head.weight], create_graph=create_graph)

    first = slopes(True)
    flow = (first[0] * scale**2 * first[0].detach()).sum() + (first[1] * head**2 * first[1].detach()).sum()
    products = torch.autograd.grad(flow, [weight, plain.head.weight])
    assert_close(found, {"branch.weight": weight * products[0], "head.weight": plain.head.weight * products[1]})


@pytest.mark.parametrize("build", [Recurrent, Transformer], ids=["recurrent", "transformer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_fused_operations_without_a_second_derivative_are_replaced(build, dtype):
    torch.manual_seed(0)
    model = build().to(dtype).eval()
    size = 4 if build is Recurrent else 6
    batch = (torch.randn(8, 5, size, dtype=dtype), torch.randint(3, (8,)))
    before = snapshot(model)
    outputs = model(batch[0])
    found = pi.Grasp()(model, [batch])
    assert_untouched(model, before)
    assert torch.equal(model(batch[0]), outputs)
    assert_close(found, twin(model, batch), 1e-9 if dtype == torch.float64 else 1e-3)


def test_an_operation_without_a_second_derivative_is_named():
    batch = (torch.randn(8, 4), torch.randint(3, (8,)))
    with pytest.raises(pi.InputError, match="needs second derivatives.*once_differentiable.*such as Snip"):
        pi.Grasp()(Coarse(), [batch])


def test_checkpointed_blocks_give_the_scores_of_plain_ones():
    torch.manual_seed(0)
    model = Checkpointed().double()
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    masks = random_masks(model)
    plain = {name.removeprefix("body."): mask for name, mask in masks.items()}
    expected = pi.Grasp()(model.body, [(x, y)], pi.Masks(plain))
    for batches in ([(x, y)], [(x[:3], y[:3]), (x[3:], y[3:])]):
        found = pi.Grasp()(model, batches, masks)
        assert_close(found, {f"body.{name}": score for name, score in expected.items()})


def test_a_compiled_model_has_the_scores_of_the_plain_one():
    problem = PROBLEMS[IDS.index("dense")]
    compiled = torch.compile(problem.model())
    assert_close(pi.Grasp()(compiled, [problem.batch()]), pi.Grasp()(problem.model(), [problem.batch()]))


def test_at_most_one_graph_is_held_at_a_time():
    model = Watched()
    pi.Grasp()(model, [(torch.randn(2, 4), torch.tensor([0, 1])) for _ in range(8)])
    assert len(model.values) == 16
    assert model.held == 0


def test_a_loss_of_ones_own_gets_outputs_that_are_divided_already():
    problem = PROBLEMS[IDS.index("dense")]
    model, batch = problem.model(), problem.batch()
    seen = []

    def loss(net, batch):
        seen.append(net(batch[0]).detach())
        return functional.cross_entropy(net(batch[0]), batch[1])

    found = pi.Grasp(temperature=7, loss=loss)(model, [batch])
    torch.testing.assert_close(seen[0], model(batch[0]) / 7)
    assert_close(found, twin(problem.model(), batch, temperature=7))

    def divides(net, batch):
        return functional.cross_entropy(net(batch[0]) / 7, batch[1])

    assert_close(pi.Grasp(temperature=1, loss=divides)(model, [batch]), found)


def test_outputs_that_are_not_a_tensor_are_refused_unless_the_temperature_is_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return {"logits": self.layer(x)}

    model, batch = Two(), (torch.randn(8, 4), torch.randint(3, (8,)))

    def loss(net, batch):
        return functional.cross_entropy(net(batch[0])["logits"], batch[1])

    before = snapshot(model)
    with pytest.raises(pi.InputError, match=r"one tensor, this model returns a dict: use Grasp\(temperature=1"):
        pi.Grasp(loss=loss)(model, [batch])
    assert_untouched(model, before)
    assert pi.Grasp(temperature=1, loss=loss)(model, [batch])["layer.weight"].any()


def test_a_loss_that_goes_around_the_model_cannot_have_a_temperature():
    model, batch = nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,)))

    def loss(net, batch):
        return functional.cross_entropy(functional.linear(batch[0], net.weight), batch[1])

    with pytest.raises(pi.InputError, match="does not call the model.*temperature=1"):
        pi.Grasp(loss=loss)(model, [batch])


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "200", True])
def test_bad_temperatures(temperature):
    with pytest.raises(pi.InputError, match="temperature must be a number above 0, got"):
        pi.Grasp(temperature=temperature)


@pytest.mark.parametrize(
    "batches, message",
    [
        (None, "needs data: pass batches="),
        ([], "there are no batches"),
        ([(torch.zeros(0, 5), torch.zeros(0).long())], "a batch is empty"),
        ([(torch.zeros(2, 4), torch.zeros(2).long())], "cannot be run on the batch given"),
        ([(torch.full((2, 5), torch.nan), torch.zeros(2).long())], "holds NaN or inf"),
    ],
    ids=["none", "no-batches", "empty", "shape", "nan"],
)
def test_bad_batches(batches, message):
    with pytest.raises(pi.InputError, match=message):
        pi.Grasp()(PROBLEMS[0].model(dtype=torch.float32), batches)


def test_the_statistics_of_batch_norm_must_be_named():
    problem = PROBLEMS[IDS.index("batch-norm")]
    with pytest.raises(pi.InputError, match="say norm='batch' or norm='running'"):
        pi.Grasp()(problem.model(), [problem.batch()])


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_is_left_exactly_as_it_was(problem):
    model = problem.model().train()
    next(iter(model.children())).eval()
    before = snapshot(model)
    pi.score(model, pi.Grasp(norm=problem.norm), [problem.batch(), problem.batch(seed=2)])
    assert_untouched(model, before)


def test_a_weight_that_the_loss_does_not_see_is_named_and_scores_zero():
    batch = (torch.randn(8, 4), torch.randint(3, (8,)))
    for batches in ([batch], [batch, batch]):
        with pytest.warns(UserWarning, match="does not depend on 1 of 3 weights, which score 0: unused.weight"):
            scores = pi.Grasp()(Half(), batches)
        assert not scores["unused.weight"].any()
        assert scores["used.weight"].any()


def test_a_loss_that_is_linear_in_the_weights_scores_zero():
    def loss(net, batch):
        return net(batch[0]).mean()

    with pytest.warns(UserWarning, match="every score is 0"):
        scores = pi.Grasp(loss=loss)(nn.Linear(4, 3), [(torch.randn(8, 4), None)])
    assert not scores["weight"].any()


def test_scores_of_a_bfloat16_model_are_float32_and_near_those_of_its_exact_twin():
    problem = PROBLEMS[IDS.index("dense")]
    model = problem.model(dtype=torch.bfloat16)
    x, y = problem.batch(32, dtype=torch.bfloat16)
    exact = problem.model()
    exact.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    expected = twin(exact, (x.double(), y))
    for name, score in pi.Grasp()(model, list(zip(x.split(8), y.split(8), strict=True))).items():
        assert score.dtype == torch.float32
        assert (score - expected[name]).norm() < 0.3 * expected[name].norm()
