from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from pruneinit.data.batches import batches, crop_and_flip, normalize
from pruneinit.data.dataset import Dataset, Split
from pruneinit.errors import InputError


def noise(count: int, shape: tuple[int, int, int] = (3, 8, 6), **changes: object) -> Dataset:
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(count))
    channels = shape[0]
    constants = {"mean": tuple(0.1 * c + 0.3 for c in range(channels)), "std": tuple([0.2, 0.25, 0.3][:channels])}
    given = {"train": split, "test": split, "classes": tuple(map(str, range(count))), "padding": 2, "flip": True}
    return Dataset("noise", **(given | constants | changes))  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_twin(image: Tensor, data: Dataset, top: int, left: int, flip: bool) -> np.ndarray:
    """One image, step by step, in float64."""
    padded = np.pad(image.numpy(), ((0, 0), (data.padding,) * 2, (data.padding,) * 2)).astype(np.float64)
    window = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
    window = window[:, :, ::-1] if flip else window
    mean, std = (np.array(values)[:, None, None] for values in (data.mean, data.std))
    return (window / 255 - mean) / std


def test_in_order_without_a_generator() -> None:
    data = noise(7)
    found = list(batches(data.train, data, 3))
    assert [y.tolist() for _, y in found] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(x.dtype == torch.float32 and x.shape[1:] == data.shape for x, _ in found)
    whole = torch.cat([x for x, _ in found])
    expected = np.stack([plain_twin(image, data, 2, 2, False) for image in data.train.images])
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(normalize(data.train.images, data), whole)


def test_the_data_set_is_left_as_it_was() -> None:
    data = noise(5)
    before = data.train.images.clone()
    for x, y in batches(data.train, data, 2, generator=seeded(), augment=True):
        x.zero_()
        y.zero_()
    assert torch.equal(data.train.images, before)
    assert data.train.labels.tolist() == list(range(5))


def test_normalised_training_data_has_mean_0_and_deviation_1() -> None:
    from pruneinit.data.statistics import mean_and_std

    data = noise(50)
    mean, std = mean_and_std(data.train.images)
    x = torch.cat([x for x, _ in batches(data.train, noise(50, mean=mean, std=std), 16)]).double()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)


def test_shuffled_order_is_a_permutation_named_by_the_seed() -> None:
    data = noise(40)
    orders = [torch.cat([y for _, y in batches(data.train, data, 7, generator=seeded(s))]).tolist() for s in (0, 0, 1)]
    assert sorted(orders[0]) == list(range(40))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(40))


def test_two_epochs_from_one_generator_differ() -> None:
    data, generator = noise(40), seeded()
    first, second = (torch.cat([y for _, y in batches(data.train, data, 8, generator=generator)]) for _ in range(2))
    assert not torch.equal(first, second)


def test_an_epoch_draws_the_same_however_far_it_is_read() -> None:
    data, partly, wholly = noise(20), seeded(), seeded()
    next(batches(data.train, data, 4, generator=partly, augment=True))
    list(batches(data.train, data, 4, generator=wholly, augment=True))
    assert torch.equal(partly.get_state(), wholly.get_state())


def test_every_augmented_image_is_a_window_of_its_own_image() -> None:
    data = noise(60)
    windows = 2 * data.padding + 1
    seen: set[tuple[int, int, bool]] = set()
    for x, y in batches(data.train, data, 16, generator=seeded(), augment=True):
        for image, label in zip(x.numpy(), y.tolist(), strict=True):
            moves = [
                (top, left, flip)
                for top in range(windows)
                for left in range(windows)
                for flip in (False, True)
                if np.allclose(image, plain_twin(data.train.images[label], data, top, left, flip), atol=1e-4)
            ]
            assert len(moves) == 1, f"image {label} is {len(moves)} windows of itself"
            seen.update(moves)
    assert {top for top, _, _ in seen} == set(range(windows)) == {left for _, left, _ in seen}
    assert {flip for _, _, flip in seen} == {False, True}


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_a_moved_data_set_gives_the_same_batches(device: str) -> None:
    data = noise(23)
    moved = data.to(device)
    pairs = zip(
        batches(data.train, data, 10, generator=seeded(), augment=True),
        batches(moved.train, moved, 10, generator=seeded(), augment=True),
        strict=True,
    )
    for (x, y), (moved_x, moved_y) in pairs:
        assert moved_x.device.type == moved_y.device.type == device
        torch.testing.assert_close(moved_x.cpu(), x)
        assert torch.equal(moved_y.cpu(), y)


