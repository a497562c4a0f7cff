"""The residual networks for small images of He et al. 2016: 6n+2 layers in three stages of basic blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pruneinit.errors import unknown
from pruneinit.models.activations import Make, activation_module
from pruneinit.models.checks import Shape, blocks_per_stage, check_count, check_shape

Shortcut = Callable[[int, int, int], nn.Module]


class PadShortcut(nn.Module):
    """Option A of He et al. 2016: take every second pixel, add channels of zeros. It has no parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.extra = outputs - inputs
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`, rounded up."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to the block's input; the activation follows the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Make, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = activation()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        branch: Tensor = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        y: Tensor = self.act2(self.shortcut(x) + branch)
        return y


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B of He et al. 2016: a 1x1 convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


_SHORTCUTS: dict[str, Shortcut] = {"projection": projection, "padding": PadShortcut}


class ResNet(nn.Module):
    """The network `resnet` builds: a convolution, three stages, the mean over all pixels, a linear classifier."""

    def __init__(
        self, input_shape: Shape, classes: int, blocks: int, width: int, activation: Make, shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = activation()
        stages = [
            nn.Sequential(*(BasicBlock(i, o, stride, activation, shortcut) for i, o, stride in stage))
            for stage in stage_plan(blocks, width, (width, 2 * width, 4 * width))
        ]
        self.stage1, self.stage2, self.stage3 = stages
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to logits `[B, classes]`."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.fc(torch.flatten(self.pool(x), 1))
        return logits


def stage_plan(blocks: int, stem: int, widths: tuple[int, int, int]) -> Iterator[list[tuple[int, int, int]]]:
    """(inputs, outputs, stride) of each block, stage by stage; the second and third stage begin with stride 2.

    Example:
        >>> list(stage_plan(1, 16, (16, 32, 64)))
        [[(16, 16, 1)], [(16, 32, 2)], [(32, 64, 2)]]
    """
    inputs = stem
    for stage, width in enumerate(widths):
        first = (inputs, width, 1 if stage == 0 else 2)
        yield [first, *[(width, width, 1)] * (blocks - 1)]
        inputs = width


def resnet(
    input_shape: Shape,
    classes: int,
    *,
    depth: int = 32,
    width: int = 16,
    activation: str = "relu",
    shortcut: str = "projection",
) -> ResNet:
    """The residual network of He et al. 2016 for small images, with widths w, 2w, 4w.

    "Robust Pruning at Initialization" uses depths 32, 50 and 104 with width 32.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, 6n+2, without the shortcuts' projections.
        width: Channels of the first stage.
        activation: By name.
        shortcut: Where the shape changes, `"projection"` (1x1 convolution and batch normalisation, option B) or
            `"padding"` (zeros, option A).

    Raises:
        InputError: A depth that is not 6n+2, a count below 1, an unknown shortcut or activation.

    Example:
        >>> model = resnet((3, 32, 32), 10, depth=20, shortcut="padding")
        >>> sum(p.numel() for p in model.parameters())
        269722
    """
    if shortcut not in _SHORTCUTS:
        raise unknown("shortcut", shortcut, _SHORTCUTS)
    return ResNet(
        check_shape(input_shape),
        check_count("classes", classes),
        blocks_per_stage("resnet", depth, per_block=2, extra=2),
        check_count("width", width),
        activation_module(activation),
        _SHORTCUTS[shortcut],
    )
