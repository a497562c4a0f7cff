import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.isometry import find_isometry, orthogonal
from pruneinit.reparametrize import stored
from pruneinit.weights import weight


def problem_named(name):
    return PROBLEMS[IDS.index(name)]


def random_masks(model, density=0.6):
    generator = torch.Generator().manual_seed(3)
    return pi.Masks(
        {name: torch.rand(w.shape, generator=generator) < density for name, w in pi.prunable(model).items()}
    )


def matrices_of(name, tensor, groups=1, transposed=False):
    """The matrices of a weight by hand: outputs x (inputs, taps), one for each group or attention projection."""
    parts = np.split(tensor.detach().numpy(), 3 if name.endswith("in_proj_weight") else groups)
    return [(np.swapaxes(p, 0, 1) if transposed else p).reshape(p.shape[int(transposed)], -1) for p in parts]


def distance(matrix, gain=1.0):
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return np.linalg.norm(wide @ wide.T - gain**2 * np.eye(len(wide)))


def layer(matrix):
    module = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, dtype=torch.float64)
    module.weight.data = torch.as_tensor(matrix).clone()
    return module


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (4, 4), (2, 6)], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_the_minimum_is_that_of_another_solver(shape, seed):
    """BFGS of scipy over the kept entries, with the gradient by autograd of the objective as it is written down."""
    draw = np.random.default_rng(seed)
    start, kept = draw.normal(size=shape), draw.random(shape) < 0.6

    def objective(values):
        leaf = torch.tensor(values, requires_grad=True)
        matrix = torch.zeros(shape, dtype=torch.float64)
        matrix = matrix.index_put((torch.as_tensor(kept),), leaf)
        wide = matrix if shape[0] <= shape[1] else matrix.T
        value = (wide @ wide.T - torch.eye(len(wide), dtype=torch.float64)).square().sum()
        value.backward()
        return value.item(), leaf.grad.numpy()

    found = find_isometry(layer(start), pi.Masks({"weight": torch.as_tensor(kept)}), steps=2000)
    value, gradient = objective(found.weights["weight"].numpy()[kept])
    assert np.abs(gradient).max() < 1e-6
    assert found.objective_after["weight"] ** 2 == pytest.approx(value, abs=1e-12)
    minima = [
        scipy.optimize.minimize(objective, values, jac=True, method="BFGS", options={"gtol": 1e-9}).fun
        for values in (start[kept], *(draw.normal(size=kept.sum()) for _ in range(20)))
    ]
    assert value > min(minima) - 1e-9
    assert min(abs(value - other) for other in minima) < 1e-6  # several are local, and either solver may end in any


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3)], ids=str)
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_a_dense_matrix_becomes_exactly_orthogonal(shape, gain):
    torch.manual_seed(0)
    model = layer(torch.randn(shape, dtype=torch.float64))
    pi.approximate_isometry_(model, pi.Masks({"weight": torch.ones(shape).bool()}), gain=gain)
    expected = torch.full((min(shape),), gain, dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(model.weight), expected, rtol=1e-7, atol=0)


def test_what_is_left_of_a_diagonal_becomes_plus_and_minus_one():
    torch.manual_seed(0)
    model = layer(torch.randn(6, 6, dtype=torch.float64))
    signs = model.weight.diagonal().sign()
    pi.approximate_isometry_(model, pi.Masks({"weight": torch.eye(6).bool()}))
    torch.testing.assert_close(model.weight.diagonal(), signs, rtol=1e-7, atol=0)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense-with-masks", "sparsified"])
