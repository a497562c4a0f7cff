"""Every architecture of the list goes all the way: score, prune, stabilise, rescale, sparsify, train, save, load."""

import pytest

import pruneinit as pi
from zoo import ARCHITECTURES
from zoo.chain import carry


@pytest.mark.filterwarnings("ignore:no signal reaches:UserWarning")  # two examples may find no path once 95 % are gone
@pytest.mark.filterwarnings("ignore:the loss does not depend on 3 of 10 weights:UserWarning")  # paths not taken
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.source}-{a.name}".replace(" ", "-"))
def test_any_model_goes_all_the_way(architecture, tmp_path):
    carry(architecture, tmp_path)


def test_the_list_has_what_it_promises():
    names = [(a.source, a.name) for a in ARCHITECTURES]
    assert len(set(names)) == len(names)
    assert sum(source == "torchvision" for source, _ in names) >= 10
    assert sum(source == "timm" for source, _ in names) >= 5
    assert sum(source == "transformers" for source, _ in names) >= 4


def test_the_matrices_of_gpt2_are_known_with_their_inputs_first():
    (gpt2,) = (a for a in ARCHITECTURES if a.name == "GPT-2")
    found = pi.prunable(gpt2.model())
    first = found["transformer.h.0.mlp.c_fc.weight"]
    assert (first.shape, first.fan_in, first.out_dim) == ((48, 192), 48, 1)
    assert len(found) == 3 * 4 + 1