@hypothesis.given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    padding=st.integers(0, 4),
    seed=st.integers(0, 999),
)
@hypothesis.settings(max_examples=40)
def test_crop_and_flip_equals_the_plain_twin(sizes: tuple[int, int, int, int], padding: int, seed: int) -> None:
    generator = seeded(seed)
    images = torch.randint(256, sizes, dtype=torch.uint8, generator=generator)
    top, left = torch.randint(2 * padding + 1, (2, sizes[0]), generator=generator)
    flip = torch.randint(2, (sizes[0],), generator=generator).bool()
    found = crop_and_flip(images, top, left, flip, padding)
    for i, image in enumerate(images):
        padded = np.pad(image.numpy(), ((0, 0), (padding,) * 2, (padding,) * 2))
        window = padded[:, top[i] : top[i] + sizes[2], left[i] : left[i] + sizes[3]]
        np.testing.assert_array_equal(found[i].numpy(), window[:, :, ::-1] if flip[i] else window)


@pytest.mark.parametrize("changes", [{"padding": 0}, {"flip": False}, {"padding": 0, "flip": False}], ids=str)
def test_augmentation_does_only_what_suits_the_set(changes: dict[str, object]) -> None:
    data = noise(64, **changes)
    plain = {int(y): x for xs, ys in batches(data.train, data, 64) for x, y in zip(xs, ys, strict=True)}
    xs, ys = next(batches(data.train, data, 64, generator=seeded(), augment=True))
    same = sum(torch.equal(x, plain[int(y)]) for x, y in zip(xs, ys, strict=True))
    mirrored = sum(torch.equal(x, plain[int(y)].flip(2)) for x, y in zip(xs, ys, strict=True))
    if changes == {"padding": 0}:
        assert same + mirrored == 64
        assert min(same, mirrored) > 10
    elif changes == {"flip": False}:
        assert mirrored == 0
        assert same < 20
    else:
        assert same == 64


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])
def test_ranks_share_the_global_batches(world: int, augment: bool) -> None:
    data = noise(23)
    whole = list(batches(data.train, data, 10, generator=seeded(), augment=augment))
    shares = [
        list(batches(data.train, data, 10, generator=seeded(), augment=augment, rank=rank, world=world))
        for rank in range(world)
    ]
    for step, (x, y) in enumerate(whole):
        for rank in range(world):
            assert torch.equal(shares[rank][step][0], x[rank::world])
            assert torch.equal(shares[rank][step][1], y[rank::world])
    assert all(len(share) == len(whole) == 3 for share in shares)


def test_a_last_batch_smaller_than_the_world_leaves_some_ranks_an_empty_share() -> None:
    data = noise(11)
    sizes = [[len(y) for _, y in batches(data.train, data, 10, rank=rank, world=3)] for rank in range(3)]
    assert sizes == [[4, 1], [3, 0], [3, 0]]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "batch size must be 1 or more"),
        ({"augment": True}, "augmentation is random"),
        ({"rank": 2, "world": 2}, "rank must be in 0..1"),
        ({"rank": -1}, "rank must be in 0..0"),
    ],
    ids=["batch size", "no generator", "rank too high", "negative rank"],
)
def test_refused_at_the_call_not_at_the_first_batch(arguments: dict[str, int], message: str) -> None:
    data = noise(4)
    with pytest.raises(InputError, match=message):
        batches(data.train, data, **({"batch_size": 2} | arguments))  # type: ignore[arg-type]
