"""One run from recipe to report, in a folder that survives being killed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

import pruneinit
from pruneinit.data import Dataset, load
from pruneinit.errors import InputError
from pruneinit.experiments.folder import RunFolder
from pruneinit.experiments.prepare import layers, network, prepare_
from pruneinit.experiments.recipe import Recipe
from pruneinit.report import write_report
from pruneinit.storage import load as load_model
from pruneinit.storage import save as save_model
from pruneinit.survivors import current_masks
from pruneinit.train import Epoch, World, distributed, train
from pruneinit.train.loop import OnStep
from pruneinit.weights import prunable


def run(
    recipe: Recipe,
    root: str | os.PathLike[str] = "runs",
    *,
    data_root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    force: bool = False,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Carry out a recipe: initialise, prune, rescale, train, save, report.

    The folder is `root/NAME-HASH` with the hash of the recipe. A finished run is not computed again; an interrupted
    one goes on after its last whole epoch and ends with the same numbers. Under torchrun the processes train together
    and rank 0 writes.

    Args:
        recipe: What to do.
        root: Where the folders of runs are.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.
        force: Begin anew, also where the run is finished.
        on_epoch: Called after each epoch.
        on_step: Called about twenty times an epoch with (epoch, step, steps, loss).

    Returns:
        The folder: `recipe.yaml`, `metrics.jsonl`, `model.safetensors`, `report.html`.

    Raises:
        InputError: Something in the recipe, the data or the folder is wrong; it is named.

    Example:
        >>> import tempfile
        >>> from pruneinit.train import Training
        >>> recipe = Recipe(model="mlp", depth=3, width=16, training=Training(epochs=1, augment=False))
        >>> with tempfile.TemporaryDirectory() as root:
        ...     folder = run(recipe, root, device="cpu")
        ...     sorted(path.name for path in folder.iterdir())
        ['metrics.jsonl', 'model.safetensors', 'recipe.yaml', 'report.html']
    """
    folder = RunFolder(Path(root) / recipe.name)
    with distributed(device) as world:
        if not force and folder.finished:
            return folder.path
        dataset = load(recipe.data, data_root)
        if recipe.validation:
            dataset = dataset.hold_out(recipe.validation, recipe.seed)
        _one_prepares(lambda: _start(folder, recipe, dataset, world.device, force=force), world)
        model = load_model(folder.initial, into=network(recipe, dataset))

        def note(epoch: Epoch) -> None:
            folder.append(_epoch_event(epoch))
            if on_epoch is not None:
                on_epoch(epoch)

        records = train(
            model,
            dataset,
            recipe.training,
            seed=recipe.seed,
            device=world.device,
            checkpoint=folder.checkpoint,
            on_epoch=note,
            on_step=on_step,
        )
        if world.first:
            _finish(folder, model, records)
        if world.size > 1:
            torch.distributed.barrier()
    return folder.path


def _start(folder: RunFolder, recipe: Recipe, dataset: Dataset, device: torch.device, *, force: bool) -> None:
    """Make the network that is to be trained, once: a continued run finds it in the folder."""
    model = network(recipe, dataset)  # first, so that a recipe of no network leaves no folder behind
    folder.open(recipe, force=force)
    if folder.initial.is_file() and folder.events():
        folder.write(folder.events())  # without a line that was cut short
        return
    folder.checkpoint.unlink(missing_ok=True)
    weights = prunable(model)
    events: list[Any] = [
        {
            "event": "start",
            "run": recipe.hash,
            "version": pruneinit.__version__,
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights": sum(w.numel for w in weights.values()),
            "layers": layers(weights),
        }
    ]
    prepare_(model.to(device), recipe, dataset.to(device), events.append)
    folder.write(events)
    save_model(model, folder.initial)


def _one_prepares(prepare: Callable[[], None], world: World) -> None:
    """Rank 0 prepares, so that all ranks train the very same network; an error of its stops all of them."""
    problem: list[str | None] = [None]
    if world.first:
        try:
            prepare()
        except InputError as error:
            if world.size == 1:
                raise
            problem = [str(error)]
    if world.size > 1:
        torch.distributed.broadcast_object_list(problem)
        if problem[0] is not None:
            raise InputError(problem[0])


def _finish(folder: RunFolder, model: nn.Module, records: list[Epoch]) -> None:
    best = max(records, key=lambda epoch: epoch.test_accuracy)
    masks = current_masks(model)
    kept = masks.kept + sum(w.numel for name, w in prunable(model).items() if name not in masks)
    result = {
        "event": "result",
        "test_accuracy": records[-1].test_accuracy,
        "best_test_accuracy": best.test_accuracy,
        "best_epoch": best.epoch,
        "epochs": len(records),
        "seconds": sum(epoch.seconds for epoch in records),
        "survivors": kept,
        "diverged": records[-1].diverged,
    }
    save_model(model, folder.model)
    begun = [event for event in folder.events() if event["event"] not in ("epoch", "result")]
    folder.write([*begun, *(_epoch_event(epoch) for epoch in records), result])
    write_report(folder.path)
    folder.tidy()


def _epoch_event(epoch: Epoch) -> dict[str, Any]:
    return {"event": "epoch"} | dataclasses.asdict(epoch)
