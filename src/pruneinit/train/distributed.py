"""Several processes under torchrun: who am I, sums over all, and what is kept equal.

The gradients are averaged by `DistributedDataParallel`. Buffers are not sent at every forward pass, as it would by
default: a pruned layer's index buffer can be larger than its weights and never changes. Instead the buffers that
training does change go from rank 0 to all once an epoch, before the evaluation (`sync_buffers`).
"""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pruneinit import processes
from pruneinit.errors import InputError

# PyTorch 2.13 renamed the switch, and warns about the old name.
_PARAMETERS = inspect.signature(DistributedDataParallel.__init__).parameters
_FORWARD_SYNC = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"

_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: 0 for the one that writes files and calls back.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0


@contextmanager
def distributed(device: str | torch.device | None = None) -> Iterator[World]:
    """Join the processes that torchrun started, over gloo on CPUs and nccl on GPUs.

    Without torchrun (or with one process) nothing is set up. Inside an existing process group that group is used and
    left as it is, so the context may be nested.

    Args:
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, ...; None takes a GPU where there is one. Under torchrun `"cuda"`
            is the GPU of the local rank.

    Yields:
        This process's place in the world.

    Raises:
        InputError: The device does not exist, or the environment is only half of what torchrun sets.

    Example:
        >>> with distributed("cpu") as world:
        ...     world.rank, world.size, world.first
        (0, 1, True)
    """
    place = _device(device)
    size = world_size()
    if size == 1:
        yield World(device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)  # collectives of Python objects go through the current device
    if dist.is_initialized():
        yield World(dist.get_rank(), size, place)
        return
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {size} but {', '.join(missing)} is not set: start several processes with torchrun, "
            "or unset WORLD_SIZE to train in one"
        )
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, place)
    finally:
        dist.destroy_process_group()
        # A wrapper that waits for the garbage collector holds the group, and with it threads that must not outlive
        # the interpreter: the process would now and then end with SIGABRT.
        gc.collect()


def world_size() -> int:
    """How many processes torchrun started, this one among them; 1 without torchrun.

    Example:
        >>> world_size()
        1
    """
    return dist.get_world_size() if dist.is_initialized() else _environment("WORLD_SIZE", 1)


def total(tensor: Tensor, world: World) -> Tensor:
    """The sum of a tensor over all processes, the same on each; the argument is left alone."""
    if world.size == 1:
        return tensor
    result = tensor.clone()
    dist.all_reduce(result)
    return result


def together(action: Callable[[], str], world: World) -> None:
    """Run `action` on every process and see that all succeed with the same result, before any goes on.

    Args:
        action: Returns, in words, what the processes must have in common.
        world: The processes; every one must call.

    Raises:
        InputError: An `InputError` of any process, on all of them; or the results differ.
    """
    groups = (dist.group.WORLD,) if world.size > 1 else ()
    every = processes.gathered(processes.together(action, groups), groups)
    for rank, result in enumerate(every):
        if result != every[0]:
            raise InputError(
                f"the processes cannot train together: process 0 has {every[0]}, process {rank} has {result}; give "
                "all the same data, masks and seeds, and a checkpoint on a file system that all of them see"
            )


def parallel(model: nn.Module, world: World) -> nn.Module:
    """The module to call in training: `model` itself, or wrapped so that its gradients are averaged over processes.

    Wrapping copies the parameters and buffers of rank 0 to all, once.
    """
    if world.size == 1:
        return model
    sync_buffers(model, world)  # older versions of PyTorch would do so only if they did it in every forward pass
    devices = [world.device.index] if world.device.type == "cuda" else None
    options: dict[str, Any] = {_FORWARD_SYNC: False}
    return DistributedDataParallel(model, device_ids=devices, **options)


def sync_buffers(model: nn.Module, world: World) -> None:
    """Give every process the buffers of rank 0, such as running means, but not integer indices: those never change."""
    if world.size == 1:
        return
    for buffer in model.buffers():
        if not is_index(buffer):
            dist.broadcast(buffer, src=0)


def is_index(buffer: Tensor) -> bool:
    """Whether a buffer says where values are (pruned layers) rather than what they are.

    A counter, such as the number of batches of a normalisation layer, has no dimensions.

    Example:
        >>> is_index(torch.tensor([3, 5])), is_index(torch.tensor(7)), is_index(torch.tensor([0.5]))
        (True, False, False)
    """
    return buffer.ndim > 0 and not buffer.is_floating_point() and not buffer.is_complex()


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}: expected 'cpu', 'cuda' or 'cuda:0'") from error
    if place.type != "cuda":
        _check_counts(place, device)
        return place
    index = _environment("LOCAL_RANK", 0) if place.index is None else place.index
    if index >= torch.cuda.device_count():
        raise InputError(
            f"device cuda:{index} does not exist: this machine shows {torch.cuda.device_count()} GPUs; "
            "give device='cpu' or start fewer processes"
        )
    return torch.device("cuda", index)


def _check_counts(place: torch.device, given: str | torch.device) -> None:
    """Losses are summed up in float64, which some devices lack; others are not there, or hold no numbers at all."""
    try:
        torch.zeros(1, dtype=torch.float64, device=place).item()
    except (RuntimeError, TypeError, AssertionError, ImportError) as error:
        raise InputError(
            f"device {str(given)!r} cannot be used on this machine: expected 'cpu' or, with a GPU, 'cuda' or 'cuda:0'"
        ) from error


def _environment(name: str, otherwise: int) -> int:
    value = os.environ.get(name, str(otherwise))
    if not value.isdecimal():
        raise InputError(f"the environment variable {name} must be a whole number, got {value!r}; torchrun sets it")
    return int(value)
