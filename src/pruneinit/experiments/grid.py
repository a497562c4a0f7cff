"""The grid: many recipes described at once, by what they share and what they differ in."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pruneinit.errors import InputError, unknown
from pruneinit.experiments.faults import Faults, flat, nested, of_settings
from pruneinit.experiments.recipe import Recipe

Settings = Mapping[str, Any]
_KEYS = ("name", "recipe", "rows", "over", "choose")


@dataclass(frozen=True)
class Cell:
    """One recipe of a grid.

    Attributes:
        recipe: What to do.
        row: The name of its row; None in a grid without rows.
        axes: Its value on each axis of the grid.
    """

    recipe: Recipe
    row: str | None
    axes: Mapping[str, Any]

    @cached_property
    def hash(self) -> str:
        """The hash of the recipe, which names the result."""
        return self.recipe.hash

    def __str__(self) -> str:
        return place(self.row, self.axes) or self.recipe.name


@dataclass(frozen=True)
class Grid:
    """What a family of recipes shares, and all that it differs in.

    Attributes:
        name: Of its folder.
        recipe: Settings that all cells share, as a recipe file has them. Dotted names reach into the training.
        rows: Named alternatives: settings by the name of the row, before those that all share. A row that sets an axis
            itself has that one value on it: a dense row that is not repeated for each sparsity.
        over: Axes: a list of values for each setting; every combination is a cell of each row.
        choose: An axis. Of the cells that differ in this alone, `choose` takes those of the best mean validation
            accuracy.

    Raises:
        InputError: A part is of the wrong kind, or an axis is empty, names a value twice, or is set for all cells.

    Example:
        >>> grid = Grid("small", {"training": {"epochs": 1}}, over={"seed": [0, 1], "training.lr": [0.1, 0.01]})
        >>> [str(cell) for cell in grid.cells()]
        ['seed=0, training.lr=0.1', 'seed=0, training.lr=0.01', 'seed=1, training.lr=0.1', 'seed=1, training.lr=0.01']
    """

    name: str
    recipe: Settings = field(default_factory=dict)
    rows: Mapping[str, Settings] = field(default_factory=dict)
    over: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    choose: str | None = None

    def __post_init__(self) -> None:
        faults = Faults()
        faults.add("", list(_faults_of_form(self)))
        faults.refuse()

    @staticmethod
    def from_yaml(path: str | Path) -> Grid:
        """Read a grid.

        Raises:
            InputError: The file cannot be read, is no grid, or has a key that no grid has.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            json.dumps(values, default=str)  # refuses what holds itself, by an anchor
        except OSError as error:
            raise InputError(f"cannot read the grid {path}: {error.strerror}; expected a YAML file") from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f" (line {mark.line + 1})" if mark else ""
            raise InputError(f"the grid {path} is not YAML text{place}: expected 'name: ...', 'over: ...'") from error
        if not isinstance(values, dict):
            kind = "nothing" if values is None else type(values).__name__
            raise InputError(f"{path} is no grid: expected {', '.join(_KEYS)}, got {kind}")
        faults = Faults()
        faults.add("", [str(unknown("key", str(key), _KEYS)) for key in values if key not in _KEYS])
        if "name" not in values:
            faults.add("", ["it has no name; give one, as 'name: depths'"])
        try:
            faults.refuse()
            return Grid(**{key: value for key, value in values.items() if value is not None})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def cells(self) -> list[Cell]:
        """Every cell, row by row, the last axis fastest.

        Raises:
            InputError: Some recipe is impossible, or two cells are the same; all faults of all cells in one line.
        """
        cells: list[Cell] = []
        faults = Faults()
        for row, own in self.rows.items() or [(None, {})]:
            fixed = flat(own)
            over = {name: [fixed[name]] if name in fixed else values for name, values in self.over.items()}
            axes = [[(name, value) for value in values] for name, values in over.items()]
            for point in itertools.product(*axes):
                settings = flat(self.recipe) | fixed | dict(point)
                try:
                    cells.append(Cell(Recipe.from_mapping(nested(settings)), row, dict(point)))
                except InputError:
                    faults.add(place(row, dict(point)), of_settings(settings))
        seen: dict[str, Cell] = {}
        for cell in cells:
            if cell.hash in seen:
                faults.add(str(cell), [f"the same recipe as {seen[cell.hash]}; leave one of them out"])
            seen.setdefault(cell.hash, cell)
            if self.choose is not None and not cell.recipe.validation:
                faults.add("", [f"choose: {self.choose} needs held-out images, as 'validation: 0.1'"])
        faults.refuse()
        return cells


