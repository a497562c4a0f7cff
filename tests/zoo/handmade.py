"""Networks of a few lines, each with something that no library's model above has."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.architecture import Architecture, images


class Reader(nn.Module):
    """Tokens, an embedding, a recurrent network, and a class for each sentence."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 24)
        self.recurrent = kind(24, 32, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embed(x))[0].mean(1))


class UNet(nn.Module):
    """Down, up, and across: each level's map is put beside the one that comes up from below."""

    def __init__(self, width: int = 16, levels: int = 3) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(levels)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.join = nn.ModuleList(_double(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(width, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for i, level in enumerate(self.down):
            x = level(functional.max_pool2d(x, 2) if i else x)
            maps.append(x)
        for i in reversed(range(len(self.up))):
            x = self.join[i](torch.cat([maps[i], self.up[i](x)], 1))
        return self.head(x)


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)


class Shared(nn.Module):
    """A residual layer that runs three times, and a decoder of the encoder's weights, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.step = nn.Linear(64, 48), nn.Linear(48, 48)
        self.again = nn.Linear(64, 48, bias=False)
        self.again.weight = self.encode.weight
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        for _ in range(3):
            x = x + self.step(torch.tanh(x))
        return self.head(torch.tanh(self.again(functional.linear(x, self.encode.weight.t()))))


class Branching(nn.Module):
    """Loops and branches that depend on the data, structured arguments, and a way out in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.steps = nn.ModuleList(nn.Linear(32, 32) for _ in range(6))
        self.gate = nn.Linear(32, 1)
        self.heads = nn.ModuleDict({"early": nn.Linear(32, 10), "late": nn.Linear(32, 10)})

    def forward(self, parts: dict[str, Tensor], budget: int = 4) -> dict[str, Tensor]:
        x = torch.tanh(self.first(parts["left"] - parts["right"]))
        used = 0
        while used < budget and (used < 2 or bool((x.abs().mean() > 0.05).item())):
            x = x * torch.sigmoid(self.gate(x)) + functional.silu(self.steps[used](x))
            used += 1
        try:
            logits = self.heads["late" if used == budget else "early"](x)
        except KeyError:
            raise AssertionError("unreachable") from None
        return {"logits": logits, "used": torch.tensor(used)}


def branching_loss(model: nn.Module, batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
    parts, labels = batch
    return functional.cross_entropy(model(parts, budget=4)["logits"], labels)


def _pairs(generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
    parts = {side: torch.randn(4, 16, generator=generator) for side in ("left", "right")}
    return parts, torch.randint(10, (4,), generator=generator)


def _frozen() -> nn.Module:
    """A convolutional network whose first half is frozen, as a pretrained one would be."""
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )
    model[:4].requires_grad_(False)
    return model


def _compiled() -> nn.Module:
    from pruneinit.models import build

    return torch.compile(build("resnet8", input_shape=(3, 32, 32), classes=10, width=8), backend="aot_eager")


def _vectors(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(8, 64, generator=generator), torch.randint(10, (8,), generator=generator)


def _words(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(32, (4, 12), generator=generator), torch.randint(10, (4,), generator=generator)


def _segments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 32, 32, generator=generator), torch.randint(10, (2, 32, 32), generator=generator)


def _bfloat16_images(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = images(32)(generator)
    return x.bfloat16(), y


def _bfloat16() -> nn.Module:
    from pruneinit.models import build

    return build("vgg11", input_shape=(3, 32, 32), classes=10, width=16).bfloat16()


HANDMADE = [
    Architecture("LSTM", "here", lambda: Reader(nn.LSTM), _words, special="all its matrices are pruned"),
    Architecture("GRU", "here", lambda: Reader(nn.GRU), _words, special="all its matrices are pruned"),
    Architecture("U-Net", "here", UNet, _segments, norm="batch"),
    Architecture("shared layers", "here", Shared, _vectors, special="a layer that runs three times, and tied weights"),
    Architecture(
        "frozen half", "here", _frozen, images(32, 4), norm="running", special="its first four layers stay frozen"
    ),
    Architecture(
        "control flow",
        "here",
        Branching,
        _pairs,
        loss=branching_loss,
        inputs=lambda batch: (batch[0],),
        special="branches and loops that depend on the data, a dictionary in and out",
    ),
    Architecture("compiled ResNet8", "here", _compiled, images(32), norm="batch", special="under `torch.compile`"),
    Architecture("VGG11 in bfloat16", "here", _bfloat16, _bfloat16_images, norm="batch"),
]
