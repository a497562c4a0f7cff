import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pruneinit as pi
from pruneinit import Masks
from pruneinit.files import write_tensors


@st.composite
def masks(draw):
    shapes = draw(st.lists(st.lists(st.integers(0, 7), min_size=0, max_size=3), min_size=0, max_size=4))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    return Masks({f"layer{i}": torch.rand(shape, generator=generator) < 0.4 for i, shape in enumerate(shapes)})


@given(masks())
def test_saved_and_loaded_masks_are_equal(tmp_path_factory, given):
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    given.save(path)
    assert Masks.load(path) == given


@given(masks())
def test_counts_add_up(given):
    assert given.kept == sum(int(m.sum()) for m in given.values())
    assert given.total == sum(m.numel() for m in given.values())
    assert given.density + given.sparsity == pytest.approx(1)
    assert given & given == given == given | given
    assert given.iou(given) == 1


def test_eight_values_take_a_byte(tmp_path):
    path = tmp_path / "masks.safetensors"
    Masks({"a": torch.ones(800_000, dtype=torch.bool)}).save(path)
    assert path.stat().st_size < 101_000


def test_intersection_union_and_iou():
    a = Masks({"w": torch.tensor([1, 1, 0, 0]).bool()})
    b = Masks({"w": torch.tensor([1, 0, 1, 0]).bool()})
    assert (a & b)["w"].tolist() == [True, False, False, False]
    assert (a | b)["w"].tolist() == [True, True, True, False]
    assert a.iou(b) == pytest.approx(1 / 3)


def test_empty_layers_are_named():
    assert Masks({"a": torch.zeros(3).bool(), "b": torch.ones(2).bool()}).empty == ("a",)


@pytest.mark.parametrize(
    "other, message",
    [
        (Masks({"v": torch.ones(2).bool()}), "only one of the two has v, w"),
        (Masks({"w": torch.ones(3).bool()}), r"masks of w differ in shape: \(2,\) and \(3,\)"),
    ],
    ids=["names", "shapes"],
)
def test_masks_of_different_models_do_not_mix(other, message):
    with pytest.raises(pi.InputError, match=message):
        _ = Masks({"w": torch.ones(2).bool()}) & other


def test_only_bool_tensors_are_masks():
    with pytest.raises(pi.InputError, match="mask of w must be a bool tensor, got torch.float32"):
        Masks({"w": torch.ones(2)})


def test_a_file_of_something_else_is_refused(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {"kind": "model"})
    with pytest.raises(pi.InputError, match="holds a model, expected masks"):
        Masks.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("metadata", [{}, {"shapes": {"b": [8]}}])
def test_a_file_of_masks_without_their_shapes_is_refused(metadata, tmp_path):
    write_tensors(tmp_path / "a", {"a": torch.ones(1, dtype=torch.uint8)}, {"kind": "masks"} | metadata)
    with pytest.raises(pi.InputError, match="does not say the shapes of its masks"):
        Masks.load(tmp_path / "a")


def model():
    return nn.Linear(4, 2)


DATA = [(torch.ones(8, 4), torch.zeros(8).long())]

TAKERS = {
    "sparsify_": lambda masks: pi.sparsify_(model(), masks),
    "rescale_": lambda masks: pi.rescale_(model(), masks=masks),
    "diagnose": lambda masks: pi.diagnose(model(), masks=masks),
    "effective_masks": lambda masks: pi.effective_masks(model(), DATA, masks),
    "second_moments": lambda masks: pi.second_moments(model(), DATA, masks=masks),
    "neuron_moments": lambda masks: pi.neuron_moments(model(), DATA, masks=masks),
    "find_isometry": lambda masks: pi.find_isometry(model(), masks),
    "singular_values": lambda masks: pi.singular_values(model(), masks),
    "select": lambda masks: pi.select({"weight": torch.rand(2, 4)}, 0.5, within=masks),
    "Snip": lambda masks: pi.Snip()(model(), DATA, masks),
    "Random": lambda masks: pi.Random()(model(), None, masks),
    "SmartRatio": lambda masks: pi.SmartRatio()(model(), None, masks),
    "Masks": Masks,
    "and": lambda masks: Masks({"weight": torch.ones(2, 4).bool()}) & masks,
    "iou": lambda masks: Masks({"weight": torch.ones(2, 4).bool()}).iou(masks),
}


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize(
    "masks, message",
    [
        ({"weight": [1]}, r"the mask of weight must be a bool tensor, got a list; use torch.tensor\(mask\).bool"),
        ({"weight": torch.ones(2, 4)}, "the mask of weight must be a bool tensor, got torch.float32; use tensor.bool"),
        (
            [torch.ones(2, 4).bool()],
            "must be Masks, as prune returns them, or a dict of bool tensors, got a list",
        ),
    ],
    ids=["a list for a mask", "a float mask", "a list of masks"],
)
def test_what_are_no_masks_is_refused(taker, masks, message):
    with pytest.raises(pi.InputError, match=message):
        taker(masks)


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS)
def test_a_dictionary_of_bool_tensors_does_for_masks(taker):
    taker({"weight": torch.tensor([[True, True, True, False], [True, False, True, True]])})


def test_masks_that_are_needed_are_missed():
    with pytest.raises(pi.InputError, match="masks must be Masks, as prune returns them, .* got None"):
        pi.sparsify_(model(), None)
