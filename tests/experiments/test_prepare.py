from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping

import pytest
import torch

from pruneinit.data import load
from pruneinit.errors import InputError
from pruneinit.experiments import Recipe
from pruneinit.experiments.measured import measured
from pruneinit.experiments.offered import OFFERED
from pruneinit.experiments.prepare import network, prepare_, pruned, ready, scoring_batch
from pruneinit.models import registry


@pytest.mark.parametrize("init", ["edge", "orthogonal", "delta_orthogonal"])
def test_a_network_of_one_layer_has_the_activation_of_its_family(init):
    data = load("digits")
    recipe = Recipe(depth=1, init=init)
    assert torch.equal(
        network(recipe, data).fc1.weight, network(dataclasses.replace(recipe, activation="relu"), data).fc1.weight
    )


def test_every_family_has_the_same_activation_by_default():
    usual = {inspect.signature(family).parameters["activation"].default for family in registry._FAMILIES.values()}
    assert usual == {"relu"}


def masks_of(**settings):
    data = load("digits")
    recipe = Recipe(depth=4, width=30, activation="tanh", score_images=32, **settings)
    model = network(recipe, data)
    return pruned(model, recipe, scoring_batch(recipe, data)), model


def test_a_recipe_goes_on_where_layers_are_lost():
    masks, model = masks_of(criterion="magnitude", sparsity=0.999, init="default")
    assert masks.empty
    events = []
    recipe = Recipe(depth=4, width=30, activation="tanh", criterion="magnitude", sparsity=0.999, init="default")
    with pytest.warns(UserWarning, match="no factor brings a signal back"):
        prepare_(model, dataclasses.replace(recipe, rescale="layer"), load("digits"), events.append)
    assert [event["event"] for event in events].count("prune") == 1


@pytest.mark.parametrize("name", OFFERED)
def test_a_recipe_prunes_by_every_criterion_that_is_offered(name):
    masks, _ = masks_of(criterion=name, sparsity=0.8)
    assert masks.kept == round(0.2 * masks.total)
    assert masks == masks_of(criterion=name, sparsity=0.8)[0]


@pytest.mark.parametrize("name", OFFERED)
def test_a_recipe_rescales_between_the_rounds_of_every_criterion(name):
    settings = {"criterion": name, "sparsity": 0.8, "rounds": 3}
    masks, _ = masks_of(rescale_between="neuron", **settings)
    assert masks.kept == round(0.2 * masks.total)
    assert masks == masks_of(rescale_between="neuron", **settings)[0]
    if name in ("snip", "magnitude", "grasp", "synflow"):
        assert masks != masks_of(**settings)[0]


@pytest.mark.filterwarnings("ignore:neurons")
def test_a_recipe_rescales_by_neuron_and_says_so():
    events = []
    recipe = Recipe(depth=4, width=30, activation="tanh", sparsity=0.5, rescale="neuron", criterion="magnitude")
    data = load("digits")
    model = prepare_(network(recipe, data), recipe, data, events.append)
    dense, _, rescaled = (event["layers"] for event in events if event["event"] == "moments")
    assert [layer["value"] for layer in rescaled] == pytest.approx([layer["value"] for layer in dense], rel=1e-4)
    (event,) = (event for event in events if event["event"] == "rescale")
    assert event["method"] == "neuron"
    factors = model.fc2.parametrizations.weight[1].factor
    assert factors.shape == (30, 1)
    assert event["layers"][1] == {"name": "fc2.weight", "factor": pytest.approx(float(factors.mean()))}


def test_a_recipe_of_too_few_images_for_several_batches_is_refused():
    data = load("digits")
    recipe = Recipe(depth=3, width=16, criterion="prospr", score_images=3)
    with pytest.raises(InputError, match="ProsPr needs 4 batches, got 3 images.*set score_images to 4 or more"):
        pruned(network(recipe, data), recipe, scoring_batch(recipe, data))


def test_a_recipe_prunes_in_its_own_rounds_or_the_criterions():
    few, many = masks_of(criterion="force", rounds=1)[0], masks_of(criterion="force")[0]
    assert few == masks_of(criterion="snip")[0]
    assert few != many == masks_of(criterion="force", rounds=60)[0]
    assert few != masks_of(criterion="iterative_snip")[0]


@pytest.mark.parametrize("sanity", ["shuffle", "reinitialize", "invert"])
def test_the_checks_of_a_recipe_follow_its_seed(sanity):
    (plain, usual), (masks, model), (again, other) = masks_of(), masks_of(sanity=sanity), masks_of(sanity=sanity)
    assert masks == again
    assert (masks == plain) == (sanity == "reinitialize")
    assert torch.equal(model.fc2.weight, other.fc2.weight)
    assert torch.equal(model.fc2.weight, usual.fc2.weight) == (sanity != "reinitialize")


