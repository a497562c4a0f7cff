"""The training loop: epochs that are pure functions of (weights, seed, number of the epoch)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pruneinit.data import Dataset, Split, batches
from pruneinit.errors import InputError
from pruneinit.seeds import derived
from pruneinit.train.by_survivors import by_survivors
from pruneinit.train.check import check_fit
from pruneinit.train.checkpoint import Saved, identity, read, remove_parts, restore_, save
from pruneinit.train.config import Training
from pruneinit.train.distributed import World, distributed, parallel, sync_buffers, together, total
from pruneinit.train.evaluate import evaluate
from pruneinit.train.forward import Forward, make_forward, make_optimizer, place_, set_rate_
from pruneinit.train.graphs import CudaGraph, Repeated, Step
from pruneinit.train.modes import mode
from pruneinit.train.records import Epoch
from pruneinit.train.schedule import learning_rate

OnStart = Callable[[int], None]
OnEpoch = Callable[[Epoch], None]
OnStep = Callable[[int, int, int, float], None]

# How often an epoch looks at its loss: each look makes a GPU wait.
_LOOKS = 20
# Where looks are far apart, the caller still hears this often, in seconds, how far the epoch is.
_SILENCE = 5.0


def train(
    model: nn.Module,
    dataset: Dataset,
    training: Training,
    *,
    seed: int,
    device: str | torch.device | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    on_start: OnStart | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
) -> list[Epoch]:
    """Train `model` in place with cross-entropy, and evaluate it after every epoch.

    The result is a function of the model's values, the data, `training` and `seed`: the caller's random state is
    neither read nor moved. With `checkpoint` a training that was killed goes on where the last whole epoch ended when
    it is called again with the same arguments (the model with the same structure, its values do not matter), and
    ends with the same numbers: bit for bit on a CPU, and on a GPU where its kernels are deterministic. A finished
    training is only read back.

    Under torchrun the processes share each batch of `training.batch_size` images. The gradient is that of the whole
    batch; normalisation layers in train mode see the share of their own process, and the running statistics of
    rank 0 are kept. Only rank 0 writes the checkpoint and calls back.

    Args:
        model: Gives class scores [B, K] for images [B, C, H, W]; pruned or not. It ends on `device`, each module in
            the mode it had. After an exception its values are those of the step that was reached.
        dataset: Its train split is learnt; validation (if there is one) and test split are evaluated.
        training: The settings.
        seed: 0 or more. The random numbers of an epoch depend on it and the epoch's number, those of dropout also on
            the rank.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.
        checkpoint: A file to write after every epoch, and to continue from if it exists.
        on_start: Called once before training with the number of epochs that are over, by the checkpoint.
        on_epoch: Called with the record of each epoch trained by this call, after its checkpoint was written.
        on_step: Called about twenty times an epoch, and every few seconds of a slow one, with (epoch from 1, steps
            done, steps in all, the mean loss so far as it was last looked at, which is NaN before the first look).

    Returns:
        One record an epoch, those from the checkpoint first. Where the loss stopped being finite, the last record is
        marked `diverged` and the list ends early.

    Raises:
        InputError: The model does not fit the data, or the checkpoint belongs to another training; the model is then
            as it was. With `cuda_graph` also, after three steps, that a step cannot be recorded.

    Example:
        >>> images = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).view(16, 1, 1, 1).expand(16, 1, 2, 2)
        >>> split = Split(images, torch.tensor([0, 1]).repeat(8))
        >>> data = Dataset("black or white", split, split, ("black", "white"), mean=(0.5,), std=(0.5,))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> train(model, data, Training(epochs=2, batch_size=4), seed=0, device="cpu")[-1].test_accuracy
        1.0
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed must be a whole number, 0 or more, got {seed!r}")
    with distributed(device) as world:
        quick = by_survivors(model) if training.sparse and world.device.type == "cpu" else nullcontext()
        check_fit(model, dataset, training, world, quick)
        same = identity(model, dataset, training, seed)
        saved = _read(checkpoint, model, same, world)
        place_(model, training, world.device)
        optimizer = make_optimizer(model, training)
        if saved is not None:
            restore_(saved, model, optimizer)
        records = [] if saved is None else list(saved.records)
        step = make_forward(parallel(model, world), training, world.device)
        whole = step if world.size == 1 else make_forward(model, training, world.device)
        if world.first and on_start is not None:
            on_start(len(records))
        sums = torch.zeros(2, dtype=torch.float64, device=world.device)
        job = _Job(model, optimizer, step, whole, dataset.to(world.device), training, seed, world, sums)
        update = _updates(job)
        while len(records) < training.epochs and not (records and records[-1].diverged):
            with quick:
                records.append(_epoch(job, update, len(records) + 1, on_step))
            if world.first and checkpoint is not None:
                save(checkpoint, model, optimizer, records, same)
            if world.first and on_epoch is not None:
                on_epoch(records[-1])
        optimizer.zero_grad()
        del step, whole, job, update  # they hold the process group, which ends with this block
    return records


