"""Does this model fit this data? Asked before anything is changed, so that the answer can be one line."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pruneinit.data import batches
from pruneinit.data.dataset import Dataset
from pruneinit.errors import InputError
from pruneinit.train import products
from pruneinit.train.config import Training
from pruneinit.train.distributed import World
from pruneinit.train.modes import mode


def check_fit(
    model: nn.Module,
    dataset: Dataset,
    training: Training,
    world: World,
    within: AbstractContextManager[None] = nullcontext(),  # noqa: B008, it keeps nothing
) -> None:
    """Send two images through the model in train mode, and one where a batch of one will come; leave no trace.

    `within` is how the model will be trained.

    Raises:
        InputError: The model cannot take the images, gives no scores for every class, or has nothing to train; or the
            batches are too small for the processes.
    """
    _check_parameters(model)
    if training.sparse and world.device.type == "cpu":
        products.require()
    images = len(dataset.train)
    if training.batch_size < world.size:
        raise InputError(
            f"batch_size={training.batch_size} is smaller than the number of processes, {world.size}: "
            "every process needs an image of each batch"
        )
    scores = _probe(model, dataset, min(2, images), "", within)
    _check_scores(scores, min(2, images), model, dataset)
    # Normalisation layers cannot train on a single value a channel; better to hear of it now than after an epoch.
    full, last = min(training.batch_size, images), images % training.batch_size
    if any(0 < size < 2 * world.size for size in (full, last)):
        _probe(model, dataset, 1, f" (batch_size={training.batch_size} leaves a batch of one image; change it)", within)


def _check_parameters(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(f"{name} has no shape yet: run the model once on an example before training it")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"{type(model).__name__} has nothing to train: no parameter requires a gradient")


def _probe(model: nn.Module, dataset: Dataset, count: int, advice: str, within: AbstractContextManager[None]) -> Tensor:
    device = next(model.parameters()).device
    few = dataset.train.take(torch.arange(count))
    x = next(iter(batches(few, dataset, count)))[0].to(device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), mode(model, training=True), torch.no_grad(), within:
            scores = model(x)
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{type(model).__name__} cannot take images of shape {list(x.shape)} of {dataset.name!r}: {said}{advice}"
        ) from error
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    if not isinstance(scores, Tensor):
        raise InputError(f"{type(model).__name__} gives a {type(scores).__name__}: expected a tensor of class scores")
    return scores


def _check_scores(scores: Tensor, count: int, model: nn.Module, dataset: Dataset) -> None:
    name = type(model).__name__
    if scores.ndim != 2 or len(scores) != count or not scores.is_floating_point():
        raise InputError(
            f"{name} gives {scores.dtype} of shape {list(scores.shape)} for {count} images: expected float class "
            f"scores of shape [{count}, classes]"
        )
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for part, split in splits.items():
        if split is None:
            continue
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= scores.shape[1]:
            raise InputError(
                f"{name} gives {scores.shape[1]} scores an image, but the {part} labels of {dataset.name!r} go from "
                f"{low} to {high}: the last layer needs one output for each class"
            )
