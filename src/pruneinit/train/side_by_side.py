"""Many small fully connected networks trained side by side: the numbers of training each alone, in less time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pruneinit.data import Dataset, Split, batches
from pruneinit.errors import InputError
from pruneinit.seeds import derived
from pruneinit.train.config import Training
from pruneinit.train.evaluate import evaluate
from pruneinit.train.pointwise import activate_, back_, needs_slope
from pruneinit.train.records import Epoch
from pruneinit.train.schedule import learning_rate
from pruneinit.train.stack import Layer, Rates, layers_of, modules_of, put_back_, stacked

_LOOKS = 20  # as in loop.py, whose records these are


def train_side_by_side(
    models: Sequence[nn.Module], dataset: Dataset, trainings: Sequence[Training], *, seed: int
) -> list[list[Epoch]]:
    """Train fully connected networks of the same sizes in place, as `train` would train each of them.

    One step is one product a layer for all networks; on a CPU, products of layers of which less than 60 % is left leave
    out the zeros, if numba is there.
    The numbers are those of `train` but for rounding: sums are taken in another order, and numbers below the smallest
    normal one (1.2e-38) are zero.

    Args:
        models: As `models.mlp` builds them, pruned and rescaled or not, on the device of the data.
        dataset: Its train split is learnt; validation (if there is one) and test split are evaluated.
        trainings: The settings of each. They differ in `lr` alone, and use SGD in float32 without `clip_norm`.
        seed: 0 or more: of all networks, which see the same images in the same order.

    Returns:
        For each network its records, one an epoch. Where the loss stopped being finite, the last record is marked
        `diverged` and the list ends early. `seconds` are shares of what all took together.

    Raises:
        InputError: These networks or settings cannot be trained side by side (`stackable`).

    Example:
        >>> from pruneinit.models import mlp
        >>> images = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).view(16, 1, 1, 1).expand(16, 1, 2, 2)
        >>> split = Split(images, torch.tensor([0, 1]).repeat(8))
        >>> data = Dataset("black or white", split, split, ("black", "white"), mean=(0.5,), std=(0.5,))
        >>> models = [mlp((1, 2, 2), 2, depth=2, width=4, activation="tanh") for _ in range(3)]
        >>> trainings = [Training(epochs=4, batch_size=4, lr=lr) for lr in (0.1, 0.2, 0.3)]
        >>> [records[-1].test_accuracy for records in train_side_by_side(models, data, trainings, seed=0)]
        [1.0, 1.0, 1.0]
    """
    if fault := _fault(models, trainings):
        raise InputError(f"{fault}: train these networks one by one")
    records: list[list[Epoch]] = [[] for _ in models]
    with _without_subnormals(), torch.no_grad():
        job = _job(models, dataset, trainings, seed)
        for epoch in range(1, trainings[0].epochs + 1):
            for own, record in zip(records, _epoch(job, epoch), strict=True):
                own += [record] if record is not None else []
            if job.over.all():
                break
    for at, model in enumerate(models):
        if not job.over[at]:
            put_back_(job.layers, at, model)
    return records


def stackable(models: Sequence[nn.Module], trainings: Sequence[Training]) -> bool:
    """Whether `train_side_by_side` can train these networks with these settings.

    Example:
        >>> from pruneinit.models import mlp
        >>> models = [mlp((1, 2, 2), 2, depth=depth, width=4) for depth in (2, 2, 3)]
        >>> stackable(models[:2], [Training(lr=0.1), Training(lr=0.2)]), stackable(models, [Training()] * 3)
        (True, False)
    """
    return not _fault(models, trainings)


def _fault(models: Sequence[nn.Module], trainings: Sequence[Training]) -> str:
    if not models or len(models) != len(trainings):
        return f"as many settings as networks are needed, and at least one, got {len(trainings)} and {len(models)}"
    if any(layers_of(model) is None for model in models) or len({_shape(model) for model in models}) > 1:
        return "they are not fully connected networks of the same sizes, dtype and activation"
    if len({replace(training, lr=1.0) for training in trainings}) > 1:
        return "their settings differ in more than the learning rate"
    return "" if can_share(trainings[0]) else "they are not trained by SGD in full precision without clip_norm"


def can_share(training: Training) -> bool:
    """Whether networks with these settings can be trained side by side.

    Example:
        >>> can_share(Training()), can_share(Training(optimizer="adamw"))
        (True, False)
    """
    return training.optimizer == "sgd" and training.amp == "none" and training.clip_norm is None


def _shape(model: nn.Module) -> tuple[object, ...]:
    layers = layers_of(model) or []
    sizes = tuple((layer.weight.shape, layer.weight.dtype) for layer in layers)
    return (*sizes, repr(modules_of(model)[2:3]))


@dataclass(frozen=True)
class _Job:
    """What every epoch needs.

    Attributes:
        rates: The learning rate of each network in parts of the common one, [K].
        over: Which networks have diverged. They are computed on with the others, and looked at no more.
        room: For each layer flat tensors of K out B numbers: activations, gradients, slopes. They are made once: memory
            that is new at each step took most of a step's time.
    """

    models: Sequence[nn.Module]
    layers: Sequence[Layer]
    activation: nn.Module
    data: Dataset
    training: Training
    rates: Tensor
    seed: int
    over: Tensor
    room: Sequence[Sequence[Tensor]]

    def buffers(self, kind: int, size: int) -> list[Tensor]:
        """The tensors of one kind, [K, out, size]."""
        count = len(self.models)
        shapes = [(count, layer.bias.shape[1], size) for layer in self.layers]
        return [flat[: math.prod(shape)].view(shape) for flat, shape in zip(self.room[kind], shapes, strict=True)]


def _job(models: Sequence[nn.Module], data: Dataset, trainings: Sequence[Training], seed: int) -> _Job:
    training, activation = trainings[0], next(iter(modules_of(models[0])[2::2]), nn.Identity())
    rates = [one.lr / training.lr for one in trainings]
    layers = stacked(models, rates)
    like = layers[0].bias
    sizes = [layer.bias.numel() * training.batch_size for layer in layers]
    turns = [like.new_empty(max(sizes)) for _ in range(2)]  # a layer's gradient is over once that before it is made
    room = (
        [like.new_empty(size) for size in sizes],
        [turns[depth % 2] for depth in range(len(sizes))],
        [like.new_empty(size) for size in sizes] if needs_slope(activation) else [],
    )
    pace = torch.tensor(rates, dtype=like.dtype, device=like.device)
    over = torch.zeros(len(models), dtype=torch.bool)
    return _Job(models, layers, activation, data, training, pace, seed, over, room)


def _epoch(job: _Job, epoch: int) -> list[Epoch | None]:
    """One pass, and the records of the networks that had not diverged before."""
    start, training, images = time.perf_counter(), job.training, len(job.data.train)
    steps = math.ceil(images / training.batch_size)
    every = max(1, steps // _LOOKS)
    records: list[Epoch | None] = [None] * len(job.models)
    sums = torch.zeros(2, len(job.models), dtype=torch.float64, device=job.rates.device)
    generator = torch.Generator().manual_seed(derived(job.seed, epoch))
    shares = batches(job.data.train, job.data, training.batch_size, generator=generator, augment=training.augment)
    going, lr = int((~job.over).sum()), 0.0
    for done, (x, y) in enumerate(shares, start=1):
        lr = learning_rate((epoch - 1) * steps + done - 1, steps, training)
        _step(job, x, y, lr, sums)
        if done % every == 0 or done == steps:
            seen = min(done * training.batch_size, images)
            for at in (~sums[0].isfinite().cpu() & ~job.over).nonzero().flatten().tolist():
                job.over[at] = True
                put_back_(job.layers, at, job.models[at])
                alone = [_alone(job, at, split) for split in (job.data.validation, job.data.test)]
                records[at] = _record(job, at, epoch, lr, sums / seen, alone)
            if job.over.all():
                break
    validation, test = _evaluated(job, job.data.validation), _evaluated(job, job.data.test)
    for at in (~job.over).nonzero().flatten().tolist():
        found = [one[at] if one else None for one in (validation, test)]
        records[at] = _record(job, at, epoch, lr, sums / images, found)
    seconds = (time.perf_counter() - start) / going
    return [None if record is None else replace(record, seconds=seconds) for record in records]


def _step(job: _Job, x: Tensor, y: Tensor, lr: float, sums: Tensor) -> None:
    """One update of all networks from a batch of images; adds their losses and hits to `sums`."""
    training = job.training
    images = _columns(job, x)
    activations, gradients = job.buffers(0, len(y)), job.buffers(1, len(y))
    slopes = job.buffers(2, len(y)) if needs_slope(job.activation) else [None] * len(job.layers)
    h = images
    for layer, a, slope in zip(job.layers, activations, slopes, strict=True):
        layer.forward(h, a)
        h = a if layer is job.layers[-1] else activate_(a, job.activation, slope)
    losses, gradient = _loss(h, y, training.label_smoothing)
    gradients[-1].copy_(gradient)
    sums[0] += losses
    sums[1] += (h.argmax(1) == y).sum(1)
    by = Rates(lr, training.momentum, training.nesterov, training.weight_decay)
    for depth in range(len(job.layers) - 1, -1, -1):
        layer, g = job.layers[depth], gradients[depth]
        if depth:
            layer.backward(g, activations[depth - 1], gradients[depth - 1])
            back_(gradients[depth - 1], job.activation, activations[depth - 1], slopes[depth - 1])
        else:
            layer.backward(g, images, None)
        layer.step(g, by)


def _loss(scores: Tensor, y: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of each network [K], and the gradient of its mean with respect to the scores."""
    with torch.enable_grad():
        leaf = scores.detach().requires_grad_()
        targets = y.expand(len(scores), -1)
        losses = functional.cross_entropy(leaf, targets, reduction="none", label_smoothing=smoothing).sum(1)
        (gradient,) = torch.autograd.grad(losses.sum() / len(y), leaf)
    return losses.detach(), gradient


