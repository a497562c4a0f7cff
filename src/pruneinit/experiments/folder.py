"""The folder of a run, as the run itself sees it: written line by line, found again after a kill."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from pruneinit.errors import InputError
from pruneinit.experiments.recipe import Recipe
from pruneinit.files import append_text, read_tensors, write_text
from pruneinit.report import write_report
from pruneinit.storage import load, save

Event = Mapping[str, Any]


class RunFolder:
    """The files of one run. Only a process that is `alone` in it may write.

    Attributes:
        path: The folder.
        recipe: `recipe.yaml`.
        metrics: `metrics.jsonl`, the record of the run.
        model: `model.safetensors`, there once the run has ended.
        report: `report.html`, likewise.
        initial: The network as it was before training; there while the run is not finished.
        checkpoint: The training so far; there while the run is not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.jsonl"
        self.model = path / "model.safetensors"
        self.report = path / "report.html"
        self.initial = path / "initial.safetensors"
        self.checkpoint = path / "checkpoint.safetensors"

    def look(self, recipe: Recipe) -> list[Event]:
        """The record so far, empty where there is none, once it is sure that it is this recipe's.

        Raises:
            InputError: It is damaged or cannot be read, or the folder belongs to another recipe.
        """
        with _reading(self.path):
            events = self._events()
            same = not self.recipe.is_file() or Recipe.from_yaml(self.recipe).hash == recipe.hash
        # The record names the recipe too, for a folder that has lost its recipe.yaml or was renamed.
        if not same or (events and start_of(events).get("run") != recipe.hash):
            raise InputError(f"{self.path} holds a run of another recipe; choose another folder, or --force")
        return events

    def has_ended(self, events: Sequence[Event]) -> bool:
        """Whether the run of these events was trained to its end and its network is there, which is read to see.

        Raises:
            InputError: The network's file is damaged.
        """
        with _reading(self.path):
            if not any(event["event"] == "result" for event in events) or not self.model.is_file():
                return False
            with _or_anew():
                read_tensors(self.model)  # it carries a checksum
        return True

    def is_tidy(self) -> bool:
        """Whether a run that has ended has its recipe and a whole report of its record, and nothing of its training."""
        with _reading(self.path):
            if not self.recipe.is_file() or not self.report.is_file():
                return False
            if self.report.stat().st_mtime_ns < self.metrics.stat().st_mtime_ns:
                return False
            if not self.report.read_bytes().rstrip().endswith(b"</html>"):
                return False
            return not self.initial.exists() and not self.checkpoint.exists()

    def begin(self, recipe: Recipe, events: Iterable[Event], model: nn.Module) -> None:
        """Put a new run, ready to be trained, in the place of whatever run the folder held.

        A kill at any moment leaves a folder from which the same recipe is begun again or goes on. What needs most
        space is written first: where that fails, the run of before is as it was.
        """
        save(model, self.initial)
        self.checkpoint.unlink(missing_ok=True)
        self.write(events)
        write_text(self.recipe, recipe.to_yaml())
        self.model.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)

    def begun(self, into: nn.Module) -> nn.Module:
        """The network of `begin`, in place of a network of its kind.

        Raises:
            InputError: Its file is damaged.
        """
        with _or_anew():
            return load(self.initial, into=into)

    def go_on(self, recipe: Recipe, events: Iterable[Event]) -> None:
        """Mend what `look` has accepted: a line that was cut short, and a recipe that is gone."""
        self.write(events)
        if not self.recipe.is_file():
            write_text(self.recipe, recipe.to_yaml())

    def end(self, recipe: Recipe) -> None:
        """Write what a run that has ended lacks, and remove what only an unfinished one needs."""
        if not self.recipe.is_file():
            write_text(self.recipe, recipe.to_yaml())
        write_report(self.path)
        self.initial.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)

    def write(self, events: Iterable[Event]) -> None:
        """Make these the whole record, in one step."""
        write_text(self.metrics, "".join(_line(event) for event in events))

    def append(self, event: Event) -> None:
        """Add one event to the record."""
        append_text(self.metrics, _line(event))

    def _events(self) -> list[Event]:
        """What the record holds, without a last line that a kill has cut short."""
        if not self.metrics.is_file():
            return []
        events: list[Event] = []
        # Bytes, as a kill may also cut a letter in two.
        lines = self.metrics.read_bytes().removesuffix(b"\n").split(b"\n")
        for number, line in enumerate(lines, start=1):
            where = f"{self.metrics}, line {number},"
            try:
                event = json.loads(line)
            except (ValueError, RecursionError) as error:
                if number == len(lines):  # also an empty file
                    break
                raise InputError(f"{where} is not JSON ({error}); redo with --force") from error
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise InputError(f'{where} is no JSON object with an "event"; redo with --force')
            events.append(event)
        return events


def start_of(events: Iterable[Event]) -> Event:
    """The event that began a run; empty where the record has none."""
    return next((event for event in events if event["event"] == "start"), {})


@contextmanager
def _or_anew() -> Iterator[None]:
    """Say of a damaged file that the run can do without it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error}, or begin the run anew with --force") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error


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
