"""The real files: counts, classes, moments and a few facts that a reader could get wrong and still look right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pruneinit.data import Dataset, batches, load
from pruneinit.data.statistics import mean_and_std

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

# Published means and standard deviations, to four digits (as used by the training scripts of the field).
SETS = {
    "mnist": ((1, 28, 28), 10, MNIST_TRAIN, MNIST_TEST, (0.1307,), (0.3081,)),
    "fashion-mnist": ((1, 28, 28), 10, [6000] * 10, [1000] * 10, (0.2860,), (0.3530,)),
    "cifar10": (
        (3, 32, 32),
        10,
        [5000] * 10,
        [1000] * 10,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": (
        (3, 32, 32),
        100,
        [500] * 100,
        [100] * 100,
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}


@pytest.fixture(scope="module", params=list(SETS))
def loaded(request: pytest.FixtureRequest, data_root: Path) -> Dataset:
    return load(request.param, data_root)


@pytest.fixture(scope="module")
def tiny(data_root: Path) -> Dataset:
    return load("folder:tiny-imagenet-200-subset", data_root)


def test_shapes_counts_and_moments(loaded: Dataset) -> None:
    shape, classes, train, test, mean, std = SETS[loaded.name]
    assert loaded.shape == shape
    assert len(loaded.classes) == len(set(loaded.classes)) == classes
    assert torch.bincount(loaded.train.labels).tolist() == train
    assert torch.bincount(loaded.test.labels).tolist() == test
    assert len(loaded.train) == len(loaded.train.images) == sum(train)
    assert loaded.mean == pytest.approx(mean, abs=6e-5)
    assert loaded.std == pytest.approx(std, abs=6e-5)
    assert int(loaded.train.images.max()) == 255
    assert loaded.padding == (4 if loaded.name.startswith("cifar") else 0)
    assert loaded.flip == loaded.name.startswith("cifar")
    assert loaded.validation is None


def test_moments_equal_a_plain_twin(loaded: Dataset) -> None:
    few = loaded.train.images[:500]
    pixels = few.numpy().astype(np.float64) / 255
    mean, std = mean_and_std(few)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_first_labels_are_the_published_ones(data_root: Path) -> None:
    # the first images of MNIST are "5 0 4 1 9" in every introduction to it; CIFAR-10 begins with a frog and two trucks
    assert load("mnist", data_root).train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    cifar = load("cifar10", data_root)
    assert [cifar.classes[k] for k in cifar.train.labels[:3].tolist()] == ["frog", "truck", "truck"]
    assert [cifar.classes[k] for k in cifar.test.labels[:4].tolist()] == ["cat", "ship", "ship", "airplane"]


def test_images_are_upright_and_in_colour(data_root: Path) -> None:
    # ships and airplanes stand before blue, and the sky is up: channels and rows are in the right order
    cifar = load("cifar10", data_root)
    sky = cifar.train.take(cifar.train.labels == cifar.classes.index("airplane")).images.double()
    red, _, blue = sky.mean((0, 2, 3)).tolist()
    assert blue > red + 5
    upper, lower = sky[:, :, :8].mean().item(), sky[:, :, -8:].mean().item()
    assert upper > lower + 5
    # an MNIST seven has its bar on top; transposed, it would have it at the left
    mnist = load("mnist", data_root)
    seven = mnist.train.take(mnist.train.labels == 7).images.double().mean((0, 1))
    assert seven[6:12].sum() > 1.2 * seven[:, 6:12].sum()


def test_tiny_imagenet_subset(tiny: Dataset) -> None:
    assert tiny.shape == (3, 64, 64)
    assert len(tiny.classes) == 20
    assert tiny.classes[0] == "n01641577"
    assert list(tiny.classes) == sorted(tiny.classes)
    assert torch.bincount(tiny.train.labels).tolist() == [250] * 20
    assert torch.bincount(tiny.test.labels).tolist() == [50] * 20
    assert tiny.padding == 4
    assert all(0.3 < m < 0.6 and 0.2 < s < 0.35 for m, s in zip(tiny.mean, tiny.std, strict=True))
    grey = (tiny.train.images[:, 0] == tiny.train.images[:, 1]).flatten(1).all(1)
    assert 0 < int(grey.sum()) < 200, "grey images have three equal channels"


def test_tiny_imagenet_streams_the_same_batches(tiny: Dataset, data_root: Path) -> None:
    streamed = load("folder:tiny-imagenet-200-subset", data_root, limit=0)
    assert streamed.train.images.device.type == "meta"
    assert streamed.mean == pytest.approx(tiny.mean, abs=1e-12)

    def first(data: Dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
        epoch = batches(data.train, data, 100, generator=torch.Generator().manual_seed(1), augment=True)
        return [pair for _, pair in zip(range(4), epoch, strict=False)]

    for (x, y), (other_x, other_y) in zip(first(tiny), first(streamed), strict=True):
        torch.testing.assert_close(x, other_x)
        assert torch.equal(y, other_y)


def test_test_labels_follow_the_annotations(tiny: Dataset, data_root: Path) -> None:
    from pruneinit.data.images import decode

    val = data_root / "tiny-imagenet-200-subset" / "val"
    file, label = (val / "val_annotations.txt").read_text().splitlines()[17].split("\t")[:2]
    assert tiny.classes[int(tiny.test.labels[17])] == label
    assert torch.equal(tiny.test.images[17], decode(val / "images" / file))
