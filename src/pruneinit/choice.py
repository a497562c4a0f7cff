"""What one round of pruning chooses from, and what it chooses at each sparsity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pruneinit.densities import Scope
from pruneinit.masks import Masks
from pruneinit.selection import Scores, select


@dataclass(frozen=True)
class Choice:
    """The scores of one round, and what of the weights can be kept.

    Attributes:
        scores: For each weight a tensor of its shape; larger = keep.
        scope: How a sparsity is shared out among the layers: see `select`.
        room: What can be kept.
        alive: Takes masks and drops their dead weights; None where those count like all others.

    Example:
        >>> import torch
        >>> room = Masks({"a": torch.ones(3).bool()})
        >>> Choice({"a": torch.tensor([3.0, 1.0, 2.0])}, "global", room).masks(0.3)["a"].tolist()
        [True, False, True]
    """

    scores: Scores
    scope: Scope
    room: Masks
    alive: Callable[[Masks], Masks] | None = None

    def masks(self, sparsity: float | None) -> Masks:
        """What is kept at a sparsity, None where the scope gives densities. Dead weights are kept only if they count.

        Raises:
            InputError: As `select` does.
        """
        chosen = self._selected(sparsity)
        return chosen if self.alive is None else self._most_alive(chosen, self.alive, fixed=sparsity is None)

    def live(self, count: int) -> Masks:
        """The live weights among the `count` of the best scores."""
        chosen = self._selected(1 - count / self.room.total)
        return chosen if self.alive is None else self.alive(chosen)

    def asked(self, sparsity: float) -> int:
        """How many weights a sparsity keeps."""
        return round((1 - sparsity) * self.room.total)

    def _selected(self, sparsity: float | None) -> Masks:
        within = None if self.room.kept == self.room.total else self.room
        return select(self.scores, sparsity, self.scope, within=within)

    def _most_alive(self, chosen: Masks, alive: Callable[[Masks], Masks], *, fixed: bool) -> Masks:
        """The live weights of the largest selection that has no more of them than `chosen` has weights."""
        best, target = alive(chosen), chosen.kept
        low, high = target, target if fixed else self.room.kept
        while best.kept < target and low < high:
            middle = (low + high + 1) // 2
            found = self.live(middle)
            if found.kept > target:
                high = middle - 1
            else:
                low, best = middle, found
        return best
