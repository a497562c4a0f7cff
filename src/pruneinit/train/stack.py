"""Fully connected networks of the same sizes as one: each layer a single product for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruneinit.reparametrize import factor, set_stored_, stored
from pruneinit.survivors import survivors_of
from pruneinit.train import products
from pruneinit.train.products import Survived
from pruneinit.weights import weight

_SPARSE = 0.6
"""Below this density a product by survivors is faster (measured with 100 x 100 weights, 128 examples, one thread)."""


@dataclass(frozen=True)
class Rates:
    """The settings of one step of SGD, and its learning rate."""

    lr: float
    momentum: float
    nesterov: bool
    decay: float


@dataclass(frozen=True)
class Layer:
    """The layers of K networks at one depth, with their gradients by hand: all large tensors are made once.

    A weight is kept with its fixed factor ρ multiplied in, u = ρ w. A step of SGD on w is one on u whose gradient is
    multiplied by ρ²; `pace` does that. Where a weight is pruned it is 0.

    Attributes:
        values: The weights: [K, out, in], or the survivors of all, [kept], where `sparse` says their places.
        bias: [K, out, 1].
        rate: The learning rate of each network in parts of a common one; broadcasts against `values`.
        bias_rate: The same, [K, 1, 1].
        pace: What gradients of `values` are multiplied by: ρ² and `rate`; likewise.
        speed: The momentum of `values`.
        bias_speed: The momentum of `bias`.
        gradient: Where the gradient of `values` is made; layers of the same size share it.
        sparse: The matrix of survivors, or None.
    """

    values: Tensor
    bias: Tensor
    rate: Tensor
    bias_rate: Tensor
    pace: Tensor
    speed: Tensor
    bias_speed: Tensor
    gradient: Tensor
    sparse: Survived | None

    def forward(self, h: Tensor, out: Tensor) -> None:
        """Write pre-activations to `out` [K, out, B], of activations [K, in, B] or images [in, B] that all share."""
        count, rows, _ = self.bias.shape
        if self.sparse is not None:
            self.sparse.forward(self.values, self.bias.view(-1), _flat(h), _flat(out))
        elif h.dim() == 2:
            torch.addmm(self.bias.view(-1, 1), self.values.view(count * rows, -1), h, out=_flat(out))
        else:
            torch.baddbmm(self.bias, self.values, h, out=out)

    def backward(self, g: Tensor, h: Tensor, out: Tensor | None) -> None:
        """Make the gradient of `values` from that of the pre-activations, and write that of `h` to `out`, if asked."""
        if self.sparse is not None:
            self.sparse.gradient(_flat(g), _flat(h), self.gradient)
            if out is not None:
                self.sparse.back(self.values, _flat(g), _flat(out))
        elif h.dim() == 2:
            torch.mm(_flat(g), h.t(), out=_flat(self.gradient))
        else:
            torch.bmm(g, h.transpose(1, 2), out=self.gradient)
            if out is not None:
                torch.bmm(self.values.transpose(1, 2), g, out=out)

    def step(self, g: Tensor, by: Rates) -> None:
        """One step of SGD, after `backward` of the gradient `g` of the pre-activations."""
        _step(self.values, self.gradient.mul_(self.pace), self.speed, self.rate, by)
        _step(self.bias, g.sum(2, keepdim=True).mul_(self.bias_rate), self.bias_speed, self.bias_rate, by)


def _step(values: Tensor, gradient: Tensor, speed: Tensor, rate: Tensor, by: Rates) -> None:
    if by.decay:
        gradient.addcmul_(values, rate, value=by.decay)
    speed.mul_(by.momentum).add_(gradient)
    if by.nesterov:
        values.add_(gradient, alpha=-by.lr).add_(speed, alpha=-by.lr * by.momentum)
    else:
        values.add_(speed, alpha=-by.lr)


def _flat(tensor: Tensor) -> Tensor:
    """[K, n, B] as [K n, B]."""
    return tensor.view(-1, tensor.shape[-1])


def layers_of(model: nn.Module) -> list[nn.Linear] | None:
    """The linear layers of a fully connected network, as `mlp` builds them; None for any other model.

    That is a `Flatten`, and linear layers with biases, between which there is one activation without parameters;
    everything is trained.

    Example:
        >>> layers_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)))
        [Linear(in_features=4, out_features=3, bias=True), Linear(in_features=3, out_features=2, bias=True)]
        >>> layers_of(nn.Linear(4, 2))
    """
    if type(model) is not nn.Sequential or len(model) < 2 or type(model[0]) is not nn.Flatten or len(model) % 2:
        return None
    linear, activations = list(model)[1::2], list(model)[2::2]
    if not all(isinstance(layer, nn.Linear) and layer.bias is not None for layer in linear):
        return None
    if not all(parameter.requires_grad for parameter in model.parameters()):
        return None
    if len({repr(one) for one in activations}) > 1 or any(list(one.parameters()) for one in activations):
        return None
    return [layer for layer in linear if isinstance(layer, nn.Linear)]


def modules_of(model: nn.Module) -> list[nn.Module]:
    """The modules of a network that `layers_of` knows, in order."""
    return list(model.children())


def names_of(model: nn.Module) -> list[str]:
    """The names of the weights of `layers_of(model)`."""
    layers = set(layers_of(model) or ())
    return [f"{name}.weight" for name, module in model.named_modules() if module in layers]


def stacked(models: Sequence[nn.Module], rates: Sequence[float]) -> list[Layer]:
    """The layers of fully connected networks of the same sizes, pruned or not.

    Args:
        models: `layers_of` knows each of them.
        rates: The learning rate of each in parts of a common one.
    """
    gradients: dict[torch.Size, Tensor] = {}
    names = list(zip(*map(names_of, models), strict=True))
    return [_layer(models, own, rates, gradients, shared=depth == 0) for depth, own in enumerate(names)]


def _layer(
    models: Sequence[nn.Module],
    names: Sequence[str],
    rates: Sequence[float],
    gradients: dict[torch.Size, Tensor],
    *,
    shared: bool,
) -> Layer:
    members = list(zip(models, names, strict=True))
    weights = torch.stack([weight(model, name).detach() for model, name in members])
    bias = torch.stack([stored(model, _bias(name)).detach() for model, name in members])[..., None]
    bias_rate = torch.tensor(rates, dtype=weights.dtype, device=weights.device)[:, None, None]
    squares = [factor(model, name).to(weights.dtype).square().expand(weights[0].shape) for model, name in members]
    survivors = [survivors_of(model, name) for model, name in members]
    kept = torch.stack([torch.ones_like(w, dtype=torch.bool) if s is None else s.mask
                        for w, s in zip(weights, survivors, strict=True)])  # fmt: skip
    pace, rate = torch.stack(squares) * bias_rate * kept, bias_rate
    survived = None
    if _sparsely(kept, weights):
        survived = Survived.of(kept, shared=shared)
        weights, pace, rate = weights[kept], pace[kept], rate.expand_as(pace)[kept]
        gradient = torch.empty_like(weights)
    else:
        gradient = gradients.setdefault(weights.shape, torch.empty_like(weights))
    speed, bias_speed = torch.zeros_like(weights), torch.zeros_like(bias)
    return Layer(weights, bias, rate, bias_rate, pace, speed, bias_speed, gradient, survived)


def _sparsely(kept: Tensor, weights: Tensor) -> bool:
    """Whether products by survivors are faster, and there are any."""
    known = weights.device.type == "cpu" and weights.dtype in products.DTYPES
    return known and products.available() and 0 < float(kept.double().mean()) < _SPARSE


def put_back_(layers: Sequence[Layer], at: int, model: nn.Module) -> None:
    """Write what the layers learnt into the `at`-th network that they were stacked from, without the fixed factors."""
    for layer, name in zip(layers, names_of(model), strict=True):
        learnt = _weight(layer, at) / factor(model, name).to(layer.values.dtype)
        survivors = survivors_of(model, name)
        set_stored_(model, name, learnt.clone() if survivors is None else survivors.gather(learnt))
        set_stored_(model, _bias(name), layer.bias[at, :, 0].clone())


def _weight(layer: Layer, at: int) -> Tensor:
    if layer.sparse is None:
        return layer.values[at]
    kept = layer.sparse.kept
    start, own = int(kept[:at].sum()), int(kept[at].sum())
    return layer.values.new_zeros(kept[at].shape).masked_scatter_(kept[at], layer.values[start : start + own])


def _bias(name: str) -> str:
    return f"{name.removesuffix('weight')}bias"
