"""What the slow twins of second-order criteria share: plain models, plain masks, plain tolerances."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from problems import Problem


def plain_model(problem: Problem, masks: dict[str, Tensor] | None = None) -> nn.Module:
    """The model of a problem in the modes of scoring, its removed weights set to 0."""
    model = problem.model().eval()
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.train(problem.norm == "batch")
    for name, mask in (masks or {}).items():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data * mask
    return model


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(1))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=False)


class OnceOnly(torch.autograd.Function):
    """A function whose derivative cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


class Coarse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(OnceOnly.apply(self.layer(x))))


class Half(nn.Module):
    """A model that does not use one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(torch.tanh(self.first(x)))


class Watched(nn.Module):
    """Counts, at the start of each forward pass, the graphs of earlier ones that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.values: list = []
        self.held = 0

    def forward(self, x: Tensor) -> Tensor:
        import weakref

        self.held = max(self.held, sum(value() is not None for value in self.values))
        hidden = Remembered.apply(torch.tanh(self.layer(x)), self.values)
        self.values.append(weakref.ref(hidden.grad_fn))
        return self.head(hidden)


class Remembered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, values):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
