"""What is known of an epoch once it is over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch. Every field is a plain value, so `dataclasses.asdict` gives a JSON line.

    Attributes:
        epoch: Counted from 1.
        lr: The learning rate of its last step.
        train_loss: Mean over its images of the loss that was minimised (with label smoothing, without weight decay),
            each image under the weights of its own step.
        train_accuracy: Likewise, in [0, 1], on the augmented images.
        validation_loss: Mean cross-entropy over the validation split after the epoch; None without such a split.
        validation_accuracy: In [0, 1], or None.
        test_loss: Mean cross-entropy over the test split after the epoch.
        test_accuracy: In [0, 1].
        seconds: Wall clock of the epoch with its evaluations, without the checkpoint.
        diverged: The training loss stopped being finite; training ended here, before the end of the epoch.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    test_loss: float
    test_accuracy: float
    seconds: float
    diverged: bool = False