def choose(cells: Sequence[Cell], axis: str, validation: Callable[[Cell], float | None]) -> list[Cell]:
    """The cells whose value on an axis has the best mean validation accuracy over seeds, for each row and other axes.

    Test data has no say. Where a cell is not there yet nothing is chosen; a value that failed for some seed is not
    chosen. Of equals the one that the axis names first is.

    Args:
        cells: Of one grid.
        axis: What to choose by.
        validation: The validation accuracy of a cell, None where it failed; KeyError where it is not there yet.

    Returns:
        The chosen cells, in their order.

    Example:
        >>> grid = Grid("rates", {"validation": 0.1}, over={"seed": [0, 1], "training.lr": [0.1, 0.01]})
        >>> found = {("seed", 0, 0.1): 0.5, ("seed", 1, 0.1): 0.7, ("seed", 0, 0.01): 0.6, ("seed", 1, 0.01): 0.8}
        >>> chosen = choose(grid.cells(), "training.lr", lambda cell: found["seed", *cell.axes.values()])
        >>> [str(cell) for cell in chosen]
        ['seed=0, training.lr=0.01', 'seed=1, training.lr=0.01']
    """
    chosen: list[Cell] = []
    for group in grouped(cells, lambda cell: apart(cell, (axis, "seed"))):
        try:
            found = [(one, [validation(cell) for cell in one]) for one in grouped(group, lambda c: repr(c.axes[axis]))]
        except KeyError:
            continue
        means: list[tuple[float, list[Cell]]] = []
        for members, values in found:
            whole = [value for value in values if value is not None]
            if len(whole) == len(members):
                means.append((sum(whole) / len(whole), members))
        if means:
            chosen += max(means, key=lambda pair: pair[0])[1]
    taken = {cell.hash for cell in chosen}
    return [cell for cell in cells if cell.hash in taken]


def place(row: str | None, axes: Mapping[str, Any]) -> str:
    """Where a cell is in its grid, in words.

    Example:
        >>> place("edge", {"depth": 5})
        'edge, depth=5'
    """
    return ", ".join([*([row] if row is not None else []), *(f"{name}={value}" for name, value in axes.items())])


def grouped(cells: Iterable[Cell], key: Callable[[Cell], str]) -> list[list[Cell]]:
    """Cells of equal keys together, in their order.

    Example:
        >>> grid = Grid("g", over={"depth": [3, 5], "seed": [0, 1]})
        >>> [[str(cell) for cell in group] for group in grouped(grid.cells(), lambda cell: apart(cell, ("seed",)))]
        [['depth=3, seed=0', 'depth=3, seed=1'], ['depth=5, seed=0', 'depth=5, seed=1']]
    """
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return list(found.values())


def apart(cell: Cell, without: Sequence[str | None]) -> str:
    """What sets a cell apart from others of its grid, but for some axes."""
    return repr((cell.row, {name: value for name, value in cell.axes.items() if name not in without}))


def _faults_of_form(grid: Grid) -> Iterator[str]:
    if not isinstance(grid.name, str) or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", grid.name):
        yield f"name must be letters, digits, '-', '_' and '.', got {grid.name!r}: it names a folder"
    for part in ("recipe", "rows", "over"):
        if not isinstance(getattr(grid, part), Mapping):
            yield f"{part} must be a mapping, got {getattr(grid, part)!r}"
            return
    for row, own in grid.rows.items():
        if not isinstance(row, str):
            yield f"the name of a row must be text, got {row!r}; put it in quotes"
        if not isinstance(own, Mapping):
            yield f"row {row!r} must be a mapping of settings, got {own!r}"
            return
    shared = flat(grid.recipe)
    for name, values in grid.over.items():
        if not isinstance(name, str) or name == "training":
            yield f"an axis must be the name of a setting, as depth or training.lr, got {name!r}"
        elif not isinstance(values, (list, tuple)) or not values:
            yield f"{name} must have a list of values, as [10, 30], got {values!r}"
        elif len({repr(value) for value in values}) < len(values):
            yield f"{name} names a value twice: {list(values)}"
        if name in shared:
            yield f"{name} is both an axis and in recipe; leave one of them out"
        if grid.rows and all(name in flat(own) for own in grid.rows.values()):
            yield f"{name} is an axis, and every row sets it; leave it out of over"
    if grid.choose is not None and grid.choose not in grid.over:
        yield str(unknown("axis to choose by", str(grid.choose), map(str, grid.over)))
    if grid.choose == "seed":
        yield "choose: seed would pick the luckiest draw; choose by another axis"
