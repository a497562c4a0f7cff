"""When a sweep should stop: its first cells all fail alike, so that it is not the cells that are wrong."""

from __future__ import annotations

from collections.abc import Collection

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result


class Patience:
    """Counts failures that follow on one another and have the same last line.

    Args:
        most: How many are too many; 0 for any number.
        known: Last lines that a sweep has stopped for before: who sweeps again wants to go on.

    Example:
        >>> from pruneinit.experiments import Recipe
        >>> from pruneinit.experiments.cell import failed
        >>> patience = Patience(2)
        >>> for seed in (0, 1):
        ...     patience.add(failed(Recipe(seed=seed), "no disk"))
        >>> patience.refuse(missing=9)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: the first 2 cells all failed with 'no disk', so the other 9 were not begun: ...
    """

    def __init__(self, most: int, known: Collection[str] = ()) -> None:
        self.most = most
        self.known = known
        self._why = ""
        self._count = 0
        self._succeeded = False

    def add(self, result: Result) -> None:
        """Take in the next result."""
        self._count = self._count + 1 if result.failed and result.why == self._why else int(result.failed)
        self._why = result.why
        self._succeeded |= not result.failed

    @property
    def over(self) -> bool:
        """Whether just now the last failure was one too many: time to see if all that cells need is still there."""
        return self._count == self.most > 0

    def refuse(self, missing: int) -> None:
        """Raise InputError where no cell has succeeded and the last failure was one too many.

        Args:
            missing: How many cells there are still to compute; with none there is nothing to stop.
        """
        if self.over and not self._succeeded and missing and self._why not in self.known:
            raise InputError(
                f"the first {self._count} cells all failed with {self._why!r}, so the other {missing} were not begun: "
                "mend that and sweep with --retry, or sweep again as before to go on all the same"
            )
