"""Small networks of every kind, on which each quantity is computed twice: by the library and by a plain twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Problem:
    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    norm: str | None = None

    def model(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        torch.manual_seed(seed)
        return self.build().to(dtype)

    def batch(self, size: int = 8, seed: int = 1, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(size, *self.shape, generator=generator, dtype=torch.float64).to(dtype)
        return x, torch.randint(3, (size,), generator=generator)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class SharedLayer(nn.Module):
    """One layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class TiedWeights(nn.Module):
    """Two layers that own the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class TwoNames(nn.Module):
    """One layer, and one normalisation, each registered under two names; and two modules that share a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = self.first
        self.norm = nn.BatchNorm1d(6)
        self.again = self.norm
        self.other = nn.BatchNorm1d(6)
        self.other.running_mean = self.norm.running_mean
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.first(x)))
        return self.head(torch.tanh(self.other(self.again(self.second(x)))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Upsampler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 4, 3, stride=2, groups=2)
        self.head = nn.Conv2d(4, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.up(x))).mean((2, 3))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(),
                         nn.Flatten(), nn.Linear(24, 3))  # fmt: skip


def normalised() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


PROBLEMS = [
    Problem("dense", dense, (5,)),
    Problem("conv-and-groups", conv, (2, 4, 4)),
    Problem("conv1d", lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(9, 3)), (2, 5)),
    Problem("conv3d", lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(16, 3)), (1, 3, 3, 3)),
    Problem("transposed-conv", Upsampler, (2, 3, 3)),
    Problem("residual", lambda: nn.Sequential(Residual(), Residual(), nn.Linear(6, 3)), (6,)),
    Problem("batch-norm", normalised, (2, 4, 4), "batch"),
    Problem("running-norm", normalised, (2, 4, 4), "running"),
    Problem("layer-run-twice", SharedLayer, (6,)),
    Problem("tied-weights", TiedWeights, (6,)),
    Problem("module-of-two-names", TwoNames, (6,), "running"),
    Problem("attention", Attention, (4, 6)),
]

IDS = [problem.name for problem in PROBLEMS]
