from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

from pruneinit.data import load
from pruneinit.experiments import Recipe
from pruneinit.experiments.prepare import network
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
