"""What pruning leaves of each layer of a network that is not trained, and the file of such results."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pruneinit.errors import InputError
from pruneinit.experiments.cell import learnt
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.offered import criterion
from pruneinit.experiments.origin import Origin, origin
from pruneinit.experiments.prepare import network, scoring_batch, stabilize_
from pruneinit.files import write_text
from pruneinit.pruning import score
from pruneinit.selection import select


@dataclass(frozen=True)
class Pruned(Origin):
    """What pruning one network left of its layers, whose training is not carried out. Every field is what JSON holds.

    Attributes:
        seconds: Of the whole.
        names: The prunable weights, in the order of the network.
        total: How many each has.
        kept: How many were kept.
        moments: The mean square of the scores of each, m^l.
    """

    seconds: float
    names: Sequence[str]
    total: Sequence[int]
    kept: Sequence[int]
    moments: Sequence[float]

    @property
    def densities(self) -> list[float]:
        """The share of its weights that each layer keeps."""
        return [kept / total for kept, total in zip(self.kept, self.total, strict=True)]


def measured(cell: Cell, data_root: str | None = None, device: str | None = None) -> Pruned:
    """Prune the network of a cell as its recipe says, in one shot, and count. Nothing is trained.

    Args:
        cell: Of a grid; of its recipe the training does not count.
        data_root: Where data sets are; None for `$PRUNEINIT_DATA`, else the user's cache. They are read once a process.
        device: `"cpu"`, `"cuda"`, ...; None takes a GPU where there is one.

    Example:
        >>> from pruneinit.experiments.grid import Grid
        >>> grid = Grid("g", {"depth": 3, "width": 16, "sparsity": 0.5})
        >>> found = measured(grid.cells()[0], device="cpu")
        >>> found.names, sum(found.kept)
        (['fc1.weight', 'fc2.weight', 'fc3.weight'], 720)
    """
    start = time.perf_counter()
    recipe = cell.recipe
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dataset = learnt(recipe, data_root, place)
    model = network(recipe, dataset).to(place)
    batch = scoring_batch(recipe, dataset)
    if recipe.residuals == "stable":
        stabilize_(model, batch[0][:1], recipe.model)
    scores = score(model, criterion(recipe), [batch])
    masks = select(scores, recipe.sparsity, recipe.scope)
    return Pruned(
        **origin(recipe, cell.row),
        seconds=round(time.perf_counter() - start, 3),
        names=list(masks),
        total=[total for _, total in masks.counts.values()],
        kept=[kept for kept, _ in masks.counts.values()],
        moments=[float(f"{scores[name].double().square().mean():.6g}") for name in masks],
    )


def read(file: Path) -> tuple[dict[str, Pruned], int]:
    """The results in a file by their hash, and how many are of other versions; none where there is no file.

    Raises:
        InputError: It cannot be read, or is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the results in {file}: {error}") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    found = [_from_json(line, f"{file}, line {number},") for number, line in enumerate(lines, start=1)]
    ours = {one.cell: one for one in found if one is not None}
    return ours, found.count(None)


def write(file: Path, results: Mapping[str, Pruned]) -> None:
    """Write results as `read` takes them, a line each, sorted by hash."""
    lines = (json.dumps(asdict(results[name]), ensure_ascii=False) for name in sorted(results))
    write_text(file, "".join(f"{line}\n" for line in lines))


def _from_json(line: str, place: str) -> Pruned | None:
    """One result; None for one of another version, or altered."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place} is damaged: {error}; remove it, and reproduce again") from error
    try:
        one = Pruned(**values)
        return one if one.ours else None
    except (InputError, TypeError, AttributeError):
        return None
