"""Tensors of which every process holds a part (DTensor): the part, its place in the whole, and the largest of all.

No function here but `whole` brings a tensor together. What adds up counts must be called by all processes, in the same
order.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pruneinit.errors import InputError, check_model
from pruneinit.parts import Part, Total, largest_of
from pruneinit.radix import alone, common_dtype


def is_sharded(tensor: Any) -> TypeGuard[Any]:
    """Whether something is a DTensor.

    Example:
        >>> is_sharded(torch.zeros(2))
        False
    """
    tensors = sys.modules.get("torch.distributed.tensor")  # not imported, which takes seconds: then there is none
    return tensors is not None and isinstance(tensor, tensors.DTensor)


def mesh_of(tensors: Mapping[str, Tensor]) -> Any:
    """The mesh of processes that hold parts of these tensors; None where all of them are whole.

    Raises:
        InputError: They are on several meshes.
    """
    meshes: dict[str, Any] = {name: tensor.device_mesh for name, tensor in tensors.items() if is_sharded(tensor)}
    first = next(iter(meshes), "")
    for name, mesh in meshes.items():
        if mesh != meshes[first]:
            raise InputError(
                f"{first} and {name} are sharded over different meshes, {meshes[first]} and {mesh}: shard all weights "
                "over one"
            )
    return meshes.get(first)


def mesh_groups(mesh: Any) -> tuple[Any, ...]:
    """A process group for each dimension of a mesh that has more than one process; none without a mesh."""
    if mesh is None:
        return ()
    return tuple(mesh.get_group(i) for i in range(mesh.ndim) if mesh.size(i) > 1)


def adder(mesh: Any) -> Total:
    """What adds up counts over all processes of a mesh; each gets the sum, on the CPU."""
    groups = mesh_groups(mesh)
    if not groups:
        return alone

    def total(counts: Tensor) -> Tensor:
        moved = counts.to(mesh.device_type, copy=True)
        for group in groups:
            dist.all_reduce(moved, group=group)
        return moved.cpu()

    return total


def reshard_(model: nn.Module) -> None:
    """Let FSDP free the weights that it left whole after a forward pass without a backward one."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    for module in model.modules() if fsdp is not None else ():
        if isinstance(module, fsdp.FSDPModule):  # type: ignore[union-attr]
            module.reshard()


def require_whole(model: nn.Module) -> None:
    """See that a model is not sharded.

    Raises:
        InputError: A parameter is a DTensor. Or `model` is none.
    """
    check_model(model)
    if name := next((name for name, p in model.named_parameters() if is_sharded(p)), None):
        raise InputError(
            f"{name} is a DTensor, and a sharded model can only be scored, with Snip, IterativeSnip, Force, Magnitude, "
            "Lamp, SmartRatio and Random: do this before sharding it, or wrap it in DistributedDataParallel"
        )


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: of one that is not sharded, all."""
    return tensor.detach().to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, on every process."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor


def sharded_like(values: Tensor, other: Tensor) -> Tensor:
    """This process's `values` as its part of a tensor that is sharded like `other`."""
    if not is_sharded(other):
        return values
    stride = torch.empty(other.shape, device="meta").stride()
    made: Tensor = type(other.detach()).from_local(
        values, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=stride
    )
    return made


def matching(tensor: Tensor, other: Tensor) -> Tensor:
    """A tensor on the device of `other` and, where that is sharded, sharded like it. Nothing is sent.

    Example:
        >>> matching(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])
    """
    if not is_sharded(other) or is_sharded(tensor):
        return tensor.to(other.device)
    place = part(other)
    cut = tuple(slice(begin, begin + n) for begin, n in zip(place.offset, place.values.shape, strict=True))
    return sharded_like(tensor[cut].to(place.values.device, copy=True), other)


def part(tensor: Tensor, mesh: Any = None, allowed: Tensor | None = None) -> Part:
    """This process's part of a tensor. Of a copy that all processes of the `mesh` have, the first one's counts.

    Raises:
        InputError: The tensor is sharded in a way of which the places are not known.
    """
    shape = tuple(tensor.shape)
    if not is_sharded(tensor):
        counts = mesh is None or not any(mesh.get_coordinate())
        return Part(tensor, shape, (0,) * len(shape), counts, allowed)
    values = local(tensor)
    mesh, counts = tensor.device_mesh, True
    offset, sizes = [0] * len(shape), list(shape)
    for where, size, placement in zip(mesh.get_coordinate(), mesh.shape, tensor.placements, strict=True):
        if placement.is_replicate():
            counts = counts and where == 0
            continue
        if type(placement).__name__ != "Shard":  # sums to come, and the strided parts of FSDP over tensor parallelism
            raise InputError(
                f"a tensor is sharded as {tensor.placements}: expected Shard(dim) and Replicate() only; score the "
                "model before sharding it so"
            )
        chunk = -(-sizes[placement.dim] // size)
        begin = min(sizes[placement.dim], where * chunk)
        sizes[placement.dim] = min(chunk, sizes[placement.dim] - begin)
        offset[placement.dim] += begin
    if tuple(values.shape) != tuple(sizes):
        raise InputError(f"a tensor of shape {shape} is sharded unevenly: expected parts as of torch.chunk")
    return Part(values, shape, tuple(offset), counts, allowed)


def kept(masks: Mapping[str, Tensor]) -> list[int]:
    """How many values each mask keeps in all of its parts."""
    mesh = mesh_of(masks)
    if mesh is None:
        return [int(mask.count_nonzero()) for mask in masks.values()]
    parts = [part(mask, mesh) for mask in masks.values()]
    mine = [int(p.values.count_nonzero()) if p.counts else 0 for p in parts]
    found: list[int] = adder(mesh)(torch.tensor(mine, dtype=torch.int64)).tolist()
    return found


def anywhere(names: Collection[str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Those of the tensors' names that some process gives, in the order of the tensors."""
    flags = torch.tensor([name in names for name in tensors], dtype=torch.int64)
    return [name for name, flag in zip(tensors, adder(mesh_of(tensors))(flags).tolist(), strict=True) if flag]


def largest(scores: Mapping[str, Tensor], keep: int, within: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Masks of exactly the `keep` largest scores, ties broken by position in the whole tensors; sharded like them."""
    mesh = mesh_of(scores)
    parts = {
        name: [part(score, mesh, None if within is None else local(matching(within[name], score)))]
        for name, score in scores.items()
    }
    found = largest_of(parts, keep, common_dtype(list(scores.values())), adder(mesh))
    return {name: sharded_like(found[name][0], score) for name, score in scores.items()}