def _columns(job: _Job, x: Tensor) -> Tensor:
    """Images [B, C, H, W] as [C H W, B]."""
    return x.flatten(1).t().to(job.rates.dtype).contiguous()


def _alone(job: _Job, at: int, split: Split | None) -> tuple[float, float] | None:
    """Loss and accuracy of one network."""
    return None if split is None else evaluate(job.models[at], split, job.data, job.training.batch_size)


def _evaluated(job: _Job, split: Split | None) -> list[tuple[float, float]] | None:
    """Loss and accuracy of each network."""
    if split is None:
        return None
    sums = torch.zeros(2, len(job.models), dtype=torch.float64, device=job.rates.device)
    for x, y in batches(split, job.data, job.training.batch_size):
        h = _columns(job, x)
        for layer, a in zip(job.layers, job.buffers(1, len(y)), strict=True):
            layer.forward(h, a)
            h = a if layer is job.layers[-1] else activate_(a, job.activation)
        targets = y.expand(len(job.rates), -1)
        sums[0] += functional.cross_entropy(h.double(), targets, reduction="none").sum(1)
        sums[1] += (h.argmax(1) == targets).sum(1)
    return [(loss, accuracy) for loss, accuracy in (sums.t() / len(split)).tolist()]


def _record(
    job: _Job, at: int, epoch: int, lr: float, means: Tensor, found: Sequence[tuple[float, float] | None]
) -> Epoch:
    validation, test = found[0] or (None, None), found[1] or (math.nan, math.nan)
    loss, accuracy = means[:, at].tolist()
    return Epoch(
        epoch=epoch,
        lr=lr * float(job.rates[at]),
        train_loss=loss,
        train_accuracy=accuracy,
        validation_loss=validation[0],
        validation_accuracy=validation[1],
        test_loss=test[0],
        test_accuracy=test[1],
        seconds=0.0,
        diverged=bool(job.over[at]),
    )


@contextmanager
def _without_subnormals() -> Iterator[None]:
    """Numbers below the smallest normal one are zero: with them, a step where the signal vanishes took 7x the time."""
    before = float(torch.tensor(1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
