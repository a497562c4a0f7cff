from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from pruneinit.errors import InputError
from pruneinit.experiments import lock
from pruneinit.experiments.lock import LOCK, alone

HOLD = """
import sys, time
from pathlib import Path
from pruneinit.experiments.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time(tmp_path):
    with alone(tmp_path / "a"):
        message = f"another process is working on {tmp_path / 'a'}; wait for it"
        with pytest.raises(InputError, match=message), alone(tmp_path / "a"):
            pass
        with alone(tmp_path / "b"):
            pass
        assert (tmp_path / "a" / LOCK).is_file()
    with alone(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_process_keeps_others_out_until_it_dies_of_whatever(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process is working"), alone(tmp_path / "a"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / "a" / LOCK).is_file()
    with alone(tmp_path / "a"):
        pass
    assert not (tmp_path / "a" / LOCK).exists()


def test_what_the_work_leaves_stays(tmp_path):
    with pytest.raises(RuntimeError), alone(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "result").write_text("")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "result", "runs"]


def test_an_empty_folder_of_before_stays(tmp_path):
    (tmp_path / "runs").mkdir()
    with alone(tmp_path / "runs" / "a"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write .*file/a: Not a directory"), alone(tmp_path / "file" / "a"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    locked = lock._locked
    calls = []

    def slow(handle):
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()  # as its last holder does when it leaves
        return locked(handle)

    monkeypatch.setattr(lock, "_locked", slow)
    with alone(tmp_path):
        assert (tmp_path / LOCK).is_file()
    assert len(calls) == 2


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with alone(tmp_path / "a"), alone(tmp_path / "a"):
        pass
    assert not list(tmp_path.iterdir())
