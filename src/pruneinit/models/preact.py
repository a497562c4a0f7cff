"""Pre-activation residual networks (He et al. 2016b) and wide ones (Zagoruyko and Komodakis 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruneinit.errors import InputError
from pruneinit.models.activations import Make, activation_module
from pruneinit.models.checks import Shape, blocks_per_stage, check_count, check_shape
from pruneinit.models.resnet import stage_plan


class PreActBlock(nn.Module):
    """Normalise, activate, convolve, twice, added to the block's input; nothing follows the sum.

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Make, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = activation()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = activation()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        ready = self.act1(self.bn1(x))
        branch: Tensor = self.conv2(self.dropout(self.act2(self.bn2(self.conv1(ready)))))
        return (x if self.shortcut is None else self.shortcut(ready)) + branch


class PreActResNet(nn.Module):
    """A convolution, three stages of `PreActBlock`, a last normalisation and activation, the mean, a classifier."""

    def __init__(
        self,
        input_shape: Shape,
        classes: int,
        blocks: int,
        stem: int,
        widths: tuple[int, int, int],
        activation: Make,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], stem, 3, 1, 1, bias=False)
        stages = [
            nn.Sequential(*(PreActBlock(i, o, stride, activation, dropout) for i, o, stride in stage))
            for stage in stage_plan(blocks, stem, widths)
        ]
        self.stage1, self.stage2, self.stage3 = stages
        self.bn = nn.BatchNorm2d(widths[-1])
        self.act = activation()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` to logits `[B, classes]`."""
        x = self.stage3(self.stage2(self.stage1(self.conv1(x))))
        logits: Tensor = self.fc(torch.flatten(self.pool(self.act(self.bn(x))), 1))
        return logits


def preact_resnet(
    input_shape: Shape, classes: int, *, depth: int = 32, width: int = 16, activation: str = "relu"
) -> PreActResNet:
    """The pre-activation variant of `resnet`, with basic blocks and projections where the shape changes.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, 6n+2.
        width: Channels w of the first stage; the others have 2w and 4w.
        activation: By name.

    Raises:
        InputError: A depth that is not 6n+2, a count below 1, an unknown activation.

    Example:
        >>> preact_resnet((3, 32, 32), 10, depth=20).stage1[0].shortcut is None
        True
    """
    check_count("width", width)
    return PreActResNet(
        check_shape(input_shape),
        check_count("classes", classes),
        blocks_per_stage("preact_resnet", depth, per_block=2, extra=2),
        width,
        (width, 2 * width, 4 * width),
        activation_module(activation),
    )


def wide_resnet(
    input_shape: Shape,
    classes: int,
    *,
    depth: int = 28,
    width: int = 10,
    activation: str = "relu",
    dropout: float = 0.0,
) -> PreActResNet:
    """WRN-depth-width of Zagoruyko and Komodakis 2016: stages of 16k, 32k and 64k channels.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Outputs.
        depth: Weight layers, 6n+4; three of them are the projections of the shortcuts.
        width: The widening factor k.
        activation: By name.
        dropout: Probability of dropping a value between the two convolutions of a block.

    Raises:
        InputError: A depth that is not 6n+4, a count below 1, a dropout outside [0, 1), an unknown activation.

    Example:
        >>> sum(p.numel() for p in wide_resnet((3, 32, 32), 10, depth=16, width=1).parameters())
        175066
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is a probability in [0, 1), got {dropout!r}")
    check_count("width", width)
    return PreActResNet(
        check_shape(input_shape),
        check_count("classes", classes),
        blocks_per_stage("wide resnet", depth, per_block=2, extra=4),
        16,
        (16 * width, 32 * width, 64 * width),
        activation_module(activation),
        dropout,
    )
