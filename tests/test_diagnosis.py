import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.diagnosis import Diagnosis, Layer


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_every_weight_is_listed_with_its_counts_and_moments(problem):
    model, batch = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    found = pi.diagnose(model, [batch], masks, norm=problem.norm)
    assert {layer.name: (layer.kept, layer.total) for layer in found.layers} == masks.counts
    assert found.sparsity == pytest.approx(masks.sparsity)
    dense = pi.second_moments(model, [batch], norm=problem.norm)
    now = pi.second_moments(model, [batch], masks=masks, norm=problem.norm)
    assert [layer.name for layer in found.layers] == list(now)
    assert {layer.name: (layer.dense, layer.now) for layer in found.layers} == {n: (dense[n], now[n]) for n in now}


def test_a_sparsified_model_needs_no_masks():
    model, batch = PROBLEMS[0].model(), PROBLEMS[0].batch()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    expected = pi.diagnose(model, [batch], masks)
    found = pi.diagnose(pi.sparsify_(model, masks), [batch])
    assert [(x.name, x.kept) for x in found.layers] == [(x.name, x.kept) for x in expected.layers]
    assert [x.now for x in found.layers] == pytest.approx([x.now for x in expected.layers])
    assert all(x.dense is None for x in found.layers)


@pytest.mark.parametrize(
    "moments, kept, words",
    [
        ([1.0, 0.9, 1.1], 5, "a signal passes"),
        ([1.0, 1e-2, 1e-5], 5, "the signal dies"),
        ([1.0, 1e2, 1e5], 5, "the signal explodes"),
        ([1.0, float("inf"), float("nan")], 5, "not finite"),
        ([None, None, None], 5, "pass batches"),
        ([1.0, 0.0, 0.0], 0, "3 of 3 layers are empty"),
    ],
)
def test_the_verdict_says_what_the_numbers_mean(moments, kept, words):
    layers = [Layer(str(i), "linear", (5, 5), 25, kept, None, q) for i, q in enumerate(moments)]
    assert words in Diagnosis(tuple(layers)).verdict


def test_masks_of_another_model_are_refused():
    with pytest.raises(pi.InputError, match="unknown weight in the masks '9.weight'"):
        pi.diagnose(nn.Linear(2, 2), masks=pi.Masks({"9.weight": torch.ones(2, 2).bool()}))
