"""Work that several processes do together: who they are, means over them, and errors that all of them see.

Two kinds of models say by themselves that they live in several processes: one wrapped in `DistributedDataParallel`, of
which each process has a copy and its share of the examples, and one whose parameters are DTensors (`fully_shard`), of
which each process has a part. For all others everything here does nothing. `groups` stands for the process groups whose
sums in turn are a sum over all: one for each dimension of a mesh of processes, none for a process alone.

All processes must make the same calls in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pruneinit.errors import InputError
from pruneinit.masks import Masks
from pruneinit.radix import chunks
from pruneinit.sharded import is_sharded, mesh_groups, mesh_of, reshard_
from pruneinit.weights import uncompiled, unwrapped

Groups = tuple[Any, ...]  # of torch.distributed.ProcessGroup, which a PyTorch built without processes lacks
T = TypeVar("T")


def groups_of(model: nn.Module) -> Groups:
    """The processes that share the work on a model; empty for a model in one process alone.

    Example:
        >>> groups_of(nn.Linear(2, 2))
        ()
    """
    wrapper = data_parallel(model)
    if wrapper is not None:
        return (wrapper.process_group,) if dist.get_world_size(wrapper.process_group) > 1 else ()
    inner = uncompiled(model)
    reshard_(inner)
    return mesh_groups(mesh_of(dict(inner.named_parameters())))


def data_parallel(model: nn.Module) -> DistributedDataParallel | None:
    """The `DistributedDataParallel` around a model, if there is one."""
    return next((outer for outer in unwrapped(model) if isinstance(outer, DistributedDataParallel)), None)


def gathered(value: T, groups: Groups) -> list[T]:
    """What each process gives, in the same order on all; it is sent as a pickle, so keep it small.

    Example:
        >>> gathered("mine", ())
        ['mine']
    """
    every = [value]
    for group in groups:
        parts: list[list[T]] = [every] * dist.get_world_size(group)
        dist.all_gather_object(parts, every, group=group)
        every = [one for some in parts for one in some]
    return every


def place(groups: Groups) -> int:
    """Which of the values that `gathered` returns is this process's own.

    Example:
        >>> place(())
        0
    """
    found, size = 0, 1
    for group in groups:
        found += size * dist.get_rank(group)
        size *= dist.get_world_size(group)
    return found


def together(action: Callable[[], T], groups: Groups) -> T:
    """What `action` returns on this process, once it has succeeded on all of them.

    Without this a process that fails leaves the others waiting for it.

    Args:
        action: Must not itself wait for other processes.
        groups: The processes; every one must call.

    Raises:
        InputError: An `InputError` of any process, on all of them, or another error of another process. What is no
            `InputError` is raised as it is where it happened.

    Example:
        >>> together(lambda: 3, ())
        3
    """
    if not groups:
        return action()
    result, failure, said = None, None, None
    try:
        result = action()
    except Exception as error:
        failure = error
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    every = gathered(said, groups)
    if failure is not None and not isinstance(failure, InputError):
        raise failure
    for rank, failed in enumerate(every):
        if failed is not None:
            raise InputError(f"{failed} (process {rank} of {len(every)})") from failure
    return result  # type: ignore[return-value]  # there was no failure


def mean_over_processes(mean: dict[str, Tensor], examples: int, groups: Groups) -> dict[str, Tensor]:
    """The mean over the examples of all processes, from each one's mean over its own; the same bits on all.

    Args:
        mean: This process's mean of each weight. It is emptied on the way, so that memory never holds it and the
            result both.
        examples: How many it is the mean of.
        groups: The processes. Without any, `mean` itself is returned.

    Raises:
        InputError: The processes have means of different weights.

    Example:
        >>> mean_over_processes({"a": torch.ones(2)}, 8, ())
        {'a': tensor([1., 1.])}
    """
    if not groups:
        return mean
    shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in mean.items()]
    every = gathered((examples, shapes), groups)
    if any(other != shapes for _, other in every):
        raise InputError("the processes score different weights: give all of them the same model and masks")
    share = examples / sum(number for number, _ in every)
    found = {}
    for name, _, _ in shapes:
        part = mean.pop(name) * share
        for group in groups:
            dist.all_reduce(part, group=group)
            # Nothing promises that each process rounds such a sum alike, and scores that differ select different masks.
            dist.broadcast(part, dist.get_global_rank(group, 0), group=group)
        found[name] = part
    return found


def averaged(model: nn.Module, own: Callable[[], tuple[dict[str, Tensor], int]]) -> dict[str, Tensor]:
    """The mean over the examples of all processes that share a model; of a model in one process the mean itself.

    This is all that a criterion needs to score by a mean over examples in several processes: whatever it takes the
    absolute value or another function of must come out of here.

    Args:
        model: As the criterion was given it: `DistributedDataParallel` around it says that it is shared.
        own: Returns the mean of something over this process's examples, a tensor for each weight and the same weights
            on all processes, and how many examples they are. It must not itself wait for other processes.

    Raises:
        InputError: Of any process, on all.

    Example:
        >>> averaged(nn.Linear(2, 1), lambda: ({"weight": torch.ones(1, 2)}, 16))
        {'weight': tensor([[1., 1.]])}
    """
    groups = groups_of(model)
    mean, examples = together(own, groups)
    return mean_over_processes(mean, examples, groups)


def require_same(model: nn.Module, tensors: Mapping[str, Tensor], otherwise: str) -> None:
    """See that tensors are the same bits on all processes that have a copy of a model.

    Args:
        model: One in `DistributedDataParallel`; for another nothing is looked at.
        tensors: By name.
        otherwise: What to say, and to do, where they are not.

    Raises:
        InputError: They differ; on all processes.
    """
    if data_parallel(model) is None or not (groups := groups_of(model)):
        return
    sums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    for rank, others in enumerate(gathered(sums, groups)):
        if others != sums:
            odd = next((name for name in sums if others.get(name) != sums[name]), "the choice of weights")
            raise InputError(f"{odd} differs between this process and process {rank}: {otherwise}")


def agreed(function: Callable[[Masks], Masks], groups: Groups) -> Callable[[Masks], Masks]:
    """A function whose result depends on this process's own data, with the result of the first process on all."""
    if not groups:
        return function

    def first(masks: Masks) -> Masks:
        found = {}
        for name, mask in together(lambda: function(masks), groups).items():
            bits = mask.to(torch.uint8, copy=True)  # not every backend sends bool
            for group in groups:
                dist.broadcast(bits, dist.get_global_rank(group, 0), group=group)
            found[name] = bits.bool()
        return Masks(found)

    return first


def require_own(model: nn.Module, verb: str) -> None:
    """See that the parameters of a model may be replaced by others of another shape.

    Raises:
        InputError: Somebody else holds on to them: `DistributedDataParallel`, or whoever sharded them.
    """
    if data_parallel(model) is not None:
        raise InputError(
            f"cannot {verb} a model inside of DistributedDataParallel, which knows its parameters: {verb} "
            "model.module, and wrap that anew"
        )
    name = next((name for name, p in uncompiled(model).named_parameters() if is_sharded(p)), None)
    if name is not None:
        raise InputError(
            f"cannot {verb} a sharded model ({name} is a DTensor): {verb} an unsharded one, with the masks' .full()"
        )


def _checksum(tensor: Tensor) -> int:
    """A number that depends on every bit of a tensor and on its place; equal for equal tensors."""
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    found = 0
    for start, chunk in chunks(tensor.detach().view(integer), torch.int64):
        place = torch.arange(start, start + chunk.numel(), device=chunk.device)
        found += int((chunk * (2 * place + 1)).sum())
    return found
