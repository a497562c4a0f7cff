"""Which cells of a grid to begin with: those that say most about the whole figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pruneinit.experiments.grid import Cell, Grid

Order = Callable[[Grid], Callable[[Cell], Any]]
"""From a grid to the key that its cells are sorted by."""


def extremes_first(grid: Grid) -> Callable[[Cell], Any]:
    """One seed of the whole grid first, its corners before its middle, all rows and all values to choose from together.

    Example:
        >>> grid = Grid("depths", over={"depth": [10, 20, 30, 50], "seed": [0, 1]})
        >>> key = extremes_first(grid)
        >>> [str(cell) for cell in sorted(grid.cells(), key=key)][:5]
        ['depth=10, seed=0', 'depth=50, seed=0', 'depth=20, seed=0', 'depth=30, seed=0', 'depth=10, seed=1']
    """
    axes = [axis for axis in grid.over if axis not in ("seed", grid.choose)]
    ranks = {axis: _ranks(grid.over[axis]) for axis in axes}
    rows = list(grid.rows)

    def key(cell: Cell) -> Any:
        levels = [ranks[axis].get(repr(cell.axes[axis]), 0) for axis in axes]
        point = [_place(grid, axis, cell) for axis in axes]
        row = rows.index(cell.row) if cell.row is not None else 0
        return cell.recipe.seed, max(levels, default=0), sum(levels), point, row

    return key


def seed_by_seed(*parts: dict[str, Sequence[Any]]) -> Order:
    """The cells of some parts of the grid first, each seed by seed in the order of its rows, then the rest.

    All values to choose from come together, as in `extremes_first`.

    Args:
        parts: What the cells of each part have: for `row` and for axes the values, in the order to compute them in.
    """

    def order(grid: Grid) -> Callable[[Cell], Any]:
        def key(cell: Cell) -> Any:
            part = next((i for i, one in enumerate(parts) if _within(cell, one)), len(parts))
            rows = list(parts[part].get("row", grid.rows)) if part < len(parts) else list(grid.rows)
            # The rest network by network: a table of one network says something before the next is begun.
            network = [_place(grid, axis, cell) for axis in ("model", "data") if part == len(parts)]
            # Values to choose from come together, wherever their axis is: of a part of them nothing can be shown.
            point = [_place(grid, axis, cell) for axis in grid.over if axis not in ("seed", grid.choose)]
            return part, network, cell.recipe.seed, rows.index(cell.row) if cell.row is not None else 0, point

        return key

    return order


def _within(cell: Cell, part: dict[str, Sequence[Any]]) -> bool:
    return all((cell.row if name == "row" else cell.axes.get(name)) in values for name, values in part.items())


def _place(grid: Grid, axis: str, cell: Cell) -> int:
    """Where a cell is on an axis; -1 for a value of its row alone, and where there is no such axis."""
    values = list(grid.over.get(axis, ()))
    if axis not in cell.axes:
        return -1
    return values.index(cell.axes[axis]) if cell.axes[axis] in values else -1


def _ranks(values: Sequence[Any]) -> dict[str, int]:
    """How late a value has its turn: the ends first, then the middle, then what is between. Names are all alike."""
    if not all(isinstance(value, (int, float)) for value in values):
        return {repr(value): 0 for value in values}
    last = len(values) - 1
    ranks, stretches, level = {0: 0, last: 0}, [(0, last)], 1
    while len(ranks) < len(values):
        halves = []
        for low, high in stretches:
            middle = (low + high) // 2
            ranks.setdefault(middle, level)
            halves += [(low, middle), (middle, high)] if high - low > 1 else []
        stretches, level = halves, level + 1
    return {repr(values[place]): rank for place, rank in ranks.items()}
