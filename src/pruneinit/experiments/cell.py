"""One cell of a grid: from a recipe to a result, without a file being written."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import nn

import pruneinit
from pruneinit.data import Dataset, load
from pruneinit.errors import InputError
from pruneinit.experiments.measured import Measured, measured
from pruneinit.experiments.origin import Origin, origin
from pruneinit.experiments.outcome import kept_counts, outcome
from pruneinit.experiments.prepare import held_out, ready
from pruneinit.experiments.recipe import Recipe
from pruneinit.train import Epoch, distributed, train


@dataclass(frozen=True)
class Result(Origin):
    """What one cell gave. Every field is what JSON holds.

    Attributes:
        state: Whether it was computed, or raised an error.
        seconds: Of the whole cell; its share, where several were trained side by side.
        beside: How many were trained side by side: this one alone, or with others, which changes the rounding.
        test_accuracy: After the last epoch; in [0, 1], as the others.
        best_test_accuracy: Of the best epoch, picked on test data.
        best_epoch: That epoch, from 1.
        validation_accuracy: After the last epoch, on held-out training images; None without any.
        diverged: The loss stopped being finite.
        survivors: Weights that were kept.
        empty: Prunable tensors of which nothing was kept.
        densities: The fraction kept of each, to six digits.
        traceback: Of a cell that failed.
        measured: What `trainability` gave before training, to six digits; None where it was not asked for.
    """

    state: Literal["done", "failed"]
    seconds: float
    beside: int = 1
    test_accuracy: float | None = None
    best_test_accuracy: float | None = None
    best_epoch: int | None = None
    validation_accuracy: float | None = None
    diverged: bool = False
    survivors: int | None = None
    empty: tuple[str, ...] = ()
    densities: Mapping[str, float] = field(default_factory=dict)
    traceback: str | None = None
    measured: Measured | None = None

    @property
    def failed(self) -> bool:
        """Whether it raised an error."""
        return self.state == "failed"

    @property
    def why(self) -> str:
        """The last line of the traceback; empty where there is none."""
        return (self.traceback or "").strip().rpartition("\n")[2]

    def refuse_damaged(self, where: str) -> None:
        """Refuse values of the wrong kind, as no sweep writes them.

        Raises:
            InputError: There are some; `where` says of which folder or study.
        """
        shares = (self.test_accuracy, self.best_test_accuracy, self.validation_accuracy)
        fine = all(value is None or _is_fraction(value) for value in shares)
        fine = fine and isinstance(self.densities, Mapping) and all(map(_is_fraction, self.densities.values()))
        fine = fine and isinstance(self.row, str | None) and all(isinstance(name, str) for name in self.empty)
        fine = fine and all(map(_is_number, (self.seconds, self.beside))) and isinstance(self.measured, Mapping | None)
        fine = fine and all(value is None or _is_number(value) for value in (self.measured or {}).values())
        if not fine or not isinstance(self.traceback, str | None):
            raise InputError(
                f"the result {self.cell} in {where} is damaged: it has values of the wrong kind; remove it"
            )

    def to_json(self) -> str:
        """The result in one line, without its end; `from_json` reads it."""
        values = dataclasses.asdict(self)
        if self.measured is None:  # results of before have no such field, and stay what they are
            del values["measured"]
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Result | None:
        """Read a result; None for one of another version, whose numbers or fields are not those of now, or altered.

        Raises:
            InputError: It is no whole JSON object, or no result.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"it is not whole JSON ({error}); remove it, and sweep again") from error
        if not isinstance(values, dict) or not isinstance(values.get("cell"), str):
            raise InputError('it is no JSON object with a "cell"; remove it, and sweep again')
        try:
            result = Result(**{**values, "empty": tuple(values.get("empty") or ())})
            return result if result.ours and result.state in ("done", "failed") else None
        except (InputError, TypeError, AttributeError):
            return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_fraction(value: object) -> bool:
    return _is_number(value) and isinstance(value, (int, float)) and 0 <= value <= 1


def run_one(
    recipe: Recipe,
    *,
    row: str | None = None,
    data_root: str | None = None,
    device: str | None = None,
    measure: bool = False,
) -> Result:
    """Prepare and train one recipe; the numbers are those of `run`. No file is written.

    Args:
        recipe: What to do.
        row: The name of its row, for the result.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache. They are read once a process.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.
        measure: Measure the network before it is trained, for `measured` of the result.

    Returns:
        The result; of whatever went wrong it holds the traceback.

    Example:
        >>> from pruneinit.train import Training
        >>> recipe = Recipe(model="mlp", depth=3, width=16, training=Training(epochs=1, augment=False))
        >>> result = run_one(recipe, device="cpu")
        >>> result.state, result.cell == recipe.hash, sorted(result.densities)
        ('done', True, ['fc1.weight', 'fc2.weight', 'fc3.weight'])
    """
    start = time.perf_counter()
    try:
        with distributed(device) as world:
            dataset = learnt(recipe, data_root, world.device)
            model, events = ready(recipe, dataset, world.device)
            found = measured(model, recipe, dataset, events) if measure else None
            records = train(model, dataset, recipe.training, seed=recipe.seed, device=world.device)
        return finished(recipe, model, records, row=row, seconds=time.perf_counter() - start, measured=found)
    except Exception as error:  # whatever it is, the other cells go on
        return failed(recipe, _told(error, data_root), row=row, seconds=time.perf_counter() - start)


def learnt(recipe: Recipe, data_root: str | None, device: torch.device) -> Dataset:
    """The data that a recipe learns from and is evaluated on."""
    return held_out(recipe, _dataset(recipe.data, data_root, str(device)))


def finished(
    recipe: Recipe,
    model: nn.Module,
    records: Sequence[Epoch],
    *,
    row: str | None,
    seconds: float,
    beside: int = 1,
    measured: Measured | None = None,
) -> Result:
    """The result of a recipe whose network was trained; `records` has one an epoch, at least one."""
    found, counts = outcome(model, records), kept_counts(model)
    names = ("test_accuracy", "best_test_accuracy", "best_epoch", "diverged", "survivors")
    return Result(
        **origin(recipe, row),
        state="done",
        seconds=round(seconds, 3),
        beside=beside,
        validation_accuracy=records[-1].validation_accuracy,
        empty=tuple(name for name, (kept, _) in counts.items() if not kept),
        densities={name: float(f"{kept / total:.6g}") for name, (kept, total) in counts.items()},
        measured=measured,
        **{name: found[name] for name in names},
    )


def failed(recipe: Recipe, why: str, *, row: str | None = None, seconds: float = 0.0) -> Result:
    """The result of a recipe that could not be carried out; `why` is a traceback, or a line.

    Example:
        >>> failed(Recipe(), "the process died").why
        'the process died'
    """
    return Result(**origin(recipe, row), state="failed", seconds=round(seconds, 3), traceback=why)


@cache
def _dataset(name: str, data_root: str | None, device: str) -> Dataset:
    return load(name, data_root).to(device)


def _told(error: Exception, data_root: str | None) -> str:
    """The traceback, without the folders of this machine: results are committed."""
    text = "".join(traceback.format_exception(error))
    places = [(str(Path(module.__file__).parents[1]), "") for module in (pruneinit, torch) if module.__file__]
    places += [
        (str(data_root or os.environ.get("PRUNEINIT_DATA") or ""), "DATA"),
        (os.getcwd(), "."),
        (str(Path.home()), "~"),
    ]
    for place, name in places:
        if len(place) > 1:
            text = text.replace(f"{place}/", f"{name}/" if name else "")
    return text
