"""What is known of an architecture, and the batches they run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.functional import cross_entropy

Loss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Architecture:
    """One architecture of the list.

    Attributes:
        name: Readable, unique.
        source: Who ships it: `"torchvision"`, `"timm"`, `"transformers"`, `"torch"`, or `"here"`.
        build: Makes it, with random weights.
        batch: Makes a batch from a generator.
        loss: Runs it on a batch.
        inputs: The part of a batch that the model itself takes, as `find_residuals` wants it.
        norm: Which statistics its batch normalisation takes; None where it has none.
        scalable: Whether a factor on a weight is one on the layer's output; not where weights are standardised.
        special: What a user has to know or say, in words for the table.
    """

    name: str
    source: str
    build: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], Any]
    loss: Loss = cross_entropy
    inputs: Callable[[Any], Any] = lambda batch: batch[0]
    norm: str | None = None
    scalable: bool = True
    special: str = ""

    def model(self, seed: int = 0) -> nn.Module:
        """The model in training mode, its weights drawn with `seed`."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return self.build().train()

    def example_batch(self, seed: int = 1) -> Any:
        """A small batch."""
        return self.batch(torch.Generator().manual_seed(seed))


def images(size: int, count: int = 2, channels: int = 3, classes: int = 10) -> Callable[[torch.Generator], Any]:
    """Batches of `count` square images and their labels."""

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, channels, size, size, generator=generator)
        return x, torch.randint(classes, (count,), generator=generator)

    return batch
