"""Normalised, augmented batches, made for a whole batch at once on the device of the split."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from pruneinit.data.dataset import Dataset, Split
from pruneinit.errors import InputError


def batches(
    split: Split,
    dataset: Dataset,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    augment: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch over `split` in batches; the last, smaller batch is kept.

    With a generator the order is shuffled and all random numbers of the epoch are drawn at the call: the generator
    is left in the same state however far the iterator is read, and neither the order nor the augmentation of an
    image depends on `world`.

    Args:
        split: A split of `dataset`; batches are made on its device.
        dataset: Gives mean, std, padding and flip.
        batch_size: Images of a global batch, over all ranks.
        generator: A CPU generator; None keeps the order of the split.
        augment: Random crop of the image padded with black, and horizontal flip, as far as they suit the data set.
        rank: This process among `world`; its share of each global batch is every `world`-th image from `rank` on.
            The share of a last batch smaller than `world` may be empty.
        world: The number of processes.

    Returns:
        An iterator over `x`, float32 `[B, C, H, W]`, normalised, and `y`, int64 `[B]`.

    Raises:
        InputError: A batch size below 1, a rank outside the world, augmentation without a generator, or a generator
            that is not on the CPU.

    Example:
        >>> split = Split(torch.full((3, 1, 2, 2), 255, dtype=torch.uint8), torch.tensor([0, 1, 2]))
        >>> data = Dataset("white", split, split, ("a", "b", "c"), mean=(0.5,), std=(0.25,))
        >>> [(tuple(x.shape), x.max().item(), y.tolist()) for x, y in batches(split, data, 2)]
        [((2, 1, 2, 2), 2.0, [0, 1]), ((1, 1, 2, 2), 2.0, [2])]
    """
    if batch_size < 1:
        raise InputError(f"the batch size must be 1 or more, got {batch_size}")
    if not 0 <= rank < world:
        raise InputError(f"rank must be in 0..{world - 1} for a world of {world}, got {rank}")
    if augment and generator is None:
        raise InputError("augmentation is random: give a torch.Generator, or augment=False")
    if generator is not None and generator.device.type != "cpu":
        raise InputError(f"the generator must be on the CPU, whatever the data's device; got {generator.device}")

    total = len(split)
    order = torch.arange(total) if generator is None else torch.randperm(total, generator=generator)
    moves = _draw_moves(total, dataset, generator) if augment and generator is not None else None
    shares = [slice(start + rank, min(start + batch_size, total), world) for start in range(0, total, batch_size)]
    return _iterate(split, dataset, order, moves, shares)


def normalize(images: Tensor, dataset: Dataset) -> Tensor:
    """Scale `uint8` `[B, C, H, W]` to [0, 1], then to mean 0 and standard deviation 1 per channel.

    Example:
        >>> split = Split(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.tensor([0]))
        >>> normalize(split.images, Dataset("black", split, split, ("a",), mean=(0.5,), std=(0.25,))).item()
        -2.0
    """
    return _normalize(images, *_constants(dataset, images.device))


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Cut a window of the images' own size out of each black-padded image, and mirror some of them.

    Args:
        images: `[B, C, H, W]`, any dtype.
        top: `int64` `[B]`, the window's first row in the padded image, in 0..2 * padding; `padding` is no shift.
        left: `int64` `[B]`, its first column.
        flip: `bool` `[B]`, which windows to mirror left to right.
        padding: Rows and columns of zeros around an image.

    Returns:
        A tensor like `images`.
    """
    if padding:
        height, width = images.shape[2:]
        # The windows are views; indexing copies one a picture, with whole rows in the inner loop.
        windows = functional.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(len(images), device=images.device), :, top, left]
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def _constants(dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixels in 0..255, each `[C, 1, 1]`."""
    pixels = 255 * torch.tensor([dataset.mean, dataset.std], dtype=torch.float64)
    mean, std = pixels.to(device, torch.float32)[:, :, None, None]
    return mean, std


def _normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return images.float().sub_(mean).div_(std)


def _draw_moves(total: int, dataset: Dataset, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    shifts = torch.randint(2 * dataset.padding + 1, (2, total), generator=generator)
    flips = torch.randint(2, (total,), generator=generator).bool()
    return shifts[0], shifts[1], flips & dataset.flip


def _iterate(
    split: Split,
    dataset: Dataset,
    order: Tensor,
    moves: tuple[Tensor, Tensor, Tensor] | None,
    shares: list[slice],
) -> Iterator[tuple[Tensor, Tensor]]:
    # Everything a batch needs goes to the device once an epoch: a copy a batch would wait for the device each time.
    mean, std = _constants(dataset, split.device)
    order = order.to(split.device)
    moves = None if moves is None else (moves[0].to(split.device), moves[1].to(split.device), moves[2].to(split.device))
    fetched = split.fetch(order[share] for share in shares)
    for share, (images, labels) in zip(shares, fetched, strict=True):
        if moves is not None:
            top, left, flip = (move[share] for move in moves)
            images = crop_and_flip(images, top, left, flip, dataset.padding)
        yield _normalize(images, mean, std), labels
