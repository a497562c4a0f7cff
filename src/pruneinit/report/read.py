"""Reads a run's folder: `recipe.yaml` and `metrics.jsonl` (see docs/runs.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from pruneinit.errors import InputError
from pruneinit.report.record import Epoch, Layer, Pruning, Rescaling, Residuals, Result, RunRecord, Stage

RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
_T = TypeVar("_T")


def read_run(folder: str | Path) -> RunRecord:
    """Read what a run has written so far.

    An unfinished run is read like a finished one. The last line of `metrics.jsonl` is left out if it is half
    written, as a killed run leaves it. Events of unknown kinds are passed over. Where an event repeats (a run that was
    interrupted and went on), the later one counts.

    Args:
        folder: A folder with `recipe.yaml` and `metrics.jsonl`.

    Raises:
        InputError: The folder or one of the two files is missing, or a file is damaged; names the file and the line.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "recipe.yaml").write_text("model: {depth: 3}")
        >>> _ = (folder / "metrics.jsonl").write_text("")
        >>> read_run(folder).state
        'not trained yet'
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}: expected the folder of a run, with {RECIPE} and {METRICS}")
    recipe = _read_recipe(folder / RECIPE)
    latest: dict[str, _Event] = {}
    stages: dict[str, Stage] = {}
    epochs: dict[int, Epoch] = {}
    for event in _read_events(folder / METRICS):
        if event.kind == "moments":
            stage = Stage(event.text("stage"), tuple((e.text("name"), e.number("value")) for e in event.each("layers")))
            stages[stage.name] = stage
        elif event.kind == "epoch":
            epoch = _epoch(event)
            epochs[epoch.epoch] = epoch
        else:
            latest[event.kind] = event
    start, prune = latest.get("start"), latest.get("prune")
    layers = prune or start
    return RunRecord(
        folder=folder,
        recipe=recipe,
        run=start.text("run") if start else "",
        versions={"pruneinit": start.text("version"), "torch": start.text("torch")} if start else {},
        parameters=start.whole("parameters") if start else None,
        layers=tuple(_layer(e, pruned=prune is not None) for e in layers.each("layers")) if layers else (),
        pruning=_maybe(prune, lambda e: Pruning(e.text("criterion"), e.number("sparsity"), e.number("seconds"))),
        rescaling=_maybe(latest.get("rescale"), _rescaling),
        residuals=_maybe(latest.get("residuals"), lambda e: Residuals(e.number("factor"), e.texts("branches"))),
        stages=tuple(stages.values()),
        epochs=tuple(epochs[number] for number in sorted(epochs)),
        result=_maybe(latest.get("result"), _result),
    )


@dataclass(frozen=True)
class _Event:
    """One JSON object of a metrics file, whose fields are read with a check of their type."""

    fields: Mapping[str, Any]
    kind: str
    where: str

    def text(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str):
            self._refuse(key, "a text")
        return value

    def whole(self, key: str) -> int:
        value = self._get(key)
        if type(value) is not int or value < 0:
            self._refuse(key, "a whole number, 0 or more")
        return value

    def truth(self, key: str) -> bool:
        value = self._get(key)
        if not isinstance(value, bool):
            self._refuse(key, "true or false")
        return value

    def number(self, key: str) -> float | None:
        """A finite float; None for null and for what no float can hold."""
        value = self._get(key)
        if value is None:
            return None
        if type(value) not in (int, float):
            self._refuse(key, "a number or null")
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None

    def each(self, key: str) -> list[_Event]:
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._refuse(key, "a list of objects")
        return [_Event(item, f"{self.kind}.{key}", self.where) for item in value]

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._refuse(key, "a list of texts")
        return tuple(value)

    def shape(self, key: str) -> tuple[int, ...]:
        value = self._get(key)
        if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
            self._refuse(key, "a list of whole numbers")
        return tuple(value)

    def _get(self, key: str) -> Any:
        if key not in self.fields:
            raise InputError(f"{self.where}: {self.kind!r} has no {key!r}; the file is damaged, run again")
        return self.fields[key]

    def _refuse(self, key: str, expected: str) -> NoReturn:
        given = repr(self.fields[key])
        given = given if len(given) <= 60 else given[:57] + "..."
        raise InputError(f"{self.where}: {key!r} of {self.kind!r} must be {expected}, got {given}")


def _read_recipe(path: Path) -> Mapping[str, Any]:
    try:
        recipe = yaml.safe_load(_bytes(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML text"
        raise InputError(f"{path}{line}: not valid YAML ({problem}); mend it or copy it again") from error
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: expected a mapping of settings, got {type(recipe).__name__}")
    return recipe


def _read_events(path: Path) -> Iterator[_Event]:
    lines = [(n, line) for n, line in enumerate(_bytes(path).split(b"\n"), start=1) if line.strip()]
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            # Bare NaN and Infinity are not JSON, but common in it; they mean what null means here.
            fields = json.loads(line.decode(), parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            if number == lines[-1][0]:
                return
            raise InputError(f"{where}: not a whole JSON object; remove the line or run again") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
            raise InputError(
                f'{where}: expected a JSON object with an "event", got {line[:60].decode(errors="replace")}'
            )
        yield _Event(fields, fields["event"], where)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} has no {path.name}: expected the folder of a run") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _maybe(event: _Event | None, build: Callable[[_Event], _T]) -> _T | None:
    return None if event is None else build(event)


def _layer(event: _Event, pruned: bool) -> Layer:
    total = event.whole("total")
    layer = Layer(
        name=event.text("name"),
        kind=event.text("kind"),
        shape=event.shape("shape"),
        total=total,
        kept=event.whole("kept") if pruned else total,
    )
    if layer.kept > layer.total:
        raise InputError(
            f"{event.where}: layer {layer.name!r} keeps {layer.kept} of {layer.total}; the file is damaged"
        )
    return layer


def _epoch(event: _Event) -> Epoch:
    return Epoch(
        epoch=event.whole("epoch"),
        learning_rate=event.number("lr"),
        train_loss=event.number("train_loss"),
        train_accuracy=event.number("train_accuracy"),
        validation_loss=event.number("validation_loss"),
        validation_accuracy=event.number("validation_accuracy"),
        test_loss=event.number("test_loss"),
        test_accuracy=event.number("test_accuracy"),
        seconds=event.number("seconds"),
    )


def _rescaling(event: _Event) -> Rescaling:
    return Rescaling(event.text("method"), tuple((e.text("name"), e.number("factor")) for e in event.each("layers")))


def _result(event: _Event) -> Result:
    return Result(
        test_accuracy=event.number("test_accuracy"),
        best_test_accuracy=event.number("best_test_accuracy"),
        best_epoch=None if event.fields.get("best_epoch") is None else event.whole("best_epoch"),
        epochs=event.whole("epochs"),
        seconds=event.number("seconds"),
        survivors=event.whole("survivors"),
        diverged=event.truth("diverged"),
    )
