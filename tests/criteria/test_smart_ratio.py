import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from scoring import assert_untouched, random_masks, snapshot


def ratio(layer: int, depth: int, power: int = 0) -> float:
    return ((depth - layer + 1) ** 2 + (depth - layer + 1)) / layer**power


def check(counts: list[int], sizes: list[int], room: list[int], last: int | None, power: int = 0) -> None:
    """There is one λ for which each layer keeps min(λ r n, room) weights, rounded, and the last linear one its part."""
    least, most = 0.0, math.inf
    others = [i for i in range(len(sizes)) if i != last]
    for i in others:
        size = ratio(i + 1, len(sizes), power) * sizes[i]
        least = max(least, (counts[i] - 0.5) / size if counts[i] else 0)
        most = min(most, (counts[i] + 0.5) / size if counts[i] < room[i] else math.inf)
    assert least <= most * (1 + 1e-12)
    if last is not None:
        fixed = min(round(0.3 * sizes[last]), room[last])
        assert counts[last] <= fixed or all(counts[i] == room[i] for i in others)
        assert counts[last] >= fixed or not any(counts[i] for i in others)


def mlp(sizes: list[int]) -> nn.Module:
    return nn.ModuleList(nn.Linear(size, 1, bias=False) for size in sizes)


def kept(masks: Mapping) -> list[int]:
    return [int(mask.sum()) for mask in masks.values()]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.floats(0, 1), st.sampled_from([0, 2]))
def test_one_threshold_gives_the_explicit_counts_up_to_a_weight(sizes, share, power):
    keep = round(share * sum(sizes))
    scores = pi.score(mlp(sizes), pi.SmartRatio(power=power))
    found = kept(pi.select(scores, 1 - keep / sum(sizes) if keep else 0.9999999))
    assert sum(found) == keep
    check(found, sizes, sizes, len(sizes) - 1, power)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.floats(0, 1), st.integers(0, 99))
def test_what_masks_leave_is_shared_out_by_the_same_ratios(sizes, share, seed):
    model = mlp(sizes)
    within = random_masks(model, seed)
    keep = round(share * within.kept)
    scores = pi.SmartRatio()(model, masks=within)
    assert all(not scores[name][~within[name]].any() and (scores[name][within[name]] > 0).all() for name in scores)
    found = kept(pi.select(scores, 1 - keep / within.total if keep else 0.9999999, within=within))
    check(found, sizes, kept(within), len(sizes) - 1)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8, 0.95])
def test_every_network_has_the_densities_of_its_layers(problem, sparsity):
    model = problem.model()
    weights = list(pi.prunable(model).values())
    sizes = [found.numel for found in weights]
    last = max((i for i, found in enumerate(weights) if found.kind == "linear"), default=None)
    check(kept(pi.select(pi.score(model, pi.SmartRatio()), sparsity)), sizes, sizes, last)


def test_the_ratios_of_a_network_of_four_layers():
    masks = pi.prune(mlp([1000] * 4), pi.SmartRatio(), sparsity=0.545)
    assert masks.densities == {"0.weight": 0.8, "1.weight": 0.48, "2.weight": 0.24, "3.weight": 0.3}  # 20 : 12 : 6


def test_ratios_divided_by_the_square_of_the_depth():
    masks = pi.prune(mlp([1000] * 4), pi.SmartRatio(power=2, last=0.1), sparsity=0.767)
    shares = [20, 12 / 4, 6 / 9]
    for count, share in zip(kept(masks), shares, strict=False):
        assert abs(count - 832 * share / sum(shares)) <= 1
    assert kept(masks)[-1] == 100


def test_a_sparsity_above_what_the_last_layer_takes_leaves_nothing_else():
    model = mlp([10, 10, 1000])
    assert kept(pi.prune(model, pi.SmartRatio(), sparsity=1 - 300 / 1020, allow_empty=True)) == [0, 0, 300]
    masks = pi.select(pi.score(model, pi.SmartRatio()), 1 - 299 / 1020)
    assert kept(masks) == [0, 0, 299]
    assert masks.empty == ("0.weight", "1.weight")


def test_the_last_layer_fills_up_when_all_others_are_whole():
    assert kept(pi.prune(mlp([10, 10, 100]), pi.SmartRatio(), sparsity=1 - 90 / 120)) == [10, 10, 70]


def test_a_network_without_linear_layers_has_ratios_for_all():
    model = nn.Sequential(nn.Conv1d(1, 1000, 1, bias=False), nn.ConvTranspose1d(1000, 1, 1, bias=False))
    assert kept(pi.prune(model, pi.SmartRatio(), sparsity=0.6)) == [600, 200]  # 6 : 2


def test_weights_left_out_change_nothing_for_the_others():
    model = mlp([300, 200, 100])
    assert torch.equal(
        pi.score(model, pi.SmartRatio(), exclude="2.*")["1.weight"], pi.score(model, pi.SmartRatio())["1.weight"]
    )


def test_the_place_of_a_weight_does_not_matter_and_the_seed_does():
    model = mlp([4000, 10])
    first, again, other = (pi.prune(model, pi.SmartRatio(seed), sparsity=0.75) for seed in (1, 1, 2))
    assert first == again
    assert first.iou(other) == pytest.approx(1 / 7, abs=0.05)  # of two random quarters
    quarters = first["0.weight"].reshape(4, 1000).sum(1)
    assert all(abs(int(count) - 250) < 5 * math.sqrt(250 * 0.75) for count in quarters)


def test_more_weights_than_a_float32_can_count_are_told_apart():
    scores = pi.SmartRatio()(mlp([2**24 + 1000, 10]))
    assert scores["0.weight"].unique().numel() == 2**24 + 1000


@pytest.mark.parametrize("settings", [{"last": 1.5}, {"last": -0.1}, {"power": -1}, {"power": math.nan}], ids=str)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(pi.InputError, match=f"{next(iter(settings))} must be .* got"):
        pi.SmartRatio(**settings)


def test_a_sparsified_model_is_scored_where_it_has_survivors_and_left_alone():
    model = PROBLEMS[IDS.index("tied-weights")].model()
    masks = random_masks(model)
    expected = pi.SmartRatio()(model, masks=masks)
    sparse = pi.sparsify_(model, masks)
    before = snapshot(sparse)
    found = pi.score(sparse, pi.SmartRatio())
    assert_untouched(sparse, before)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("given", [{"last": "a"}, {"last": True}, {"power": "a"}, {"power": None}])
def test_what_is_no_number_is_refused(given):
    with pytest.raises(pi.InputError, match=f"^{next(iter(given))} must be a "):
        pi.SmartRatio(**given)
