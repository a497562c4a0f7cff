"""One run from recipe to report, in a folder that survives being killed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch.distributed
from torch import nn

from pruneinit.data import Dataset, load
from pruneinit.errors import InputError
from pruneinit.experiments.folder import Event, RunFolder, start_of
from pruneinit.experiments.lock import alone
from pruneinit.experiments.outcome import outcome
from pruneinit.experiments.prepare import held_out, network, ready
from pruneinit.experiments.recipe import Recipe
from pruneinit.experiments.start import Start
from pruneinit.storage import save as save_model
from pruneinit.train import Epoch, World, distributed, train
from pruneinit.train.check import check_fit
from pruneinit.train.loop import OnStep

_T = TypeVar("_T")


def run(
    recipe: Recipe,
    root: str | os.PathLike[str] = "runs",
    *,
    data_root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    force: bool = False,
    on_start: Callable[[Start], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Carry out a recipe: initialise, prune, rescale, train, save, report.

    The folder is `root/NAME-HASH` with the hash of the recipe. A finished run is not computed again; an interrupted
    one goes on after its last whole epoch and ends with the same numbers. Of a run that is refused nothing is left, and
    a folder that held a run already is as it was. Two processes cannot work on one run at the same time; those of
    torchrun train together, and rank 0 writes.

    Args:
        recipe: What to do.
        root: Where the folders of runs are.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.
        force: Begin anew, also where the run is finished.
        on_start: Called once with where the run stands: new, going on after an epoch, or finished before, and by which
            version of pruneinit.
        on_epoch: Called after each epoch.
        on_step: Called as `train` says with (epoch, step, steps, loss); `Pace` makes lines for a log of it.

    Returns:
        The folder: `recipe.yaml`, `metrics.jsonl`, `model.safetensors`, `report.html`.

    Raises:
        InputError: Something in the recipe, the data or the folder is wrong, or another process is working on the
            run; it is named.

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
    with distributed(device) as world, ExitStack() as held:
        ended = _first(lambda: _open(folder, recipe, held, force=force), world)
        if ended is not None:
            if world.first and on_start is not None:
                on_start(ended)
            return folder.path
        dataset = held_out(recipe, load(recipe.data, data_root))
        begun = _first(lambda: _prepare(folder, recipe, dataset, world, force=force), world)
        model = folder.begun(into=network(recipe, dataset))

        def began(epoch: int) -> None:
            if on_start is not None:
                on_start(_standing("resumed" if epoch else "new", epoch, begun))

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
            on_start=began,
            on_epoch=note,
            on_step=on_step,
        )
        _first(lambda: _finish(folder, recipe, begun, model, records), world)
    return folder.path


def _open(folder: RunFolder, recipe: Recipe, held: ExitStack, *, force: bool) -> Start | None:
    """Take the folder for this process alone, or say that its run has ended and there is nothing to do."""
    if not force:
        events = folder.look(recipe)
        if folder.has_ended(events) and folder.is_tidy():
            return _ended(events)  # before anything is written: it may be where nothing can be
    held.enter_context(alone(folder.path))
    if not force:
        events = folder.look(recipe)  # once more, as nobody else can change it now
        if folder.has_ended(events):
            folder.end(recipe)
            return _ended(events)
    return None


def _prepare(folder: RunFolder, recipe: Recipe, dataset: Dataset, world: World, *, force: bool) -> Sequence[Event]:
    """Make the network that is to be trained, once: a continued run finds it in the folder. Gives the events so far."""
    events: Sequence[Event] = [] if force else folder.look(recipe)
    if events and folder.initial.is_file():
        folder.go_on(recipe, events)
        return events
    # The folder is changed at the end only, by a run that was not refused.
    model, events = ready(recipe, dataset, world.device)
    check_fit(model, dataset, recipe.training, world)
    folder.begin(recipe, events, model)
    return events


def _first(action: Callable[[], _T], world: World) -> _T:
    """What `action` gives on rank 0, on every rank; an error of its stops all of them."""
    if world.size == 1:
        return action()
    result: list[Any] = [None, None]
    if world.first:
        try:
            result[0] = action()
        except InputError as error:
            result[1] = str(error)
    torch.distributed.broadcast_object_list(result)
    if result[1] is not None:
        raise InputError(result[1])
    given: _T = result[0]
    return given


def _finish(
    folder: RunFolder, recipe: Recipe, begun: Sequence[Event], model: nn.Module, records: Sequence[Epoch]
) -> None:
    result = {"event": "result"} | outcome(model, records)
    save_model(model, folder.model)
    prepared = [event for event in begun if event["event"] not in ("epoch", "result")]
    folder.write([*prepared, *(_epoch_event(epoch) for epoch in records), result])
    folder.end(recipe)


def _ended(events: Sequence[Event]) -> Start:
    return _standing("finished", sum(event["event"] == "epoch" for event in events), events)


def _standing(state: Literal["new", "resumed", "finished"], epoch: int, events: Sequence[Event]) -> Start:
    return Start(state, epoch, str(start_of(events).get("version", "unknown")))


def _epoch_event(epoch: Epoch) -> dict[str, Any]:
    return {"event": "epoch"} | dataclasses.asdict(epoch)
