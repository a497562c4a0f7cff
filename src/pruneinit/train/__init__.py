"""Training: the loop, evaluation, checkpoints, several processes under torchrun."""

from pruneinit.train.config import Training
from pruneinit.train.distributed import World, distributed
from pruneinit.train.evaluate import evaluate
from pruneinit.train.loop import train
from pruneinit.train.records import Epoch
from pruneinit.train.schedule import learning_rate
from pruneinit.train.side_by_side import can_share, stackable, train_side_by_side

__all__ = [
    "Epoch",
    "Training",
    "World",
    "can_share",
    "distributed",
    "evaluate",
    "learning_rate",
    "stackable",
    "train",
    "train_side_by_side",
]
