"""Masks: which weights of a model are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from pruneinit.errors import InputError, unknown
from pruneinit.files import read_tensors, write_tensors
from pruneinit.sharded import anywhere, is_sharded, kept, local, matching, whole


class Masks(Mapping[str, Tensor]):
    """A mapping from weight name to a bool tensor of the weight's shape; True = kept.

    Args:
        masks: Bool tensors by weight name. They are not copied; treat them as read-only. Of a sharded model they are
            DTensors; then all its processes make, compare and combine masks together, and counts are those of the
            whole.

    Raises:
        InputError: They are no mapping, or a mask is not a bool tensor.

    Example:
        >>> masks = Masks({"a": torch.tensor([True, False]), "b": torch.tensor([True, True])})
        >>> masks.kept, masks.total, masks.sparsity
        (3, 4, 0.25)
        >>> dict(masks.counts)
        {'a': (1, 2), 'b': (2, 2)}
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        if not isinstance(masks, Mapping):
            given = "None" if masks is None else f"a {type(masks).__name__}"
            raise InputError(f"the masks must be Masks, as prune returns them, or a dict of bool tensors, got {given}")
        for name, mask in masks.items():
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                tensor = isinstance(mask, Tensor)
                given = f"{mask.dtype}" if tensor else f"a {type(mask).__name__}"
                remedy = "tensor.bool()" if tensor else "torch.tensor(mask).bool()"
                raise InputError(f"the mask of {name} must be a bool tensor, got {given}; use {remedy}")
        self._masks = dict(masks)
        counts = zip(kept(self._masks), self._masks.values(), strict=True)
        self._counts = {name: (n, m.numel()) for name, (n, m) in zip(self._masks, counts, strict=True)}

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __repr__(self) -> str:
        return f"Masks({len(self)} weights, {self.kept:,} of {self.total:,} kept, sparsity {self.sparsity:.4g})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        if self.counts != other.counts or any(self[name].shape != other[name].shape for name in self):
            return False
        differ = [n for n in self if not torch.equal(local(self[n]), local(matching(other[n], self[n])))]
        return not anywhere(differ, self)

    __hash__ = None  # type: ignore[assignment]  # equal by contents, so not hashable, like any mutable mapping

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """For each weight, how many values are kept and how many there are."""
        return MappingProxyType(self._counts)

    @property
    def kept(self) -> int:
        """How many values are kept in all."""
        return sum(kept for kept, _ in self._counts.values())

    @property
    def total(self) -> int:
        """How many values there are in all."""
        return sum(total for _, total in self._counts.values())

    @property
    def sparsity(self) -> float:
        """The fraction removed."""
        return 1 - self.density

    @property
    def density(self) -> float:
        """The fraction kept."""
        return self.kept / self.total if self.total else 1.0

    @property
    def densities(self) -> dict[str, float]:
        """The fraction kept of each weight."""
        return {name: kept / total if total else 1.0 for name, (kept, total) in self._counts.items()}

    @property
    def empty(self) -> tuple[str, ...]:
        """The weights of which nothing is kept: a plain network passes no signal through them."""
        return tuple(name for name, (kept, total) in self._counts.items() if total and not kept)

    def to(self, device: torch.device | str) -> Masks:
        """The same masks on `device`."""
        return Masks({name: mask.to(device) for name, mask in self.items()})

    def full(self) -> Masks:
        """The same masks as whole tensors, on every process, gathered from those that hold parts of them."""
        return Masks({name: whole(mask) for name, mask in self.items()})

    def __and__(self, other: Masks) -> Masks:
        """What both keep."""
        other = self._matched(other)
        return Masks({name: mask & matching(other[name], mask) for name, mask in self.items()})

    def __or__(self, other: Masks) -> Masks:
        """What either keeps."""
        other = self._matched(other)
        return Masks({name: mask | matching(other[name], mask) for name, mask in self.items()})

    def iou(self, other: Masks) -> float:
        """Intersection over union of what is kept: 1 for equal masks, 0 for disjoint ones.

        Example:
            >>> a, b = Masks({"w": torch.tensor([True, True, False])}), Masks({"w": torch.tensor([True, False, True])})
            >>> round(a.iou(b), 3)
            0.333
        """
        union = (self | other).kept
        return (self & other).kept / union if union else 1.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the masks to one safetensors file, eight values to a byte.

        Raises:
            InputError: The file cannot be written, or each process holds only a part of the masks.
        """
        if sharded := next((name for name, mask in self.items() if is_sharded(mask)), None):
            raise InputError(
                f"the mask of {sharded} is sharded: bring the masks together, masks.full(), and save those"
            )
        packed = {name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1))) for name, mask in self.items()}
        shapes = {name: list(mask.shape) for name, mask in self.items()}
        write_tensors(path, packed, {"kind": "masks", "shapes": shapes})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Masks:
        """Read masks that `save` wrote.

        Raises:
            InputError: The file is missing, truncated, altered, or holds something else.
        """
        packed, metadata = read_tensors(path)
        if metadata.get("kind") != "masks":
            raise InputError(f"{path} holds a {metadata.get('kind', 'thing of unknown kind')}, expected masks")
        masks = {}
        if "shapes" not in metadata or metadata["shapes"].keys() != packed.keys():
            raise InputError(f"{path} does not say the shapes of its masks: another version of pruneinit wrote it")
        for name, shape in metadata["shapes"].items():
            count = int(np.prod(shape, dtype=np.int64))
            bits = np.unpackbits(packed[name].numpy(), count=count)
            masks[name] = torch.from_numpy(bits.view(np.bool_)).reshape(shape)
        return Masks(masks)

    def _matched(self, other: Mapping[str, Tensor]) -> Masks:
        """The other masks, if they are of the same weights."""
        other = as_masks(other)
        if self.keys() != other.keys():
            odd = sorted(self.keys() ^ other.keys())
            raise InputError(f"the masks are of different models: only one of the two has {', '.join(odd)}")
        for name, mask in self.items():
            if mask.shape != other[name].shape:
                raise InputError(
                    f"the masks of {name} differ in shape: {tuple(mask.shape)} and {tuple(other[name].shape)}"
                )
        return other


def as_masks(masks: Mapping[str, Tensor]) -> Masks:
    """What a caller gives for masks, as `Masks`.

    Raises:
        InputError: It is neither `Masks` nor a mapping from names to bool tensors.

    Example:
        >>> as_masks({"w": [1, 0]})
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: the mask of w must be a bool tensor, got a list; use torch.tensor(mask).bool()
    """
    return masks if isinstance(masks, Masks) else Masks(masks)


def check_masks(masks: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Masks:
    """The masks as `Masks`, if they are of the model whose weights have these shapes.

    Raises:
        InputError: A mask has no weight of its name, or another shape. Or these are no masks (see `as_masks`).

    Example:
        >>> check_masks({"w": torch.ones(2, 3).bool()}, {"w": (3, 2)})
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: the mask of w has shape (2, 3), the weight has (3, 2): ...
    """
    masks = as_masks(masks)
    for name, mask in masks.items():
        if name not in shapes:
            raise unknown("weight in the masks", name, shapes)
        if tuple(mask.shape) != tuple(shapes[name]):
            raise InputError(
                f"the mask of {name} has shape {tuple(mask.shape)}, the weight has {tuple(shapes[name])}: "
                "the masks were made for another model"
            )
    return masks