def test_every_weight_comes_nearer_and_nothing_else_changes(problem, sparse):
    model = problem.model()
    masks = random_masks(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    old = {name: weight(model, name).detach().clone() for name in masks}
    if sparse:
        pi.sparsify_(model, masks)
        found = find_isometry(model)
        assert pi.approximate_isometry_(model) is model
    else:
        found = find_isometry(model, masks)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
        assert pi.approximate_isometry_(model, masks) is model
    for name, described in pi.prunable(model).items():
        shape = described.groups, described.kind == "conv_transpose"
        new = weight(model, name).detach()
        if not sparse:
            assert torch.equal(new[~masks[name]], old[name][~masks[name]])
        was = sum(distance(m) for m in matrices_of(name, old[name] * masks[name], *shape))
        now = sum(distance(m) for m in matrices_of(name, new * masks[name], *shape))
        assert (found.objective_before[name], found.objective_after[name]) == pytest.approx((was, now), abs=1e-12)
        assert now < 0.9 * was
        values = np.concatenate(
            [np.linalg.svd(m, compute_uv=False) for m in matrices_of(name, new * masks[name], *shape)]
        )
        np.testing.assert_allclose(found.after[name].numpy(), np.sort(values)[::-1], atol=1e-12)
        torch.testing.assert_close(pi.singular_values(model, masks)[name], found.after[name], rtol=0, atol=1e-12)
    if not sparse:
        rest = [n for n in before if n not in masks and not any(n in w.aliases for w in pi.prunable(model).values())]
        assert all(torch.equal(model.state_dict()[n], before[n]) for n in rest)


def test_the_jacobian_of_a_deep_pruned_network_comes_nearer_to_an_isometry():
    model = nn.Sequential(*(m for _ in range(30) for m in (nn.Linear(32, 32), nn.Tanh())))
    pi.orthogonal_(model, "tanh", sigma_b=0.0, generator=torch.Generator().manual_seed(0))
    masks = pi.prune(model, pi.Random(), sparsity=0.7)
    pi.sparsify_(model, masks)
    x = 0.01 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian
    before = torch.linalg.svdvals(jacobian(model, x))
    after = torch.linalg.svdvals(jacobian(pi.approximate_isometry_(model, steps=100), x))
    assert before.median() < 1e-4
    assert (after > 0.5).float().mean() > 0.5
    assert (after - 1).abs().mean() < 0.5 < 0.9 < (before - 1).abs().mean()


def test_a_layer_of_which_nothing_is_left_stays_and_is_said_to():
    model = problem_named("dense").model()
    masks = pi.Masks({n: torch.zeros(w.shape).bool() if n == "2.weight" else torch.ones(w.shape).bool()
                      for n, w in pi.prunable(model).items()})  # fmt: skip
    before = model[2].weight.detach().clone()
    found = find_isometry(model, masks)
    assert "2.weight  nothing is left of it" in str(found)
    assert found.objective_after["2.weight"] == pytest.approx(np.sqrt(6))
    pi.approximate_isometry_(model, masks)
    assert torch.equal(model[2].weight, before)


def test_rows_and_columns_without_a_weight_do_no_harm():
    torch.manual_seed(0)
    kept = torch.ones(5, 6).bool()
    kept[2], kept[:, 1] = False, False
    model = layer(torch.randn(5, 6, dtype=torch.float64))
    found = find_isometry(model, pi.Masks({"weight": kept}))
    torch.testing.assert_close(found.after["weight"], torch.tensor([1.0, 1, 1, 1, 0]).double(), rtol=0, atol=1e-7)


def test_the_table_has_a_line_for_every_weight():
    model = problem_named("conv-and-groups").model()
    lines = str(find_isometry(model, random_masks(model))).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["0.weight", "2.weight", "5.weight"]
    assert "before" in lines[0]
    assert "mean" in lines[1]


def test_more_steps_are_never_worse_and_one_is_enough_to_begin():
    model = problem_named("dense").model()
    masks = random_masks(model)
    values = [sum(find_isometry(model, masks, steps=n).objective_after.values()) for n in (1, 3, 10, 100)]
    assert values == sorted(values, reverse=True)
    assert values[0] < sum(find_isometry(model, masks).objective_before.values())
    assert max(find_isometry(model, masks, steps=3).steps.values()) == 3


def test_an_isometry_stays_bitwise_as_it_is():
    model = pi.orthogonal_(nn.Linear(6, 6), "linear", generator=torch.Generator().manual_seed(0)).double()
    masks = pi.Masks({"weight": torch.ones(6, 6).bool()})
    pi.approximate_isometry_(model, masks)
    once = model.weight.detach().clone()
    found = find_isometry(pi.approximate_isometry_(model, masks), masks)
    torch.testing.assert_close(model.weight, once, rtol=0, atol=1e-9)
    assert found.objective_after["weight"] <= found.objective_before["weight"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_of_few_bits_come_nearer_too(dtype):
    model = problem_named("dense").model(dtype=torch.float32).to(dtype)
    masks = random_masks(model)
    found = find_isometry(model, masks)
    pi.approximate_isometry_(model, masks)
    assert model[0].weight.dtype == dtype
    assert all(found.objective_after[n] < found.objective_before[n] for n in masks)
    torch.testing.assert_close(pi.singular_values(model, masks)["0.weight"], found.after["0.weight"], rtol=0, atol=1e-2)


def test_a_tied_weight_is_solved_once_and_stays_tied():
    model = problem_named("tied-weights").model()
    parameter = model.first.weight
    pi.approximate_isometry_(model, random_masks(model))
    assert model.first.weight is model.second.weight is parameter


@pytest.mark.parametrize("method", ["formula", "tap"])
def test_the_factor_of_a_rescaling_is_part_of_the_weight(method):
    model = problem_named("conv-and-groups").model()
    masks = random_masks(model)
    plain = find_isometry(model, masks)
    pi.rescale_(pi.sparsify_(model, masks), method=method)
    pi.approximate_isometry_(model)
    found = pi.singular_values(model)
    for name in masks:
        expected = plain.after[name].sub(1).norm().item()
        assert found[name].sub(1).norm().item() == pytest.approx(expected, abs=0.05)


def test_a_model_can_be_trained_and_saved_after_it(tmp_path):
    problem = problem_named("dense")
    model = problem.model()
    masks = random_masks(model)
    pi.sparsify_(pi.approximate_isometry_(model, masks), masks)
    pi.save(model, tmp_path / "net.safetensors")
    fresh = pi.load(tmp_path / "net.safetensors", into=problem.model(seed=5))
    assert all(torch.equal(weight(fresh, n), weight(model, n)) for n in masks)
    assert stored(model, "0.weight").requires_grad


def nan_model():
    model = problem_named("dense").model()
    model[2].weight.data[0, 0] = torch.nan
    return model


@pytest.mark.parametrize(
    "build, given, message",
    [
        (None, {}, "the model is dense: pass the masks"),
        (None, {"masks": pi.Masks({"9.weight": torch.ones(2).bool()})}, "unknown weight in the masks '9.weight'"),
        (None, {"masks": pi.Masks({"0.weight": torch.ones(2, 2).bool()})}, "made for another model"),
        (nan_model, {"masks": pi.Masks({"2.weight": torch.ones(6, 7).bool()})}, "2.weight holds 1 values that are NaN"),
        (None, {"masks": pi.Masks({"0.weight": torch.ones(7, 5).bool()}), "steps": 0}, "steps must be .* got 0"),
        (None, {"masks": pi.Masks({"0.weight": torch.ones(7, 5).bool()}), "gain": 0}, "gain must be .* got 0"),
        (None, {"masks": pi.Masks({"0.weight": torch.ones(7, 5).bool()}), "gain": float("nan")}, "gain must be"),
        (None, {"masks": pi.Masks({"0.weight": torch.ones(7, 5).bool()}), "gain": 1e200}, "gain is 1e\\+200, and its"),
        (None, {"masks": pi.Masks({"0.weight": torch.ones(7, 5).bool()}), "tolerance": -1}, "tolerance must be"),
    ],
)
def test_bad_input(build, given, message):
    model = (build or problem_named("dense").model)()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(pi.InputError, match=message):
        pi.approximate_isometry_(model, **given)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


def test_the_parametrisation_of_another_library_is_refused():
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(pi.InputError, match="already parametrised"):
        pi.approximate_isometry_(model, pi.Masks({"0.weight": torch.ones(3, 3).bool()}))


def test_numbers_of_numpy_are_numbers():
    model, masks = nn.Linear(3, 3), pi.Masks({"weight": torch.ones(3, 3).bool()})
    given = {"gain": np.float32(0.5), "steps": np.int64(20), "tolerance": np.float32(0.25)}
    ours = pi.find_isometry(model, masks, gain=0.5, steps=20, tolerance=0.25)
    assert pi.find_isometry(model, masks, **given).weights["weight"].equal(ours.weights["weight"])


def rotation(size, seed=0):
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))[0]


