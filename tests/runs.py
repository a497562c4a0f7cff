"""A small run, and what its folder says: shared by the tests of runs."""

from __future__ import annotations

import json

import pytest

from pruneinit.experiments import Recipe, run
from pruneinit.train import Training

SHORT = Training(epochs=3, batch_size=64, lr=0.05, augment=False, weight_decay=0.0, schedule="cosine")
RECIPE = Recipe(
    model="mlp", depth=4, width=32, activation="tanh", sparsity=0.8, rescale="layer", score_images=64, training=SHORT
)


def events(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def contents(folder):
    """Every file below a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def timeless(folder):
    """The record without the seconds, which no two runs share."""
    return [{k: v for k, v in event.items() if k != "seconds"} for event in events(folder)]


class Stop(Exception):
    pass


def interrupted(root, after=1):
    """The folder of a run that was stopped after an epoch."""

    def stop(epoch):
        if epoch.epoch == after:
            raise Stop

    with pytest.raises(Stop):
        run(RECIPE, root, device="cpu", on_epoch=stop)
    return root / RECIPE.name
