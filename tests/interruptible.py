"""A process that Ctrl-C ends, and that ends with the test."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command that SIGINT reaches, also where tests run in the background, whose processes ignore it."""
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
