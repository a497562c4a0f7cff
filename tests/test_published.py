"""A collapse that others have published: magnitude pruning of ResNet18 at initialisation."""

from pathlib import Path

import pytest
import torch

import pruneinit as pi

PROJECT = Path(__file__).resolve().parents[1]
INITS = {
    "published": "13.weight",
    "pytorch": "10.convs.0.weight",
    "edge": "10.convs.1.weight",
}


@pytest.fixture
def resnets(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import resnets

    return resnets


@pytest.mark.parametrize("init", INITS)
def test_the_layer_that_dies_and_its_sparsity_are_known_without_trying(init, resnets):
    torch.manual_seed(0)
    model = resnets.resnet18(200)
    if init == "published":
        resnets.published_init_(model)
    elif init == "edge":
        pi.edge_of_chaos_(model, "relu", generator=torch.Generator().manual_seed(0))
    critical = pi.forecast(model, criterion=pi.Magnitude()).critical
    scores = pi.score(model, pi.Magnitude())
    assert critical.layer == INITS[init]
    assert pi.select(scores, critical.sparsity - 0.003).empty == ()
    assert critical.layer in pi.select(scores, critical.sparsity + 0.003).empty


# Lowest density at which each of three seeds trained, and the highest at which all were at chance: accuracies that the
# authors of SynFlow (Tanaka et al. 2020, arXiv 2006.05467) published beside their code.
TRAINED, LOST = 0.1, 0.056234


@pytest.mark.parametrize("classes", [10, 100, 200], ids=["cifar10", "cifar100", "tiny-imagenet"])
def test_the_forecast_lies_where_the_published_accuracies_drop_to_chance(classes, resnets):
    torch.manual_seed(0)
    model = resnets.published_init_(resnets.resnet18(classes))
    critical = pi.forecast(model, criterion=pi.Magnitude()).critical
    assert LOST < 1 - critical.sparsity < TRAINED
    assert critical.layer == "13.weight"  # the classifier
