"""The folder of a run, as the run itself sees it: written line by line, found again after a kill."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pruneinit.errors import InputError
from pruneinit.experiments.recipe import Recipe
from pruneinit.files import write_text

Event = Mapping[str, Any]


class RunFolder:
    """The files of one run.

    Attributes:
        path: The folder.
        recipe: `recipe.yaml`.
        metrics: `metrics.jsonl`, the record of the run.
        model: `model.safetensors`, there once the run has ended.
        initial: The network as it was before training; there while the run is not finished.
        checkpoint: The training so far; there while the run is not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.jsonl"
        self.model = path / "model.safetensors"
        self.initial = path / "initial.safetensors"
        self.checkpoint = path / "checkpoint.safetensors"

    @property
    def finished(self) -> bool:
        """Whether the run has ended and nothing of it is missing."""
        return self.model.is_file() and any(event["event"] == "result" for event in self.events())

    def open(self, recipe: Recipe, *, force: bool) -> None:
        """Make the folder, or check that it is this recipe's; `force` empties it.

        Raises:
            InputError: It cannot be written, or belongs to another recipe.
        """
        if force and self.recipe.is_file():
            shutil.rmtree(self.path)
        if self.recipe.is_file() and Recipe.from_yaml(self.recipe) != recipe:
            raise InputError(f"{self.path} holds a run of another recipe; choose another folder, or --force")
        write_text(self.recipe, recipe.to_yaml())

    def events(self) -> list[Event]:
        """What the record holds, without a last line that a kill has cut short."""
        if not self.metrics.is_file():
            return []
        events = []
        # Not splitlines, which also splits at characters that JSON may hold within a string.
        lines = self.metrics.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for number, line in enumerate(lines, start=1):
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number == len(lines):  # also an empty file
                    break
                raise InputError(f"{self.metrics}, line {number}, is not JSON ({error}); redo with --force") from error
        return events

    def write(self, events: Iterable[Event]) -> None:
        """Make these the whole record, in one step."""
        write_text(self.metrics, "".join(_line(event) for event in events))

    def append(self, event: Event) -> None:
        """Add one event to the record."""
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(_line(event))

    def tidy(self) -> None:
        """Remove what only an unfinished run needs."""
        self.initial.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)


def _line(event: Event) -> str:
    return json.dumps(_finite(event), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
