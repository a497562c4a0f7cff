from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pruneinit.data import Dataset, Split, load

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


def make_toy(images: int = 40, test: int = 12, classes: int = 4, seed: int = 0) -> Dataset:
    """Images of 1x4x4 noise in which row k is bright for class k."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images + test) % classes
    pixels = torch.randint(100, (images + test, 1, 4, 4), dtype=torch.uint8, generator=generator)
    pixels[torch.arange(images + test), 0, labels % 4] += 120
    train, held = Split(pixels[:images], labels[:images]), Split(pixels[images:], labels[images:])
    return Dataset("toy", train, held, tuple(str(k) for k in range(classes)), (0.3,), (0.3,), padding=1)


@pytest.fixture
def toy() -> Callable[..., Dataset]:
    return make_toy


@pytest.fixture
def mlp() -> Callable[..., nn.Module]:
    def make(inputs: int = 16, classes: int = 4, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, classes))

    return make


@pytest.fixture(scope="session")
def run_worker(environment: dict[str, str]) -> Callable[..., None]:
    def run(*arguments: object, processes: int = 0) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes else []
        command = [sys.executable, *launcher, str(WORKER), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run
