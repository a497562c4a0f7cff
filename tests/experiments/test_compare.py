from __future__ import annotations

import dataclasses

import pytest

from pruneinit.data import load
from pruneinit.errors import InputError
from pruneinit.experiments import Recipe, run, ways
from pruneinit.experiments.compare import without_chosen
from runs import RECIPE, SHORT, events

COMPARED = dataclasses.replace(RECIPE, rescale="none")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"init": "orthogonal"}, "does not take init='orthogonal', it takes PyTorch's ordinary initialisation"),
        ({"init": "default"}, "does not take init='default'"),
        ({"init": "gaussian", "sigma_w": 1.0}, "does not take sigma_w=1.0"),
        ({"residuals": "stable"}, "does not take residuals='stable', it shows the Stable ResNet as the third way"),
        ({"rescale": "tap"}, "does not take rescale='tap', it shows rescaling by layer"),
        ({"rescale": "layer", "fold": True}, "does not take fold=True"),
        ({"criterion": "none"}, "got criterion='none'"),
    ],
)
def test_a_comparison_refuses_what_it_would_ignore(change, message):
    with pytest.raises(InputError, match=message):
        ways(dataclasses.replace(COMPARED, **change), load("digits"))


def test_ways_of_a_plain_and_of_a_residual_network():
    data = load("digits")
    plain = ways(COMPARED, data)
    assert [(r.init, r.rescale, r.residuals) for _, r in plain] == [
        ("default", "none", "plain"),
        ("edge", "none", "plain"),
        ("edge", "layer", "plain"),
        ("sparse_orthogonal", "none", "plain"),
    ]
    residual = ways(dataclasses.replace(COMPARED, model="resnet20", depth=None, width=4, activation=None), data)
    assert [(r.rescale, r.residuals) for _, r in residual][-1] == ("none", "stable")
    assert len({r.hash for _, r in plain}) == 4


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"activation": "relu", "width": 33}, "fc1.weight has 33 outputs, which have no halves to mirror"),
        ({"sanity": "shuffle"}, "its masks are drawn at random, so that sanity='shuffle' would check nothing"),
    ],
    ids=["odd-width", "check-of-masks"],
)
def test_where_nothing_can_be_drawn_sparse_and_orthogonal_there_are_three_ways_and_a_reason(change, reason):
    told = []
    found = dict(ways(dataclasses.replace(COMPARED, **change), load("digits"), told.append))
    assert len(found) == 3
    assert "sparse orthogonal" not in found
    assert len(told) == 1
    assert told[0].startswith("left out is 'sparse orthogonal': ")
    assert reason in told[0]


@pytest.mark.parametrize(
    "change", [{"depth": 1, "activation": None}, {"activation": "gelu", "width": 33, "sigma_b": 0.5}]
)
def test_what_a_recipe_can_draw_is_not_left_out(change):
    told = []
    assert "sparse orthogonal" in dict(ways(dataclasses.replace(COMPARED, **change), load("digits"), told.append))
    assert told == []


def test_nothing_is_told_where_nothing_is_left_out():
    told = []
    assert len(ways(dataclasses.replace(COMPARED, activation="relu"), load("digits"), told.append)) == 4
    assert told == []


def test_rescaling_is_what_makes_the_deep_network_train(tmp_path):
    """The claim of the project, on a smaller copy of the main job."""
    recipe = Recipe(
        model="mlp", depth=20, width=64, activation="tanh", sparsity=0.9, score_images=256,
        training=dataclasses.replace(SHORT, epochs=10, lr=0.02, schedule="onecycle", clip_norm=1.0),
    )  # fmt: skip
    accuracy = {
        label: events(run(way, tmp_path, device="cpu"))[-1]["test_accuracy"]
        for label, way in ways(recipe, load("digits"))
    }
    assert accuracy["ordinary initialisation"] < 0.2
    assert accuracy["sparse orthogonal"] > 0.8
    assert accuracy["Edge of Chaos + rescaling"] > 0.6  # 0.70 to 0.91 over twelve seeds
    assert accuracy["Edge of Chaos"] < accuracy["Edge of Chaos + rescaling"] - 0.2


def test_a_mirrored_recipe_is_compared_without_its_initialisation():
    recipe = Recipe(init="sparse_orthogonal", mirrored=False, criterion="magnitude", depth=5, activation="relu")
    plain, left_out = without_chosen(recipe, {"init": "sparse_orthogonal"})
    assert (plain.init, plain.mirrored) == (Recipe().init, None)
    assert left_out == ["init='sparse_orthogonal'", "mirrored=False"]