@pytest.mark.parametrize("scope", ["layer", "global", "erk"])
def test_magnitude_removes_the_zeros_of_a_sparse_orthogonal_start_alone(scope):
    recipe = Recipe(
        model="mlp-20-12", depth=6, activation="relu", init="sparse_orthogonal", criterion="magnitude",
        sparsity=0.8, scope=scope,
    )  # fmt: skip
    data = load("digits")
    model = network(recipe, data)
    masks = pruned(model, recipe, scoring_batch(recipe, data))
    for name, mask in masks.items():
        assert not bool((model.get_parameter(name)[~mask] != 0).any())
    assert masks.kept == round(0.2 * masks.total)


@pytest.mark.parametrize("mirrored", [True, False, None])
@pytest.mark.parametrize("init, sparsity", [("orthogonal", 0.0), ("sparse_orthogonal", 0.8)])
def test_a_mirrored_relu_network_begins_as_a_linear_one(init, sparsity, mirrored):
    recipe = Recipe(depth=4, width=20, init=init, mirrored=mirrored, criterion="magnitude", sparsity=sparsity)
    data = load("digits")
    model = network(recipe, data)
    x = data.test.images[:8].double() / 255 - 0.5
    bent = model.double()(x) + model(-x)
    assert (bent.abs().max() < 1e-6) == (mirrored if mirrored is not None else init == "sparse_orthogonal")
    weight = model.fc2.weight.detach()
    assert 0.9 * (1 - sparsity) < int(weight.count_nonzero()) / weight.numel() <= 1 - sparsity + 1e-9


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_another_criterion_says_how_many_weights_each_layer_of_a_sparse_orthogonal_start_keeps(activation):
    recipe = Recipe(
        depth=6, width=40, activation=activation, init="sparse_orthogonal", criterion="snip", sparsity=0.9, rounds=3,
        rescale_between="neuron", score_images=64,
    )  # fmt: skip
    digits = load("digits")
    dense = dataclasses.replace(recipe, init="orthogonal", mirrored=activation == "relu" or None, sigma_b=0.0)
    batch = scoring_batch(recipe, digits)
    shares = pruned(network(dense, digits), dense, batch).counts
    model, events = ready(recipe, digits, torch.device("cpu"))
    told = next(event for event in events if event["event"] == "prune")
    assert {one["name"]: one["kept"] for one in told["layers"]} == {name: kept for name, (kept, _) in shares.items()}
    assert len({kept for kept, _ in list(shares.values())[1:-1]}) > 1  # the criterion does have a say
    assert told["criterion"] == "snip"
    if activation == "relu":  # a linear isometry, on which signals neither grow nor fade; of tanh they fade slowly
        first, *hidden, _ = [one["value"] for one in events[-1]["layers"]]
        assert hidden == pytest.approx([first] * len(hidden), rel=1e-3)
    weight = model.fc3.weight.detach()  # of the survivors, zeros elsewhere
    rows = weight[weight.abs().sum(1) > 0]
    rows = rows[: len(rows) // 2] if activation == "relu" else rows
    products = rows @ rows.T
    assert torch.allclose(products, products.diagonal().diag(), atol=1e-5)


def test_what_rescaling_brings_back_is_the_signal_of_the_weights_that_are_drawn_anew():
    recipe = Recipe(
        depth=8, width=100, activation="tanh", init="sparse_orthogonal", criterion="snip", sparsity=0.98, rounds=3,
        rescale="layer", score_images=64,
    )  # fmt: skip
    _, events = ready(recipe, load("digits"), torch.device("cpu"))
    factors = next(event for event in events if event["event"] == "rescale")
    assert [one["factor"] for one in factors["layers"]] == pytest.approx([1.0] * 8, abs=1e-5)


def test_a_criterion_that_leaves_nothing_of_a_layer_has_no_sparse_orthogonal_start():
    recipe = Recipe(
        depth=4, width=20, init="sparse_orthogonal", criterion="synflow", rounds=1, sparsity=0.99, activation="relu"
    )
    with pytest.raises(InputError, match="synflow at sparsity=0.99: the densities leave .*, by a lower sparsity, more"):
        ready(recipe, load("digits"), torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:neurons with nothing left")
def test_rounds_by_layer_without_biases_starve_neurons_until_all_inputs_are_alike():
    base = Recipe(depth=30, activation="tanh", sparsity=0.95, score_images=256, rounds=20)
    digits = load("digits")

    def signals(way: str, sigma_b: float) -> Mapping[str, float]:
        recipe = dataclasses.replace(base, rescale=way, rescale_between=way, sigma_b=sigma_b)
        model, events = ready(recipe, digits, torch.device("cpu"))
        return measured(model, recipe, digits, events)

    starved, biased, evened = signals("layer", 0.0), signals("layer", 0.2), signals("neuron", 0.0)
    assert starved["alive"] < 60 < min(biased["alive"], evened["alive"])
    assert starved["decorrelation"] < 0.05 < 0.1 < min(biased["decorrelation"], evened["decorrelation"])
    assert starved["learnable"] < 0.5 < min(biased["learnable"], evened["learnable"])
