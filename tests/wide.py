"""Wide random networks, measured: what the theory is compared with."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

import pruneinit as pi

MODULES = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}


def mlp(widths: list[int], activation: str, sigma_w: float, sigma_b: float, seed: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.utils.skip_init(nn.Linear, inputs, outputs), MODULES[activation]()]
    generator = torch.Generator().manual_seed(seed)
    return pi.mean_field_(nn.Sequential(*layers[:-1]), sigma_w, sigma_b, generator=generator)


def batch(inputs: int, examples: int, classes: int, seed: int, correlation: float = 0.0) -> tuple[Tensor, Tensor]:
    """Inputs with mean square 1 and labels that have nothing to do with each other."""
    generator = torch.Generator().manual_seed(1000 + seed)
    shared, own = (torch.randn(n, inputs, generator=generator) for n in (1, examples))
    shared /= shared.square().mean().sqrt()  # so that the correlation is what it is to be
    x = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    return x, torch.randint(classes, (examples,), generator=generator)


def batch_signals(model: nn.Sequential, x: Tensor, y: Tensor) -> list[dict[str, float]]:
    """For each linear layer: q, c, the gradient's correlation between examples, and the SBP score's second moment."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    layers = [m for m in model if isinstance(m, nn.Linear)]
    handles = [m.register_forward_hook(keep) for m in layers]
    functional.cross_entropy(model(x), y, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    found = []
    for layer, output in zip(layers, outputs, strict=True):
        assert output.grad is not None
        assert layer.weight.grad is not None
        (q, c), (_, rho) = _same_and_correlation(output.detach()), _same_and_correlation(output.grad)
        moment = (layer.weight * layer.weight.grad / len(x)).square().mean().item()
        found.append({"q": q, "c": c, "rho": rho, "moment": moment})
    model.zero_grad()
    return found


def _same_and_correlation(rows: Tensor) -> tuple[float, float]:
    gram = rows @ rows.T / rows.shape[1]
    n = len(rows)
    same = gram.trace().item() / n
    return same, (gram.sum().item() / n - same) / (n - 1) / same


class ConvStack(nn.Module):
    """What `stack_signals` describes: convolutions, shortcuts, one linear layer on the flattened result."""

    def __init__(self, widths: list[int], activation: str, shape: pi.meanfield.Shape) -> None:
        super().__init__()
        mode = {"circular": "circular", "zeros": "zeros"}[shape.padding]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, shape.taps, padding=shape.taps // 2, padding_mode=mode)
            for a, b in itertools.pairwise(widths[:-1])
        )
        self.fc = nn.Linear(widths[-2] * shape.positions, widths[-1])
        self.activation = MODULES[activation]()
        self.residual = shape.residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs[0](x)
        factor = (len(self.convs) - 1) ** -0.5 if self.residual == "stable" else 1.0
        for conv in self.convs[1:]:
            z = conv(self.activation(y))
            y = z if self.residual == "none" else y + factor * z
        return self.fc(self.activation(y).flatten(1))
