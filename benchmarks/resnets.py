"""The residual networks for large images (He et al. 2016), which the papers on pruning use on Tiny-ImageNet too."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """A basic block (two 3x3 convolutions) or a bottleneck (1x1, 3x3, 1x1 with four times the channels)."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        kernels = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
        if not bottleneck:
            kernels = [(inputs, width, 3), (width, width, 3)]
        strided = 1 if bottleneck else 0
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, k, stride if i == strided else 1, k // 2, bias=False) for i, (a, b, k) in enumerate(kernels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _ in kernels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        y = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(functional.relu(y) if i else y))
        return functional.relu(y + self.shortcut(x))


def resnet(blocks: tuple[int, int, int, int], classes: int, *, bottleneck: bool, stem: int = 3) -> nn.Sequential:
    """ResNet18 for `(2, 2, 2, 2)`, ResNet50 for `(3, 4, 6, 3)` with bottlenecks; a stem of 3x3 (stride 1) or 7x7."""
    stride = 1 if stem == 3 else 2
    layers: list[nn.Module] = [nn.Conv2d(3, 64, stem, stride, stem // 2, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    if stem != 3:
        layers.append(nn.MaxPool2d(3, 2, 1))
    inputs = 64
    for stage, (count, width) in enumerate(zip(blocks, WIDTHS, strict=True)):
        for i in range(count):
            layers.append(Block(inputs, width, 2 if stage and i == 0 else 1, bottleneck))
            inputs = 4 * width if bottleneck else width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def resnet18(classes: int) -> nn.Sequential:
    """ResNet18 with a 3x3 stem and no pooling after it."""
    return resnet((2, 2, 2, 2), classes, bottleneck=False)


def resnet50(classes: int) -> nn.Sequential:
    """ResNet50 as for ImageNet, 25.5 million weights."""
    return resnet((3, 4, 6, 3), classes, bottleneck=True, stem=7)


def published_init_(model: nn.Module) -> nn.Module:
    """Convolutions Kaiming-normal by fan-out, the classifier N(0, 0.01²): the initialisation of the published runs."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(cast(Tensor, module.bias))
    return model
