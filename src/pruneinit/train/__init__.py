"""Training: the loop, evaluation, checkpoints, several processes under torchrun."""

from pruneinit.train.config import Training
from pruneinit.train.distributed import World, distributed
from pruneinit.train.evaluate import evaluate
from pruneinit.train.loop import train
from pruneinit.train.records import Epoch
from pruneinit.train.schedule import learning_rate

__all__ = ["Epoch", "Training", "World", "distributed", "evaluate", "learning_rate", "train"]
