from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pruneinit.data import pickles
from pruneinit.data.pickles import read_pickle
from pruneinit.errors import InputError

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
U1 = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"


def array(shape: bytes = b"K\x02K\x03", dtype: bytes = U1, order: bytes = b"\x89", raw: bytes = b"abcdef") -> bytes:
    """A Python 2 pickle of an array, as CIFAR's, with parts to tamper with."""
    head = b"\x80\x02" + RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85U\x01btR"
    return head + b"(K\x01(" + shape + b"t" + dtype + order + b"U" + bytes([len(raw)]) + raw + b"tb."


def test_reads_an_array_as_numpy_does() -> None:
    found = read_pickle(array(), "file")
    expected = pickle.loads(array(), encoding="latin1")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_reads_what_this_numpy_writes() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = read_pickle(pickle.dumps({"data": images, "labels": [1, 2]}, protocol=4), "file")
    np.testing.assert_array_equal(found["data"], images)
    assert found["labels"] == [1, 2]


class Call:
    """Pickles into a call of `function`."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> Any:
        return self.call


def attacks(target: Path) -> dict[str, bytes]:
    touch = f"touch {target}"
    return {
        "os.system": pickle.dumps(Call(os.system, touch)),
        "os.system, protocol 0": pickle.dumps(Call(os.system, touch), protocol=0),
        "eval": pickle.dumps(Call(eval, f"open({str(target)!r}, 'w')")),
        "getattr": pickle.dumps(Call(getattr, 1, "real")),
        "nested in a list": pickle.dumps({"labels": [1, Call(os.system, touch)]}),
        "nested in a key": pickle.dumps({(Call(os.system, touch),): 1}),
        "submodule of numpy": b"cnumpy\nsave\n(U\x01xK\x01tR.",
        "dotted name": pickle.dumps(1)[:0] + b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__call__\x93.",
        "instance opcode": f"(S'{touch}'\nios\nsystem\n.".encode(),
        "extension registry": b"\x80\x02\x82\x01.",
        "persistent id": b"Pthing\n.",
        "array of objects": array(dtype=b"cnumpy\ndtype\n(U\x01OK\x00K\x01tR"),
        "array of floats": array(dtype=b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR"),
        "dtype that is text": array(dtype=b"U\x02u1"),
        "huge array": array(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f"),
        "negative shape": array(shape=b"J\xff\xff\xff\xffJ\xfa\xff\xff\xff"),
        "bool shape": array(shape=b"\x88K\x06"),
        "columns first": array(order=b"\x88"),
        "rebuilds a dtype": b"\x80\x02" + RECONSTRUCT + b"(cnumpy\ndtype\nK\x00\x85U\x01btR.",
        "array without contents": b"\x80\x02" + RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85U\x01btR.",
        "the class itself": NDARRAY + b".",
        "the class in a list": b"](" + NDARRAY + b"e.",
        "calls the class": NDARRAY + b"(K\x05tR.",
        "new object of the class": b"\x80\x02" + NDARRAY + b"(K\x05t\x81.",
        "sets an attribute of the class": NDARRAY + b"}(U\x05valueK\x01sb.",
        "sets a slot of a function": RECONSTRUCT + b"(N}(U\x08__call__K\x01utb.",
        "a set": pickle.dumps({1, 2}),
        "cut short": array()[:-10],
        "empty": b"",
        "no pickle": b"<html>",
        "deep": b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        "itself": b"\x80\x02]q\x00h\x00a.",
    }


@pytest.mark.parametrize("name", list(attacks(Path("x"))))
def test_a_malicious_pickle_is_refused_and_nothing_runs(name: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    with pytest.raises(InputError):
        read_pickle(attacks(target)[name], "file")
    assert not target.exists()
    # and the reader is as it was
    np.testing.assert_array_equal(read_pickle(array(), "file"), [[97, 98, 99], [100, 101, 102]])


def test_the_message_names_what_was_asked_for() -> None:
    with pytest.raises(
        InputError, match=r"data_batch_1 is no CIFAR file: it asks for (posix|nt)\.system; do not trust"
    ):
        read_pickle(pickle.dumps(Call(os.system, "true")), "data_batch_1")


def test_stand_ins_cannot_hold_attributes() -> None:
    for stand_in in pickles._STAND_INS.values():
        assert not hasattr(stand_in, "__dict__")


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200)
def test_damaged_bytes_give_a_value_or_an_input_error(data: st.DataObject) -> None:
    contents = bytearray(array())
    for _ in range(data.draw(st.integers(1, 4))):
        # opcodes that allocate by a number in the file would make the machine, not the reader, the thing tested
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(
            st.integers(0, 255).filter(lambda b: b != 114)
        )
    with contextlib.suppress(InputError):  # and no other error
        read_pickle(bytes(contents), "file")


PLAIN = st.recursive(
    st.none() | st.integers() | st.binary() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


# Protocol 2 has no bytes of its own: Python 3 writes a call of a codec there, which the reader refuses.
@hypothesis.given(PLAIN, st.integers(3, 5))
@hypothesis.settings(max_examples=100)
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol), "file") == value
