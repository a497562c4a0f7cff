import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pruneinit as pi
from pruneinit import Masks, select
from pruneinit.densities import RULES
from pruneinit.radix import threshold


def twin(scores: dict[str, torch.Tensor], keep: int, within: Masks | None = None) -> dict[str, list[bool]]:
    """Sort everything in Python: value first, then position."""
    flat = [
        (-float(v) + 0.0, i, j, name)
        for i, (name, s) in enumerate(scores.items())
        for j, v in enumerate(s.double().flatten().tolist())
        if within is None or within[name].flatten()[j]
    ]
    chosen = {(name, j) for _, _, j, name in sorted(flat)[:keep]}
    return {name: [(name, j) in chosen for j in range(s.numel())] for name, s in scores.items()}


def as_lists(masks: Masks) -> dict[str, list[bool]]:
    return {name: mask.flatten().tolist() for name, mask in masks.items()}


FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SPECIAL = [0.0, -0.0, 5e-324, -5e-324, 1e-40, -1e-40, 6e-8, 1.0, -1.0, 1.5, 65504.0, -65504.0]


@st.composite
def score_dicts(draw):
    """Scores of mixed shapes and dtypes with many ties, denormals and both zeros."""
    scores = {}
    for i in range(draw(st.integers(1, 4))):
        values = draw(st.lists(st.sampled_from(SPECIAL) | st.floats(-100, 100, width=16), max_size=12))
        scores[f"layer{i}"] = torch.tensor(values, dtype=draw(st.sampled_from(FLOATS)))
    return scores


@given(score_dicts(), st.floats(0, 0.999))
def test_global_selection_equals_sorting(scores, sparsity):
    total = sum(s.numel() for s in scores.values())
    keep = round((1 - sparsity) * total)
    masks = select(scores, sparsity)
    assert masks.kept == keep
    assert as_lists(masks) == twin(scores, keep)


@given(score_dicts(), st.floats(0, 0.999), st.integers(0, 2**31))
def test_selection_within_masks_equals_sorting_what_they_keep(scores, sparsity, seed):
    generator = torch.Generator().manual_seed(seed)
    within = Masks({n: torch.rand(s.shape, generator=generator) < 0.7 for n, s in scores.items()})
    keep = round((1 - sparsity) * within.total)
    if keep > within.kept:
        with pytest.raises(pi.InputError, match="can be kept"):
            select(scores, sparsity, within=within)
    else:
        assert as_lists(select(scores, sparsity, within=within)) == twin(scores, keep, within)


@pytest.mark.parametrize("scope", [rule for rule in RULES if rule != "uniform+"])  # which refuses some sparsities
@given(scores=score_dicts(), sparsity=st.floats(0, 0.999))
def test_shared_out_counts_are_exact_and_the_largest_of_each_layer_are_kept(scope, scores, sparsity):
    masks = select(scores, sparsity, scope)
    assert masks.kept == round((1 - sparsity) * masks.total)
    for name, score in scores.items():
        assert as_lists(masks)[name] == twin({name: score}, masks.counts[name][0])[name]


def test_given_densities():
    scores = {"a": torch.rand(10), "b": torch.rand(3, 5)}
    assert select(scores, None, {"a": 0.25, "b": 1.0}).counts == {"a": (2, 10), "b": (15, 15)}


def test_all_equal_scores_are_kept_from_the_front():
    masks = select({"a": torch.ones(3), "b": torch.ones(3)}, 1 / 3)
    assert as_lists(masks) == {"a": [True] * 3, "b": [True, False, False]}


def test_negative_and_positive_zero_tie():
    assert as_lists(select({"a": torch.tensor([-0.0, 0.0])}, 0.5)) == {"a": [True, False]}


def test_more_than_2_to_24_weights_are_counted_exactly():
    n = 2**24 + 12_345
    scores = {"a": torch.ones(n), "b": torch.ones(1001)}
    assert select(scores, 0.0).kept == n + 1001
    assert select(scores, 0.5).kept == round(0.5 * (n + 1001))


def test_more_than_2_to_31_weights_are_counted_exactly():
    # As many processes that hold the same scores: counts are all that is ever made of so many.
    each, processes = 2**15 + 7, 2**16
    scores, n = {"a": torch.full((each,), 0.5), "b": torch.tensor([1.0, 0.25])}, each * processes

    def found(keep):
        return threshold(scores, keep, None, torch.float32, lambda bins: processes * bins)

    assert n > 2**31
    assert found(processes + n - 3) == (0.5, n - 3)
    assert found(processes + n) == (0.5, n)
    assert found(processes + n + 1) == (0.25, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_refused_with_their_layers(bad):
    scores = {"good": torch.ones(3), "bad": torch.tensor([1.0, bad]), "worse": torch.tensor([bad])}
    with pytest.raises(pi.InputError, match="scores of bad, worse are NaN or infinite"):
        select(scores, 0.5)


@pytest.mark.parametrize(
    "sparsity, message",
    [
        (98, r"sparsity must be in \[0, 1\), got 98; did you mean 0.98\?"),
        (-0.1, r"got -0.1"),
        (1, r"got 1"),
        (float("nan"), "got nan"),
        ("0.5", "must be a number"),
        (None, "needs a sparsity"),
    ],
)
def test_impossible_sparsities(sparsity, message):
    with pytest.raises(pi.InputError, match=message):
        select({"a": torch.ones(3)}, sparsity)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"sparsity": 0.5, "scope": "globl"}, "unknown scope 'globl'.*did you mean 'global'"),
        ({"sparsity": 0.5, "scope": {"a": 0.5}}, "sparsity must be None"),
        ({"sparsity": None, "scope": {"b": 0.5}}, "unknown weight 'b'"),
        ({"sparsity": None, "scope": {}}, "density of a must be given"),
        ({"sparsity": None, "scope": {"a": 1.5}}, "density of a must be given"),
        ({"sparsity": None, "scope": {"a": "0.5"}}, "density of a must be given, in .0, 1.; got '0.5'"),
    ],
    ids=["misspelt", "both", "stranger", "missing", "above-one", "a-string"],
)
def test_impossible_scopes(kwargs, message):
    with pytest.raises(pi.InputError, match=message):
        select({"a": torch.ones(3)}, **kwargs)


def test_integer_scores_and_no_scores_are_refused():
    with pytest.raises(pi.InputError, match="must be floating point, got torch.int64"):
        select({"a": torch.ones(3, dtype=torch.int64)}, 0.5)
    with pytest.raises(pi.InputError, match="no scores"):
        select({}, 0.5)


def test_selection_needs_little_memory_beside_the_scores():
    import subprocess
    import sys

    code = """
import re, torch
from pruneinit import select
def memory(field):  # not ru_maxrss, which a child process takes over from its parent
    return 1024 * int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
torch.manual_seed(0)
scores = {str(i): torch.rand(5_000_000) for i in range(8)}
before = memory("VmRSS")
masks = select(scores, 0.9)
extra = memory("VmHWM") - before
print((extra - masks.total) / (4 * masks.total))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.2  # of the scores' bytes, over the masks themselves