@pytest.mark.parametrize(
    "weight, expected",
    [
        (3 * rotation(8), True),
        (rotation(300), True),
        (rotation(8)[:, :3], True),
        (rotation(8)[:3].reshape(3, 2, 2, 2), True),
        (torch.cat([rotation(8)[:3], -rotation(8)[:3], torch.zeros(2, 8)]), True),
        (torch.diag(torch.tensor([1.0, 1.0, 1.01])), False),
        (torch.randn(8, 8, generator=torch.Generator().manual_seed(0)), False),
        (rotation(8)[:1], False),
        (torch.zeros(3, 3), False),
        (torch.ones(4, 4), False),
        (torch.ones(3), False),
        (rotation(8).bfloat16(), True),
        (rotation(8)[:3].reshape(3, 2, 2, 2).transpose(0, 1), True),
    ],
    ids=[
        "scaled",
        "wide",
        "tall",
        "kernel",
        "mirrored-and-unused",
        "norms-differ",
        "gaussian",
        "one-row",
        "nothing",
        "all-alike",
        "vector",
        "rounded",
        "transposed-kernel",
    ],
)
def test_a_weight_is_orthogonal_if_its_outputs_or_its_inputs_are(weight, expected):
    assert orthogonal(weight) is expected


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["mlp", "vcnn-2"])
def test_what_is_drawn_sparse_and_orthogonal_is_seen_to_be_and_what_is_pruned_is_not(kind, activation):
    model = pi.models.build(kind, input_shape=(1, 28, 28), classes=10, depth=6, width=16, activation=activation)
    drawn = pi.sparse_orthogonal_(model, sparsity=0.8, generator=torch.Generator().manual_seed(0))
    between = list(pi.prunable(drawn))[1:-1]
    assert all(orthogonal(drawn.get_parameter(name)) for name in between)
    pi.orthogonal_(model, generator=torch.Generator().manual_seed(0))
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.8, scope="ends")
    assert not any(orthogonal(masks[name] * model.get_parameter(name)) for name in between)
