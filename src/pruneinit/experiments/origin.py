"""Where a result comes from: the recipe, and the code that carried it out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import pruneinit
from pruneinit.experiments.recipe import RESULTS_VERSION, Recipe


@dataclass(frozen=True)
class Origin:
    """What every result begins with. Every field is what JSON holds.

    Attributes:
        cell: The hash of the recipe.
        row: The name of the row of the grid that it was computed for.
        recipe: All settings.
        version: Of pruneinit.
        code: A hash of the source of pruneinit, which tells versions apart that have one name.
        results_version: `RESULTS_VERSION` of recipe.py.
        torch: Its version.
    """

    cell: str
    row: str | None
    recipe: Mapping[str, Any]
    version: str
    code: str
    results_version: int
    torch: str

    @property
    def ours(self) -> bool:
        """Whether its hash is that of its recipe now: it is not altered, and of this `RESULTS_VERSION`.

        Raises:
            InputError: This version knows no such recipe.
        """
        return Recipe.from_mapping(self.recipe).hash == self.cell


def origin(recipe: Recipe, row: str | None) -> dict[str, Any]:
    """The fields of `Origin` of what is computed now.

    Example:
        >>> Origin(**origin(Recipe(depth=3), "shallow")).ours
        True
    """
    return {
        "cell": recipe.hash,
        "row": row,
        "recipe": recipe.to_mapping(),
        "version": pruneinit.__version__,
        "code": code(),
        "results_version": RESULTS_VERSION,
        "torch": torch.__version__,
    }


@cache
def code() -> str:
    """Eight hexadecimal digits that any change of pruneinit's source changes, as it was when first asked."""
    root = Path(pruneinit.__file__).parent
    digest = hashlib.blake2b(digest_size=4)
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
