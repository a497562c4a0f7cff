"""Images in files: decoded once into memory where they fit, else batch by batch, ahead of their use, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from pruneinit.data.dataset import Split
from pruneinit.errors import InputError

_AHEAD = 3
"""Batches that are decoded while the network works on an earlier one."""


@dataclass(frozen=True)
class StreamedSplit(Split):
    """A split whose images stay in their files; only `fetch`, and so `batches`, decodes them.

    `images` has the right shape and dtype and no contents (a tensor on PyTorch's `meta` device).

    Attributes:
        paths: The file of each image.
        size: As in `decode`.
    """

    paths: tuple[Path, ...] = ()
    size: int | None = None

    def to(self, device: torch.device | str) -> Split:
        """The same split, with its batches made on `device`."""
        return replace(self, labels=self.labels.to(device))

    def take(self, indices: Tensor) -> Split:
        """The split of the images at `indices` (`int64` `[M]`, or `bool` `[N]`), in that order."""
        at = indices.cpu()
        at = at.nonzero().flatten() if at.dtype == torch.bool else at
        images = _without_contents(len(at), self.shape)
        paths = tuple(self.paths[i] for i in at.tolist())
        return replace(self, images=images, labels=self.labels[at.to(self.device)], paths=paths)

    def fetch(self, order: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels at each index tensor of `order`; later batches are decoded meanwhile."""
        waiting: deque[tuple[Tensor, list[Future[Tensor]]]] = deque()
        pool = ThreadPoolExecutor(_workers(), thread_name_prefix="decode")
        try:
            for indices in order:
                waiting.append((indices, [pool.submit(self._decode, i) for i in indices.tolist()]))
                if len(waiting) > _AHEAD:
                    yield self._collect(*waiting.popleft())
            while waiting:
                yield self._collect(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, index: int) -> Tensor:
        return decode(self.paths[index], self.size, self.shape)

    def _collect(self, indices: Tensor, decoded: list[Future[Tensor]]) -> tuple[Tensor, Tensor]:
        images = torch.empty((len(decoded), *self.shape), dtype=torch.uint8)
        for slot, future in enumerate(decoded):
            images[slot] = future.result()
        return images.to(self.device), self.labels[indices.to(self.device)]

    def _check_devices(self) -> None:
        """`images` is nowhere; there is nothing to compare."""


def file_split(
    paths: Sequence[Path], labels: Sequence[int], size: int | None, shape: tuple[int, int, int], in_memory: bool
) -> Split:
    """A split of image files, decoded into memory or streamed.

    Args:
        paths: The file of each image.
        labels: The label of each image.
        size: As in `decode`.
        shape: (C, H, W) of every image.
        in_memory: Whether to decode everything now.

    Raises:
        InputError: A file cannot be decoded, or its image has another shape.
    """
    streamed = StreamedSplit(
        _without_contents(len(paths), shape), torch.tensor(labels, dtype=torch.int64), tuple(paths), size
    )
    if not in_memory:
        return streamed
    images = torch.empty((len(paths), *shape), dtype=torch.uint8)
    chunk = 256
    for start, (part, _) in enumerate(streamed.fetch(torch.split(torch.arange(len(paths)), chunk))):
        images[start * chunk : start * chunk + len(part)] = part
    return Split(images, streamed.labels)


def decode(path: Path, size: int | None = None, shape: tuple[int, int, int] | None = None) -> Tensor:
    """Decode one image file; grey images become coloured ones.

    Args:
        path: Any format that Pillow reads.
        size: Scale the shorter side to `size` and cut out the middle `size` x `size`; None leaves the image as it is.
        shape: The shape to expect.

    Returns:
        `uint8` `[3, H, W]`.

    Raises:
        InputError: Pillow is not installed, the file is no whole image, or the shape is another one.
    """
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            if size is not None:
                image.draft("RGB", (size, size))  # lets a JPEG decoder skip detail that the scaling would lose
            coloured = image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise InputError(f"{path} is not a whole image ({error}); copy or download it again") from error
    if size is not None:
        scale = size / min(coloured.size)
        width, height = (max(size, round(side * scale)) for side in coloured.size)
        left, top = (width - size) // 2, (height - size) // 2
        scaled = coloured.resize((width, height), pillow.Resampling.BILINEAR)
        coloured = scaled.crop((left, top, left + size, top + size))
    pixels = torch.from_numpy(np.array(coloured, dtype=np.uint8)).permute(2, 0, 1)
    if shape is not None and tuple(pixels.shape) != shape:
        found, expected = f"{pixels.shape[1]}x{pixels.shape[2]}", f"{shape[1]}x{shape[2]}"
        raise InputError(f"{path} has {found} pixels, the first image {expected}; give a size to scale all images to")
    return pixels


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError("image files are read with Pillow: run pip install 'pruneinit[images]'") from error
    return Image


def _workers() -> int:
    return min(16, os.cpu_count() or 1)


def _without_contents(count: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.empty((count, *shape), dtype=torch.uint8, device="meta")
