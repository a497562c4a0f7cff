"""What every test room shares: the real data sets, and settings that make runs alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import torch

PROJECT = Path(__file__).resolve().parents[1]
UNPACK = PROJECT.parent / "shared" / "data" / "unpack.py"
UNPACKED = PROJECT / ".data"

# Shared machines are slow now and then; how long an example takes says nothing about the code.
hypothesis.settings.register_profile("pruneinit", deadline=None)
hypothesis.settings.load_profile("pruneinit")

if "OMP_NUM_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real data sets: `$PRUNEINIT_DATA`, else unpacked once into `.data` from packed copies."""
    given = os.environ.get("PRUNEINIT_DATA")
    if given:
        return Path(given).expanduser()
    complete = UNPACKED / "complete"
    if not complete.exists() and not UNPACK.exists():
        reason = f"no data sets: set PRUNEINIT_DATA, or put the packed copies at {UNPACK.parent}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with alone(UNPACKED):
        if not complete.exists():
            subprocess.run([sys.executable, UNPACK, UNPACKED], check=True, capture_output=True, timeout=600)
            complete.touch()
    return UNPACKED


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For processes of their own: one thread, and loopback only."""
    torchrun = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    rest = {name: value for name, value in os.environ.items() if name not in torchrun}
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return rest | loopback | {"OMP_NUM_THREADS": "1"}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work in `folder`; the others wait."""
    import fcntl

    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