@dataclass(frozen=True)
class _Job:
    """What every epoch needs. `step` calls the model in training, `whole` in evaluation (without collectives).

    `sums` are the loss and the hits of the epoch so far.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Forward
    whole: Forward
    data: Dataset
    training: Training
    seed: int
    world: World
    sums: Tensor


def _updates(job: _Job) -> Step:
    """What takes a step: as it is, or recorded as one graph."""
    update, groups = partial(_update, job), job.optimizer.param_groups
    alone_on_gpu = job.world.size == 1 and job.world.device.type == "cuda"
    # Only the fused optimizer reads a learning rate that is on the GPU, which a recorded step has to.
    if not (job.training.cuda_graph and alone_on_gpu and all(group["fused"] for group in groups)):
        return update
    for group in groups:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=job.world.device)

    def places() -> dict[str, int]:
        return {name: t.data_ptr() for name, t in (*job.model.named_parameters(), *job.model.named_buffers())}

    return Repeated(update, CudaGraph(job.world.device), places)


def _epoch(job: _Job, update: Step, epoch: int, on_step: OnStep | None) -> Epoch:
    start = time.perf_counter()
    with _random(job.seed, epoch, job.world), mode(job.model, training=True):
        lr, train_loss, train_accuracy = _learn(job, update, epoch, on_step)
        sync_buffers(job.model, job.world)
        held_out = job.data.validation
        validation = _evaluate(job, held_out) if held_out is not None else (None, None)
        test = _evaluate(job, job.data.test)
    return Epoch(
        epoch=epoch,
        lr=lr,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        validation_loss=validation[0],
        validation_accuracy=validation[1],
        test_loss=test[0],
        test_accuracy=test[1],
        seconds=time.perf_counter() - start,
        diverged=not math.isfinite(train_loss),
    )


def _learn(job: _Job, update: Step, epoch: int, on_step: OnStep | None) -> tuple[float, float, float]:
    """One pass over the training split: the last learning rate, mean loss and accuracy."""
    training, world, images = job.training, job.world, len(job.data.train)
    steps = math.ceil(images / training.batch_size)
    every = max(1, steps // _LOOKS)
    job.sums.zero_()
    generator = torch.Generator().manual_seed(derived(job.seed, epoch))
    shares = batches(
        job.data.train,
        job.data,
        training.batch_size,
        generator=generator,
        augment=training.augment,
        rank=world.rank,
        world=world.size,
    )
    lr, loss, accuracy = 0.0, math.nan, math.nan
    told = time.monotonic()
    for done, (x, y) in enumerate(shares, start=1):
        lr = learning_rate((epoch - 1) * steps + done - 1, steps, training)
        seen = min(done * training.batch_size, images)
        set_rate_(job.optimizer, lr)
        update(x, y, seen - (done - 1) * training.batch_size)
        looks = done % every == 0 or done == steps
        if looks:
            loss, accuracy = (total(job.sums, world) / seen).tolist()
        # The clock decides only who is told: a look sums over all processes, which must agree on when to take it.
        if on_step is not None and world.first and (looks or time.monotonic() - told > _SILENCE):
            on_step(epoch, done, steps, loss)
            told = time.monotonic()
        if looks and not math.isfinite(loss):
            break
    return lr, loss, accuracy


def _update(job: _Job, x: Tensor, y: Tensor, size: int) -> None:
    """One step from this process's share of a batch of `size` images; adds its loss and hits to `job.sums`."""
    job.optimizer.zero_grad()
    if len(y):
        scores = job.step(x)
        summed = functional.cross_entropy(scores, y, reduction="sum", label_smoothing=job.training.label_smoothing)
        # DistributedDataParallel averages over processes: times the world, the mean of shares is the mean of images.
        torch.autograd.backward(summed * (job.world.size / size))
        job.sums[0] += summed.detach()
        job.sums[1] += (scores.detach().argmax(1) == y).sum()
    else:
        # The others wait for this process's gradient, which is zero. Two black images, as many models cannot reshape
        # an empty batch (`x.view(len(x), -1)`), nor normalise a single image.
        torch.autograd.backward(job.step(x.new_zeros(2, *x.shape[1:])).sum() * 0.0)
    if job.training.clip_norm is not None:
        nn.utils.clip_grad_norm_(job.model.parameters(), job.training.clip_norm)
    job.optimizer.step()


def _evaluate(job: _Job, split: Split) -> tuple[float, float]:
    # Nothing is kept for a way back, and a GPU is busier with larger batches.
    size = job.training.batch_size * (4 if job.world.device.type == "cuda" else 1)
    return evaluate(job.model, split, job.data, size, world=job.world, forward=job.whole)


def _read(
    checkpoint: str | os.PathLike[str] | None, model: nn.Module, same: Mapping[str, Any], world: World
) -> Saved | None:
    """The checkpoint if there is one, once all processes have agreed that they would train the same from the same."""
    found: list[Saved | None] = [None]

    def attempt() -> str:
        found[0] = None if checkpoint is None else read(checkpoint, model, same)
        epochs = 0 if found[0] is None else len(found[0].records)
        shapes = [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]
        return f"settings, data and masks {derived(repr((same, shapes))):x} after {epochs} epochs"

    together(attempt, world)
    if world.first and checkpoint is not None:
        remove_parts(checkpoint)
    return found[0]


@contextmanager
def _random(seed: int, epoch: int, world: World) -> Iterator[None]:
    """The global random state of an epoch on one rank (for dropout); the caller's is put back afterwards."""
    cuda = [world.device] if world.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        # Not torch.manual_seed, which would seed every device and so reach beyond what is put back.
        torch.default_generator.manual_seed(derived(seed, epoch, world.rank))
        for device in cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(derived(seed, epoch, world.rank))
        yield
