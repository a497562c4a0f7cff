"""Labelled images and what a network must know of them: shape, classes, mean and standard deviation.

A set lives as one `uint8` tensor a split, on any device. That is four times smaller than floats (CIFAR-10 is
184 MB), so every set of the papers but ImageNet fits beside the network, and a batch is an index into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruneinit.errors import InputError
from pruneinit.seeds import derived


@dataclass(frozen=True)
class Split:
    """The images and labels of one part of a data set.

    Attributes:
        images: `uint8` `[N, C, H, W]`, 0 is black, on any device.
        labels: `int64` `[N]`, on the same device.

    Raises:
        InputError: A wrong dtype, number of dimensions, length or device.

    Example:
        >>> split = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
        >>> len(split), split.shape, split.take(torch.tensor([1, 3])).labels
        (4, (1, 8, 8), tensor([1, 1]))
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(f"images must be uint8 [N, C, H, W], got {_describe(images)}; scale pixels to 0..255")
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise InputError(f"labels must be int64 [N], got {_describe(labels)}; convert them with .long()")
        if len(images) != len(labels):
            raise InputError(f"every image needs one label, got {len(images)} images and {len(labels)} labels")
        self._check_devices()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where batches of this split are made."""
        return self.labels.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> Split:
        """The same split on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, indices: Tensor) -> Split:
        """The split of the images at `indices` (`int64` `[M]`, or `bool` `[N]`), in that order."""
        at = indices.to(self.device)
        return replace(self, images=self.images[at], labels=self.labels[at])

    def fetch(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels at each index tensor of `order`, on the device of the split."""
        for indices in order:
            at = indices.to(self.device)
            yield self.images[at], self.labels[at]

    def _check_devices(self) -> None:
        if self.images.device != self.labels.device:
            raise InputError(
                f"images are on {self.images.device}, labels on {self.labels.device}: use Split.to(device)"
            )


@dataclass(frozen=True)
class Dataset:
    """A data set in splits, with the constants that its normalisation and augmentation need.

    Attributes:
        name: The name it was loaded by.
        train: What networks are trained on, and what scores are computed on.
        test: What accuracies are reported on.
        classes: Class names; label `k` is `classes[k]`.
        mean: Per channel, of the train pixels scaled to [0, 1].
        std: Per channel, likewise, above 0.
        validation: Part of the training data held out by `hold_out`, or None.
        padding: Padding in pixels of the random crop that suits the set (4 for CIFAR; 0 = no crop).
        flip: Whether horizontal flips leave the labels true.

    Raises:
        InputError: A label has no class, the splits differ in shape, or `mean`/`std` do not fit the channels.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None
    padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for part, split in self._splits().items():
            self._check_split(part, split)
        channels = self.shape[0]
        if len(self.mean) != channels or len(self.std) != channels:
            raise InputError(f"{self.name}: mean and std need one value for each of {channels} channels")
        if not all(s > 0 for s in self.std):
            raise InputError(
                f"{self.name}: std must be above 0 in every channel, got {self.std}; is a channel constant?"
            )
        if self.padding < 0:
            raise InputError(f"{self.name}: padding must be 0 or more pixels, got {self.padding}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.train.shape

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with every split on `device`."""
        validation = None if self.validation is None else self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)

    def hold_out(self, fraction: float, seed: int) -> Dataset:
        """Move a stratified share of the training split into `validation`.

        Each class gives `round(fraction * count)` of its images, chosen by `seed`; mean and std stay as they are.

        Args:
            fraction: In (0, 1).
            seed: Names the choice; the same seed gives the same images on every device.

        Raises:
            InputError: A fraction outside (0, 1) or one that leaves a split empty, or a validation split exists.
        """
        if self.validation is not None:
            raise InputError(f"{self.name} has a validation split of {len(self.validation)} images already")
        if not 0 < fraction < 1:
            raise InputError(f"the fraction to hold out must be in (0, 1), got {fraction!r}")
        kept, held = stratified(self.train.labels, fraction, seed)
        if not len(held) or not len(kept):
            raise InputError(f"holding out {fraction:g} of {len(self.train)} images leaves a split empty; change it")
        return replace(self, train=self.train.take(kept), validation=self.train.take(held))

    def draw(self, images: int, seed: int) -> Dataset:
        """Keep so many of the training images, drawn at random; mean and std stay as they are.

        Args:
            images: How many, from 1 to all of them. More images by one seed hold those of fewer.
            seed: Names the choice; the same seed gives the same images on every device.

        Raises:
            InputError: There are not so many.
        """
        if not 1 <= images <= len(self.train):
            raise InputError(f"{self.name} has {len(self.train)} training images to draw from, got {images}")
        generator = torch.Generator().manual_seed(derived("drawn", seed))
        return replace(self, train=self.train.take(torch.randperm(len(self.train), generator=generator)[:images]))

    def _splits(self) -> dict[str, Split]:
        every = {"train": self.train, "test": self.test, "validation": self.validation}
        return {part: split for part, split in every.items() if split is not None}

    def _check_split(self, part: str, split: Split) -> None:
        if split.shape != self.shape:
            raise InputError(f"{self.name}: {part} images are {split.shape}, train images are {self.shape}")
        if not len(split):
            raise InputError(f"{self.name}: the {part} split is empty")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(self.classes):
            raise InputError(
                f"{self.name}: {part} labels must be in 0..{len(self.classes) - 1} ({len(self.classes)} classes), "
                f"got {low}..{high}"
            )


def stratified(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions in two, each class in the same proportion.

    Args:
        labels: `int64` `[N]`.
        fraction: The share of each class, rounded to whole images, that goes to the second part.
        seed: Seed of the choice within the classes.

    Returns:
        Two sorted `int64` tensors of positions on the CPU: the rest, and the chosen.

    Example:
        >>> rest, chosen = stratified(torch.tensor([0, 0, 1, 1]), 0.5, seed=0)
        >>> len(rest), len(chosen)
        (2, 2)
    """
    generator = torch.Generator().manual_seed(derived("held out", seed))
    at = labels.cpu()
    chosen = torch.zeros(len(at), dtype=torch.bool)
    for label in torch.unique(at):
        members = (at == label).nonzero().flatten()
        count = round(fraction * len(members))
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
