from __future__ import annotations

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from pruneinit.data.dataset import Dataset, Split, stratified
from pruneinit.errors import InputError


def split(labels: list[int], shape: tuple[int, int, int] = (1, 4, 4)) -> Split:
    # the image at position i is filled with i, so that a moved image is recognised
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, *shape).clone()
    return Split(images, torch.tensor(labels, dtype=torch.int64))


def dataset(labels: list[int], **changes: object) -> Dataset:
    given = {"train": split(labels), "test": split([0, 1]), "classes": ("a", "b"), "mean": (0.5,), "std": (0.25,)}
    return Dataset("toy", **(given | changes))  # type: ignore[arg-type]


IMAGES, LABELS = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (IMAGES.float(), LABELS, r"uint8 \[N, C, H, W\], got float32 \[2, 1, 4, 4\]"),
        (IMAGES[0], LABELS, r"got uint8 \[1, 4, 4\]"),
        (IMAGES, LABELS.int(), r"int64 \[N\], got int32 \[2\]"),
        (IMAGES, LABELS[:, None], r"got int64 \[2, 1\]"),
        (IMAGES, LABELS[:1], "2 images and 1 labels"),
        (IMAGES.to("meta"), LABELS, "images are on meta, labels on cpu"),
    ],
    ids=["float images", "one image", "int32 labels", "one-hot labels", "length", "device"],
)
def test_a_split_refuses(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split(images, labels)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train": split([0, 2])}, r"train labels must be in 0..1 \(2 classes\), got 0..2"),
        ({"test": split([-1, 0])}, "test labels must be in 0..1 .*, got -1..0"),
        ({"validation": split([5])}, "validation labels"),
        ({"test": split([0], (1, 4, 5))}, r"test images are \(1, 4, 5\), train images are \(1, 4, 4\)"),
        ({"test": split([])}, "test split is empty"),
        ({"mean": (0.5, 0.5)}, "each of 1 channels"),
        ({"std": (0.0,)}, "std must be above 0"),
        ({"std": (float("nan"),)}, "std must be above 0"),
        ({"padding": -1}, "padding"),
    ],
    ids=["high label", "low label", "validation label", "shape", "empty", "mean", "zero std", "nan std", "padding"],
)
def test_a_dataset_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset([0, 1], **changes)


def test_take_keeps_the_order_asked_for() -> None:
    taken = split([0, 1, 0, 1]).take(torch.tensor([3, 0]))
    assert taken.images[:, 0, 0, 0].tolist() == [3, 0]
    assert taken.labels.tolist() == [1, 0]
    assert split([0, 1, 1]).take(torch.tensor([False, True, True])).images[:, 0, 0, 0].tolist() == [1, 2]


def test_hold_out_moves_a_share_of_each_class() -> None:
    whole = dataset([0] * 20 + [1] * 10)
    held = whole.hold_out(0.2, seed=3)
    assert held.validation is not None
    assert torch.bincount(held.validation.labels).tolist() == [4, 2]
    assert torch.bincount(held.train.labels).tolist() == [16, 8]
    images = torch.cat([held.train.images, held.validation.images])[:, 0, 0, 0]
    assert sorted(images.tolist()) == list(range(30)), "an image was lost or is in both splits"
    assert held.test is whole.test
    assert held.to("cpu").validation is not None


def test_hold_out_is_named_by_its_seed() -> None:
    whole = dataset([0, 1] * 20)
    first, again, other = (whole.hold_out(0.5, seed).train.images for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_hold_out_refuses_a_fraction(fraction: float) -> None:
    with pytest.raises(InputError, match=r"\(0, 1\)"):
        dataset([0, 1]).hold_out(fraction, seed=0)


def test_hold_out_refuses_to_leave_a_split_empty_or_to_hold_out_twice() -> None:
    with pytest.raises(InputError, match="leaves a split empty"):
        dataset([0, 1]).hold_out(0.1, seed=0)
    with pytest.raises(InputError, match="leaves a split empty"):
        dataset([0, 1]).hold_out(0.9, seed=0)
    with pytest.raises(InputError, match="already"):
        dataset([0, 1] * 4).hold_out(0.5, seed=0).hold_out(0.5, seed=0)


@hypothesis.given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 99)
)
@hypothesis.settings(max_examples=50)
def test_stratified_parts_are_whole_sorted_and_proportional(labels: list[int], fraction: float, seed: int) -> None:
    rest, chosen = stratified(torch.tensor(labels), fraction, seed)
    assert sorted(rest.tolist() + chosen.tolist()) == list(range(len(labels)))
    assert rest.tolist() == sorted(rest.tolist())
    assert chosen.tolist() == sorted(chosen.tolist())
    for label in set(labels):
        count = sum(labels[i] == label for i in chosen.tolist())
        assert count == round(fraction * labels.count(label))


def test_what_is_drawn_is_so_many_of_the_training_images_and_more_hold_fewer() -> None:
    whole = dataset([0, 1] * 5)
    few, more, other = (whole.draw(n, seed).train.images[:, 0, 0, 0].tolist() for n, seed in ((4, 0), (6, 0), (4, 1)))
    assert len(few) == 4
    assert more[:4] == few != other
    assert len(set(more)) == 6


@pytest.mark.parametrize("images", [0, 11])
def test_more_images_than_there_are_cannot_be_drawn(images: int) -> None:
    with pytest.raises(InputError, match=f"has 10 training images to draw from, got {images}"):
        dataset([0, 1] * 5).draw(images, seed=0)
