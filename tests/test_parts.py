from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from pruneinit import Masks, select
from pruneinit.parts import Part, largest_of
from pruneinit.radix import alone, common_dtype

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
