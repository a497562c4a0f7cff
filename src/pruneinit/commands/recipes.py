"""What the commands share that carry out recipes: reading one off the settings, and a run with its progress shown."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from jsonargparse import Namespace

from pruneinit.experiments import Pace, Recipe, Start, run
from pruneinit.screen import progress, say
from pruneinit.train import Epoch, Training


def recipe_of(settings: Namespace) -> Recipe:
    """The recipe that the flags and files of a command give.

    Raises:
        InputError: It is impossible.
    """
    values = {field.name: settings[field.name] for field in dataclasses.fields(Recipe)}
    training = values["training"]
    if not isinstance(training, Training):
        values["training"] = Training(**training.as_dict())
    return Recipe(**values)


def run_shown(recipe: Recipe, settings: Namespace, label: str = "") -> Path:
    """Carry out a recipe below `settings.out`, with a bar on a terminal and lines in a log.

    Args:
        recipe: What to do.
        settings: Of the command: where to, on what, and whether to begin anew.
        label: What the run is called on the screen; empty for the name of the recipe.

    Returns:
        The folder of the run.

    Raises:
        InputError: As those of `run`.
    """
    name, epochs = label or recipe.name, recipe.training.epochs
    with progress(name) as advance:
        latest, pace = [""], Pace(epochs)

        def on_start(start: Start) -> None:
            if start.state != "new":
                say(f"{name}: {start}")

        def on_step(epoch: int, step: int, steps: int, loss: float) -> None:
            advance((epoch - 1) * steps + step, epochs * steps, latest[0])
            line = pace(epoch, step, steps)
            if line is not None and not sys.stdout.isatty():
                say(f"{name}: {line}")

        def on_epoch(epoch: Epoch) -> None:
            latest[0] = f"test accuracy {epoch.test_accuracy:.1%}"
            if not sys.stdout.isatty():
                say(f"{name}: epoch {epoch.epoch}/{epochs}, loss {epoch.train_loss:.4g}, {latest[0]}")

        return run(
            recipe,
            settings.out,
            data_root=settings.data_dir,
            device=settings.device,
            force=settings.force,
            on_start=on_start,
            on_epoch=on_epoch,
            on_step=on_step,
        )
