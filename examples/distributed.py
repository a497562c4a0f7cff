"""Prune over several processes, with DistributedDataParallel and with fully_shard.

torchrun --nproc_per_node=2 examples/distributed.py FOLDER writes the masks of both ways to FOLDER; they are the same.
On GPUs take "cuda" where it says "cpu".
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import pruneinit as pi
from pruneinit.train import distributed


def network() -> nn.Sequential:
    """The same network on every process."""
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    pi.edge_of_chaos_(model, generator=torch.Generator().manual_seed(0))
    return model


def share() -> list[tuple[Tensor, Tensor]]:
    """This process's batches; a DistributedSampler or a list of files would deal them out as well."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(500, 64, generator=generator), torch.randint(10, (500,), generator=generator)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    return list(zip(x[mine].split(100), y[mine].split(100), strict=True))


def replicated(folder: Path) -> nn.Module:
    """A model that every process has whole: score it wrapped, sparsify what is inside, and wrap that for training."""
    model = DistributedDataParallel(network())
    masks = pi.prune(model, pi.Snip(), share(), sparsity=0.9)
    if dist.get_rank() == 0:
        masks.save(folder / "replicated.safetensors")
    return DistributedDataParallel(pi.sparsify_(model.module, masks))


def sharded(folder: Path) -> None:
    """A model of which every process has a part: scores and masks are sharded like it, and masks can be gathered."""
    model = network()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (m for m in model if isinstance(m, nn.Linear)):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    masks = pi.prune(model, pi.Snip(), share(), sparsity=0.9)
    whole = masks.full()
    if dist.get_rank() == 0:
        whole.save(folder / "sharded.safetensors")


if __name__ == "__main__":
    with distributed("cpu"):  # joins the processes of torchrun, and leaves them in good order
        replicated(Path(sys.argv[1]))
        sharded(Path(sys.argv[1]))
