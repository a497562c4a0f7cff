from __future__ import annotations

import pytest
import torch

import pruneinit as pi
from pruneinit import select
from pruneinit.sharded import is_sharded, kept, part


def test_whole_tensors_are_not_sharded():
    tensor = torch.arange(6).reshape(2, 3)
    assert not is_sharded(tensor)
    found = part(tensor)
    assert (found.shape, found.offset, found.counts) == ((2, 3), (0, 0), True)
    assert kept({"a": torch.tensor([True, False])}) == [1]


@pytest.fixture
def mesh():
    """Makes the mesh of one of several processes, of which the others do not exist."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def make(rank: int, *shape: int):
        if dist.is_initialized():
            dist.destroy_process_group()
        dist.init_process_group("fake", rank=rank, world_size=torch.Size(shape).numel(), store=FakeStore())
        return init_device_mesh("cpu", shape)

    yield make
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("shape", [(7, 5), (1, 4), (4, 6), (3, 2, 2)], ids=str)
@pytest.mark.parametrize("kinds", ["00", "01", "10", "11", "r0", "0r", "1r", "rr"])
def test_every_value_of_a_sharded_tensor_is_counted_once_at_its_place(kinds, shape, mesh):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    placements = [Replicate() if kind == "r" else Shard(int(kind)) for kind in kinds]
    tensor = torch.rand(shape)
    counted = torch.zeros(shape, dtype=torch.int64)
    for rank in range(6):
        mine = distribute_tensor(tensor, mesh(rank, 2, 3), placements, src_data_rank=None)
        found = part(mine)
        at = tuple(slice(o, o + n) for o, n in zip(found.offset, found.values.shape, strict=True))
        assert torch.equal(tensor[at], found.values)
        assert torch.equal(found.positions(0, found.values.numel()), flat_indices(shape)[at].flatten())
        counted[at] += found.counts
    assert bool((counted == 1).all())


def flat_indices(shape) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


def test_a_whole_tensor_among_sharded_ones_counts_once(mesh):
    counts = [part(torch.zeros(3), mesh(rank, 2, 2)).counts for rank in range(4)]
    assert counts == [True, False, False, False]


def test_sums_that_are_still_to_be_made_are_refused(mesh):
    from torch.distributed.tensor import DTensor, Partial

    tensor = DTensor.from_local(torch.zeros(3), mesh(0, 2), [Partial()], run_check=False)
    with pytest.raises(pi.InputError, match="expected Shard.dim. and Replicate.. only"):
        part(tensor)


def test_parts_that_are_not_of_equal_chunks_are_refused(mesh):
    from torch.distributed.tensor import DTensor, Shard

    tensor = DTensor.from_local(torch.zeros(3), mesh(0, 2), [Shard(0)], run_check=False, shape=(4,), stride=(1,))
    with pytest.raises(pi.InputError, match=r"shape \(4,\) is sharded unevenly"):
        part(tensor)


def test_tensors_of_two_meshes_are_refused(mesh):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    line = mesh(0, 4)
    square = init_device_mesh("cpu", (2, 2))
    scores = {
        "a": distribute_tensor(torch.rand(4), line, [Shard(0)], src_data_rank=None),
        "b": distribute_tensor(torch.rand(4), square, [Shard(0), Shard(0)], src_data_rank=None),
    }
    with pytest.raises(pi.InputError, match="a and b are sharded over different meshes"):
        select(scores, 0.5)
