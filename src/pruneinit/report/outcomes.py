"""What one recipe came to, as the page over many results needs it: of a cell of a sweep or of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of one recipe with one seed.

    Attributes:
        name: The hash of the recipe.
        row: The name of its row in a grid; None where there is none.
        settings: The whole recipe, nested as in its file.
        version: Which code gave it, in words.
        why: The last line of the traceback of one that failed; empty for one that was computed.
        test_accuracy: After the last epoch; a fraction, as the others; None where there is none.
        best_test_accuracy: Of the best epoch, picked on test data.
        validation_accuracy: After the last epoch, on held-out training images.
        diverged: The loss stopped being finite.
        densities: The fraction kept of each prunable tensor, input first.
        empty: The prunable tensors of which nothing is left.
    """

    name: str
    row: str | None
    settings: Mapping[str, Any]
    version: str
    why: str = ""
    test_accuracy: float | None = None
    best_test_accuracy: float | None = None
    validation_accuracy: float | None = None
    diverged: bool = False
    densities: Mapping[str, float] = field(default_factory=dict)
    empty: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it raised an error."""
        return bool(self.why)
