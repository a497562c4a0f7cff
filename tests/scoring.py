"""What the tests of all criteria ask: some masks, and whether a model is as it was."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import pruneinit as pi


def random_masks(model: nn.Module, seed: int = 3) -> pi.Masks:
    generator = torch.Generator().manual_seed(seed)
    return pi.Masks({n: torch.rand(w.shape, generator=generator) < 0.6 for n, w in pi.prunable(model).items()})


def snapshot(model: nn.Module) -> tuple:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [(module.training, len(module._forward_hooks)) for module in model.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    wanted = [p.requires_grad for p in model.parameters()]
    return state, modes, gradients, wanted, torch.get_rng_state()


def assert_untouched(model: nn.Module, before: tuple) -> None:
    state, modes, gradients, wanted, rng = before
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [(module.training, len(module._forward_hooks)) for module in model.modules()] == modes
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert torch.equal(torch.get_rng_state(), rng)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest score of each weight."""
    assert list(found) == list(expected)
    for name, score in expected.items():
        assert found[name].shape == score.shape
        assert (found[name] - score).abs().max() <= tolerance * score.abs().max(), name
