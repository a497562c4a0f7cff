"""What the slow twins of second-order criteria share: plain models, plain masks, plain tolerances."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

import pruneinit as pi
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


def random_masks(model: nn.Module, seed: int = 3) -> pi.Masks:
    generator = torch.Generator().manual_seed(seed)
    return pi.Masks({n: torch.rand(w.shape, generator=generator) < 0.6 for n, w in pi.prunable(model).items()})


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert list(found) == list(expected)
    assert any(bool(score.any()) for score in expected.values())
    for name, score in expected.items():
        assert found[name].shape == score.shape
        assert (found[name] - score).abs().max() <= tolerance * score.abs().max(), name


def snapshot(model: nn.Module):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    return state, modes, hooks, [p.requires_grad for p in model.parameters()], torch.get_rng_state()


def assert_untouched(model: nn.Module, before) -> None:
    state, modes, hooks, trainable, rng = before
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)


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
