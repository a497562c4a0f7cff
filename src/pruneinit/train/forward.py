"""How the model is called: precision, memory order, compilation. And the optimizer that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from pruneinit.train.config import Training

Forward = Callable[[Tensor], Tensor]


def place_(model: nn.Module, training: Training, device: torch.device) -> nn.Module:
    """Move `model` to `device`, into the memory order that the settings ask for. Parameters stay the same objects."""
    model.to(device)
    if training.channels_last:
        # Typed for devices and dtypes only; it acts on the four-dimensional tensors and leaves the others.
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def make_forward(model: nn.Module, training: Training, device: torch.device) -> Forward:
    """A function from normalised images [B, C, H, W] to the model's outputs in float32, under the settings.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> make_forward(model, Training(amp="bf16"), torch.device("cpu"))(torch.ones(2, 1, 2, 2)).dtype
        torch.float32
    """
    call = cast(Forward, torch.compile(model) if training.compile else model)
    reduced = training.amp == "bf16"

    def forward(x: Tensor) -> Tensor:
        if training.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            return call(x).float()

    return forward


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer over every trainable parameter of `model`, tied ones once, in the order of their names.

    Call it once the model is on its device and in its memory order.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    # One kernel over all parameters: a step of a net of 60 small tensors on one CPU core took 0.18 instead of 1.0 ms
    # (SGD), 0.45 instead of 2.7 ms (AdamW).
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=training.lr, weight_decay=training.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters,
        lr=training.lr,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
        fused=fused,
    )


def set_rate_(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters, in its place where it is a tensor.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=torch.tensor(0.1))
        >>> set_rate_(optimizer, 0.5)
        >>> optimizer.param_groups[0]["lr"]
        tensor(0.5000)
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
