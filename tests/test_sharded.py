from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pruneinit as pi
from pruneinit import Masks, select
from pruneinit.radix import alone, common_dtype
from pruneinit.sharded import Part, is_sharded, kept, largest_of, part

VALUES = [0.0, -0.0, 5e-324, 1e-40, 1.0, -1.0, 2.0]


@st.composite
def cut_scores(draw):
    """Scores with many ties, which of them are allowed, and where each tensor is cut into boxes, some of them empty."""
    scores, allowed, cuts = {}, {}, {}
    for i in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        size = torch.Size(shape).numel()
        values = draw(st.lists(st.sampled_from(VALUES), min_size=size, max_size=size))
        dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
        scores[f"layer{i}"] = torch.tensor(values, dtype=dtype).reshape(shape)
        flags = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        allowed[f"layer{i}"] = torch.tensor(flags, dtype=torch.bool).reshape(shape)
        cuts[f"layer{i}"] = [sorted(draw(st.lists(st.integers(0, n), max_size=3))) for n in shape]
    return scores, allowed, cuts


def boxes(shape, cuts):
    edges = [list(itertools.pairwise([0, *some, n])) for some, n in zip(cuts, shape, strict=True)]
    return list(itertools.product(*edges))


@given(cut_scores(), st.floats(0, 0.999), st.booleans(), st.randoms())
def test_the_largest_of_parts_are_the_largest_of_the_whole(cut, sparsity, masked, chance):
    scores, allowed, cuts = cut
    within = Masks(allowed) if masked else None
    total = sum(s.numel() for s in scores.values())
    keep = round((1 - sparsity) * total)
    if keep == 0 or (within is not None and keep > within.kept):
        return
    parts, places = {}, {}
    for name, score in scores.items():
        places[name] = boxes(score.shape, cuts[name])
        chance.shuffle(places[name])  # processes come in any order
        parts[name] = []
        for box in places[name]:
            at = tuple(slice(*edge) for edge in box)
            flags = allowed[name][at] if masked else None
            parts[name].append(Part(score[at], tuple(score.shape), tuple(begin for begin, _ in box), True, flags))
            # A copy elsewhere is marked like the part itself, and counted once.
            parts[name].append(Part(score[at], tuple(score.shape), tuple(begin for begin, _ in box), False, flags))
    found = largest_of(parts, keep, common_dtype(list(scores.values())), alone)
    expected = select(scores, sparsity, within=within)
    for name, score in scores.items():
        mask = torch.zeros(score.shape, dtype=torch.bool)
        for box, values, copy in zip(places[name], found[name][::2], found[name][1::2], strict=True):
            mask[tuple(slice(*edge) for edge in box)] = values
            assert torch.equal(values, copy)
        assert torch.equal(mask, expected[name])


def test_positions_beyond_32_bits():
    # Zeros that take no memory, in two parts of 2^31 and 3 values; the last tie to be kept lies in the second.
    size = 2**31 + 3
    second = Part(torch.zeros(3), (size,), (2**31,))
    assert second.positions(0, 3).tolist() == [2**31, 2**31 + 1, 2**31 + 2]
    first = Part(torch.ones(1), (size,), (0,))
    found = largest_of({"a": [second, first]}, 3, torch.float32, alone)["a"]
    assert [mask.tolist() for mask in found] == [[True, True, False], [True]]


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
