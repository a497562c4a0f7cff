from __future__ import annotations

import gzip
import struct

import pytest

from pruneinit.data.idx import read_idx
from pruneinit.errors import InputError

WHOLE = struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))


@pytest.mark.parametrize("contents", [WHOLE, gzip.compress(WHOLE)], ids=["plain", "gzip"])
def test_reads_shape_and_order(contents: bytes) -> None:
    found = read_idx(contents, "images")
    assert found.shape == (2, 2, 3)
    assert found.flatten().tolist() == list(range(12))
    found[0, 0, 0] = 9  # a tensor of its own, that may be written to


@pytest.mark.parametrize(
    "contents, message",
    [
        (b"", "no idx file"),
        (b"\0\0\x0d\1" + WHOLE[4:], "no idx file of unsigned bytes"),
        (b"<html>not found</html>", "no idx file"),
        (WHOLE[:7], "cut short"),
        (WHOLE[:-1], "cut short or too long"),
        (WHOLE + b"\0", "cut short or too long"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3), "cut short"),
        (gzip.compress(WHOLE)[:-9], "not a whole gzip file"),
        (b"\x1f\x8b" + b"x" * 30, "not a whole gzip file"),
    ],
    ids=["empty", "floats", "web page", "half a header", "short", "long", "huge sizes", "half a gzip", "no gzip"],
)
def test_refuses(contents: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_idx(contents, "images")
