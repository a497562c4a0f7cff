"""Generated small networks, and their twin: positive weights, no biases, no nonlinearities, so that nothing cancels."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pruneinit as pi


@dataclass
class Step:
    kind: str
    sources: list[int]
    module: nn.Module | None = None
    number: int = 0


class Net(nn.Module):
    """A directed graph of layers over maps [N, C, H, W], and a linear head."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        self.shape = (draw.choice([1, 2, 4]), draw.randint(1, 5), draw.randint(1, 5))
        self.steps: list[Step] = []
        values = [torch.zeros(1, *self.shape)]
        while len(self.steps) < draw.randint(4, 9):
            step = propose(draw, values)
            try:
                if step.module is not None:
                    step.module.eval()
                value = real(step, [values[i] for i in step.sources])
            except (RuntimeError, ValueError):  # a kernel larger than its map, or nothing to normalise
                continue
            if 0 < value.numel() <= 160:
                self.steps.append(step)
                values.append(value)
        used = {i for step in self.steps for i in step.sources}
        ends = [i for i in range(len(values)) if i not in used]
        size = sum(values[i].numel() for i in ends)
        self.steps.append(Step("head", ends, nn.Linear(size, 3)))
        self.layers = nn.ModuleList(step.module or nn.Identity() for step in self.steps)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            values.append(real(step, [values[i] for i in step.sources]))
        return values[-1]

    def twin(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """The output where each layer has the given positive weights and everything else only passes on or adds."""
        values = [x]
        for i, step in enumerate(self.steps):
            values.append(plain(step, [values[j] for j in step.sources], weights.get(f"layers.{i}.weight")))
        return values[-1]


KINDS = (
    *("conv", "conv", "conv", "transposed", "pool", "norm", "act", "add", "add", "cat", "slice"),
    *("mean", "resize", "permute", "places", "shuffle"),
)


def propose(draw: random.Random, values: list[Tensor]) -> Step:
    # Mostly what came last, so that the networks are deep.
    source = draw.choice([len(values) - 1, len(values) - 1, draw.randrange(len(values))])
    channels = values[source].shape[1]
    kind = draw.choice(KINDS)
    kernel, stride, dilation = draw.randint(1, 3), draw.randint(1, 2), draw.randint(1, 2)
    groups = draw.choice([g for g in (1, 2, 4) if channels % g == 0])
    outputs = groups * draw.randint(1, 2)
    pad = draw.randint(0, 2)
    bias = draw.random() < 0.5
    if kind == "conv":
        module = nn.Conv2d(channels, outputs, kernel, stride, pad, dilation, groups, bias)
    elif kind == "transposed":
        module = nn.ConvTranspose2d(channels, outputs, kernel, stride, min(pad, kernel - 1), 0, groups, bias)
    elif kind == "pool":
        half = draw.randint(0, kernel // 2)
        module = draw.choice([
            nn.MaxPool2d(kernel, stride, half, dilation, ceil_mode=draw.random() < 0.5),
            nn.AvgPool2d(kernel, stride, half, ceil_mode=draw.random() < 0.5),
        ])  # fmt: skip
    elif kind == "norm":
        module = draw.choice([nn.BatchNorm2d(channels), nn.GroupNorm(1, channels)])
    elif kind == "act":
        module = draw.choice([nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.GELU(), nn.Dropout(0.5), nn.Sigmoid()])
    else:
        module = None
    sources = [source]
    if kind == "add":
        sources.append(draw.choice([i for i, v in enumerate(values) if v.shape == values[source].shape]))
    if kind == "cat":
        sources.append(draw.choice([i for i, v in enumerate(values) if v.shape[2:] == values[source].shape[2:]]))
    return Step(kind, sources, module, draw.randint(0, channels - 1))


def real(step: Step, inputs: list[Tensor]) -> Tensor:
    if step.kind == "head":
        return step.module(torch.cat([v.flatten(1) for v in inputs], 1))
    if step.kind == "act":  # a copy, since what another layer reads must not be changed in place
        return step.module(inputs[0].clone())
    return moved(step, inputs) if step.module is None else step.module(inputs[0])


def plain(step: Step, inputs: list[Tensor], weight: Tensor | None) -> Tensor:
    layer = step.module
    if step.kind == "head":
        return torch.cat([v.flatten(1) for v in inputs], 1) @ weight.t()
    if step.kind == "conv":
        return F.conv2d(inputs[0], weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    if step.kind == "transposed":
        return F.conv_transpose2d(inputs[0], weight, None, layer.stride, layer.padding, 0, layer.groups)
    if step.kind == "pool" and isinstance(layer, nn.MaxPool2d):
        return windows(layer, inputs[0])
    if step.kind == "pool":
        return layer(inputs[0])
    return inputs[0] if step.kind in ("norm", "act") else moved(step, inputs)


def windows(pool: nn.MaxPool2d, x: Tensor) -> Tensor:
    """The sum over each window of a pooling, element by element."""
    out = torch.zeros(pool(x).shape, dtype=x.dtype)
    for i, j in torch.cartesian_prod(torch.arange(out.shape[2]), torch.arange(out.shape[3])).tolist():
        for a in range(pool.kernel_size):
            for b in range(pool.kernel_size):
                row = i * pool.stride - pool.padding + a * pool.dilation
                column = j * pool.stride - pool.padding + b * pool.dilation
                if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                    out[:, :, i, j] += x[:, :, row, column]
    return out


def moved(step: Step, inputs: list[Tensor]) -> Tensor:
    """Steps without a module, which are linear and positive already."""
    x = inputs[0]
    if step.kind == "add":
        return x + inputs[1]
    if step.kind == "cat":
        return torch.cat(inputs, 1)
    if step.kind == "slice":
        return x[:, step.number :, :: 1 + step.number % 2]
    if step.kind == "mean":
        return x.mean((2, 3), keepdim=True)
    if step.kind == "resize":
        return F.interpolate(x, scale_factor=2)
    if step.kind == "permute":
        return x.transpose(2, 3).flip(2).contiguous()
    if step.kind == "places":
        return x.permute(0, 2, 3, 1).reshape(1, -1, 1, x.shape[1])
    return x.roll(step.number, 1)


def live(model: nn.Module, x: Tensor, masks: dict | None = None) -> pi.Masks:
    """The live weights of a model of one input, all of whose outputs count; whole where no mask is given."""
    whole = {name: torch.ones(found.shape).bool() for name, found in pi.prunable(model).items()}
    chosen = whole | {name: torch.as_tensor(mask).bool() for name, mask in (masks or {}).items()}
    return pi.effective_masks(model, [(x,)], pi.Masks(chosen), loss=lambda net, batch: net(*batch))
