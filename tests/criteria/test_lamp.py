from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from scoring import assert_untouched, random_masks, snapshot


def twin(values: list[float]) -> list[float]:
    """For each value its square over the sum of the squares that come no later when sorted, the largest first."""
    exact = [Fraction(value) for value in values]
    order = sorted(range(len(values)), key=lambda i: (-abs(exact[i]), i))
    scores = [0.0] * len(values)
    for place, i in enumerate(order):
        above = sum(exact[j] ** 2 for j in order[: place + 1])
        scores[i] = float(exact[i] ** 2 / above) if above else 0.0
    return scores


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
def test_lamp_is_the_part_of_what_is_not_smaller(problem, masked):
    model = problem.model()
    masks = random_masks(model) if masked else None
    found = pi.Lamp()(model, masks=masks)
    for name in pi.prunable(model):
        weight = model.get_parameter(name).detach() * (masks[name] if masked else 1)
        expected = torch.tensor(twin(weight.flatten().tolist()), dtype=torch.float64).reshape(weight.shape)
        assert (found[name] - expected).abs().max() <= 1e-9 * expected.abs().max()


def linear(values: list[float], dtype: torch.dtype = torch.float64) -> nn.Module:
    model = nn.Linear(len(values), 1, bias=False, dtype=dtype)
    model.weight.data = torch.tensor([values], dtype=dtype)
    return model


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-3]) | st.floats(-10, 10), min_size=1, max_size=20))
def test_ties_go_by_position_and_zeros_score_zero(values):
    found = pi.Lamp()(linear(values))["weight"].flatten().tolist()
    assert found == pytest.approx(twin(values), rel=1e-9, abs=1e-300)


@given(st.lists(st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=9).filter(any), min_size=1, max_size=5),
       st.integers(0, 40))  # fmt: skip
def test_every_layer_keeps_its_largest_weight_under_a_global_threshold(layers, more):
    model = nn.ModuleList(linear(values, torch.float32) for values in layers)
    scores = pi.score(model, pi.Lamp())
    total = sum(score.numel() for score in scores.values())
    masks = pi.select(scores, 1 - min(len(layers) + more, total) / total)
    for name, values in zip(masks, layers, strict=True):
        assert masks[name].flatten()[max(range(len(values)), key=lambda i: (abs(values[i]), -i))]


def test_layers_of_very_different_scale_all_survive():
    model = nn.Sequential(*(nn.Linear(50, 50) for _ in range(6)))
    for i, layer in enumerate(model):
        layer.weight.data *= 10.0 ** (-6 * i)
    assert pi.prune(model, pi.Magnitude(), sparsity=0.95, allow_empty=True).empty
    assert not pi.prune(model, pi.Lamp(), sparsity=0.9976).empty


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_layer_keeps_what_magnitude_would_keep_of_it(problem):
    model = problem.model()
    masks = pi.prune(model, pi.Lamp(), sparsity=0.6)
    assert pi.select(pi.score(model, pi.Magnitude()), None, masks.densities) == masks


def test_a_layer_of_zeros_scores_zero():
    assert not pi.Lamp()(linear([0.0, 0.0]))["weight"].any()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_no_square_overflows_or_vanishes(scale):
    found = pi.Lamp()(linear([scale, 2 * scale, -3 * scale]))["weight"].flatten().tolist()
    assert found == pytest.approx([1 / 14, 4 / 13, 1])


def test_bfloat16_weights_get_float32_scores():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = pi.Lamp()(linear(values.tolist(), torch.bfloat16))["weight"]
    assert found.dtype == torch.float32
    assert found.flatten().tolist() == pytest.approx(twin(values.tolist()), rel=1e-6)


def test_a_sparsified_model_has_the_scores_of_the_masked_dense_one_and_is_left_alone():
    model = PROBLEMS[IDS.index("tied-weights")].model()
    masks = random_masks(model)
    expected = pi.Lamp()(model, masks=masks)
    sparse = pi.sparsify_(model, masks)
    before = snapshot(sparse)
    found = pi.score(sparse, pi.Lamp())
    assert_untouched(sparse, before)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
