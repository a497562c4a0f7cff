"""The criteria that a recipe can name: a line each, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from pruneinit.batch import Batches, batch_size, each
from pruneinit.criteria import (
    Criterion,
    Fisher,
    Force,
    Grasp,
    IterativeSnip,
    Lamp,
    Magnitude,
    NtkSap,
    Obd,
    Phew,
    ProsPr,
    Random,
    SmartRatio,
    Snip,
    SynFlow,
)
from pruneinit.errors import InputError
from pruneinit.functional import Norm
from pruneinit.masks import Masks


class Settings(Protocol):
    """What a criterion takes from a recipe, which itself asks here what it can name."""

    @property
    def criterion(self) -> str: ...  # noqa: D102
    @property
    def rounds(self) -> int | None: ...  # noqa: D102
    @property
    def sparsity(self) -> float: ...  # noqa: D102
    @property
    def norm(self) -> Norm: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Cut:
    """A criterion that takes several batches, with each batch cut into as many parts: a recipe draws one to score on.

    Attributes:
        criterion: What scores.
        parts: How many parts, of sizes that differ by one at most.
    """

    criterion: Criterion
    parts: int

    def __call__(
        self, model: nn.Module, batches: Batches | None = None, masks: Masks | None = None
    ) -> dict[str, Tensor]:
        """The scores of the criterion on the parts of all batches `(x, y)`.

        Raises:
            InputError: A batch has fewer examples than parts.
        """
        pieces: list[tuple[Tensor, Tensor]] = []
        for x, y in each(batches):
            if batch_size(x) < self.parts:
                raise InputError(
                    f"{type(self.criterion).__name__} needs {self.parts} batches, got {batch_size(x)} images to cut "
                    f"into so many: set score_images to {self.parts} or more"
                )
            pieces += zip(x.tensor_split(self.parts), y.tensor_split(self.parts), strict=True)
        return self.criterion(model, pieces, masks)


OFFERED: Mapping[str, Callable[[Settings], Criterion]] = {
    "random": lambda recipe: Random(seed=recipe.seed),
    "magnitude": lambda recipe: Magnitude(),
    "snip": lambda recipe: Snip(norm=recipe.norm),
    "iterative_snip": lambda recipe: IterativeSnip(norm=recipe.norm),
    "force": lambda recipe: Force(norm=recipe.norm),
    "grasp": lambda recipe: Grasp(norm=recipe.norm),
    "synflow": lambda recipe: SynFlow(),
    "ntk_sap": lambda recipe: NtkSap(norm=recipe.norm, seed=recipe.seed),
    "prospr": lambda recipe: Cut(ProsPr(norm=recipe.norm), parts=ProsPr.steps + 1),
    "phew": lambda recipe: Phew(coverage=max(Phew.coverage, 1 - recipe.sparsity), seed=recipe.seed),
    "fisher": lambda recipe: Fisher(norm=recipe.norm),
    "obd": lambda recipe: Obd(norm=recipe.norm, seed=recipe.seed),
    "smart_ratio": lambda recipe: SmartRatio(seed=recipe.seed),
    "lamp": lambda recipe: Lamp(),
}


def criterion(recipe: Settings) -> Criterion:
    """The recipe's criterion with its settings; the recipe prunes.

    Example:
        >>> from pruneinit.experiments.recipe import Recipe
        >>> criterion(Recipe(criterion="random", seed=3))
        Random(seed=3)
    """
    return OFFERED[recipe.criterion](recipe)


def rounds(recipe: Settings) -> int:
    """How many rounds the recipe prunes in: its own, or those of its criterion, 1 where it has none.

    Example:
        >>> from pruneinit.experiments.recipe import Recipe
        >>> rounds(Recipe(criterion="force")), rounds(Recipe(criterion="force", rounds=5)), rounds(Recipe())
        (60, 5, 1)
    """
    if recipe.rounds is not None:
        return recipe.rounds
    own = 1 if recipe.criterion == "none" else getattr(criterion(recipe), "rounds", 1)
    return int(own)
