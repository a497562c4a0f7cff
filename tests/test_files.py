import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pruneinit.errors import InputError
from pruneinit.files import append_text, read_tensors, replacing, write_tensors, write_text


def test_tensors_of_every_dtype_come_back(tmp_path):
    tensors = {
        str(dtype): torch.arange(6).reshape(2, 3).to(dtype)
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
    }
    tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), "view": torch.arange(12.0).reshape(3, 4).T}
    write_tensors(tmp_path / "a", tensors, {"n": [1, 2], "s": "é"})
    back, metadata = read_tensors(tmp_path / "a")
    assert metadata == {"n": [1, 2], "s": "é"}
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype for k in tensors)


def test_equal_contents_are_equal_files(tmp_path):
    for name in "abcdef":
        write_tensors(tmp_path / name, {"x": torch.ones(3), "y": torch.zeros(2)}, {"one": 1, "two": [2]})
    assert len({(tmp_path / name).read_bytes() for name in "abcdef"}) == 1


def test_tensors_that_share_memory_are_each_written(tmp_path):
    base = torch.arange(4.0)
    write_tensors(tmp_path / "a", {"all": base, "half": base[:2]}, {})
    assert read_tensors(tmp_path / "a")[0]["half"].tolist() == [0, 1]


def test_every_single_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a"
    write_tensors(path, {"w": torch.randn(5), "b": torch.ones(2, dtype=torch.int32)}, {"kind": "x"})
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x11]) + whole[i + 1 :])
        try:
            tensors, metadata = read_tensors(path)
        except InputError:
            continue
        # Padding after the header means nothing; whatever reads as valid must be what was written.
        path.write_bytes(whole)
        good, good_metadata = read_tensors(path)
        assert metadata == good_metadata
        assert all(torch.equal(tensors[k], good[k]) for k in good)


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "a"
    write_tensors(path, {"w": torch.randn(50)}, {})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_tensors(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "a")
    with pytest.raises(InputError, match="not written by pruneinit"):
        read_tensors(tmp_path / "a")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no file .*nothing"):
        read_tensors(tmp_path / "nothing")


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write .*file/a"):
        write_text(tmp_path / "file" / "a", "x")


def test_text_is_added_at_the_end(tmp_path):
    append_text(tmp_path / "a", "é\n")
    append_text(tmp_path / "a", "b\n")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "é\nb\n"


def test_text_that_cannot_be_added_is_named_and_leaves_the_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot add to .*nowhere/a: No such file"):
        append_text(tmp_path / "nowhere" / "a", "x")
    (tmp_path / "a").write_text("old")
    real = open

    def filling(path, *arguments, **settings):
        with real(path, *arguments, **settings) as file:
            file.write("ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", filling)
    with pytest.raises(InputError, match="cannot add to .*: No space left on device; .* run the same again"):
        append_text(tmp_path / "a", "half")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old"


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    code = (
        "import os, sys\nfrom pruneinit.files import replacing\n"
        "with replacing(sys.argv[1]) as part:\n    part.write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"


def test_a_full_disk_is_an_error_in_one_line_and_leaves_the_old_files(tmp_path):
    write_text(tmp_path / "text", "old")
    write_tensors(tmp_path / "tensors", {"a": torch.ones(1)}, {})
    old = (tmp_path / "tensors").read_bytes()
    code = """
import resource, signal, sys, torch
from pruneinit import InputError
from pruneinit.files import write_tensors, write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (lambda: write_text(sys.argv[1] + "/text", "x" * 9999),
              lambda: write_tensors(sys.argv[1] + "/tensors", {"a": torch.ones(9999)}, {})):
    try:
        write()
    except InputError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    for line, name in zip(lines, ("text", "tensors"), strict=True):
        assert line.startswith(f"cannot write {tmp_path / name}: ")
        assert "File too large" in line
        assert "free some space" in line
    assert (tmp_path / "text").read_text() == "old"
    assert (tmp_path / "tensors").read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["tensors", "text"]


def test_no_space_left_is_an_error_in_one_line(tmp_path):
    message = "cannot write .*/a: No space left on device; free some space"
    with pytest.raises(InputError, match=message), replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_a_pipe_is_not_replaced_and_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot write .*pipe: it is a device or a pipe"):
        write_text(tmp_path / "pipe", "x")
    with pytest.raises(InputError, match="no file .*pipe"):
        read_tensors(tmp_path / "pipe")


def test_a_folder_is_no_file_to_read(tmp_path):
    with pytest.raises(InputError, match="is a folder: expected a .safetensors file"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("method", ["open", "is_file"])
def test_a_file_that_may_not_be_read_is_named(method, tmp_path, monkeypatch):
    write_tensors(tmp_path / "a", {}, {})

    def refuse(*args, **kwargs):  # root may read everything, so the file's mode does not do
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(InputError, match="cannot read .*/a: Permission denied; expected .* that you may read"):
        read_tensors(tmp_path / "a")
