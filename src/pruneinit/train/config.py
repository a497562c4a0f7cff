"""The settings of one training, as plain values: what a recipe stores and the command line parses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pruneinit.errors import InputError, unknown

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["constant", "step", "cosine", "onecycle"]
Precision = Literal["none", "bf16"]


@dataclass(frozen=True)
class Training:
    """How to train: the defaults are the paper's recipe (arXiv 2002.08797) for CIFAR.

    Attributes:
        epochs: Passes over the training split, 1 or more.
        batch_size: Images a step, over all processes together.
        optimizer: `"sgd"`, or `"adamw"` with PyTorch's betas (0.9, 0.999).
        lr: The learning rate before the schedule, above 0. For `"onecycle"` the highest one.
        momentum: Of SGD, in [0, 1); AdamW does not read it.
        nesterov: Nesterov's momentum, for SGD with a momentum above 0.
        weight_decay: 0 or more, on every parameter; an L2 term for SGD, decoupled for AdamW.
        schedule: `"constant"`; `"step"` (times `gamma` at each milestone); `"cosine"` (to 0); or `"onecycle"` (as
            `torch.optim.lr_scheduler.OneCycleLR`: lr / 25 up to lr, then down to lr / 250 000).
        milestones: For `"step"`: fractions of the epochs, rising, each in (0, 1).
        gamma: For `"step"`: the factor at each milestone, in (0, 1].
        warmup_epochs: The learning rate rises linearly over this many epochs (fractions allowed). For `"onecycle"` the
            length of its rise, 0 standing for 30 % of the epochs.
        label_smoothing: In [0, 1): the share of the target spread evenly over the classes, in the training loss only.
        augment: Random crops and flips, as far as they suit the data set.
        amp: `"bf16"` runs the forward pass under bfloat16 autocast; parameters, gradients and loss stay float32.
        channels_last: Keep images and convolution weights in the memory order [N, H, W, C].
        sparse: Multiply by the kept weights alone where that is faster, on a CPU with numba (`docs/costs.md`).
        cuda_graph: On one GPU, with SGD, record a step once and replay it; for which models: `docs/costs.md`.
        compile: Run the model through `torch.compile`; the first steps then take much longer.
        clip_norm: Scale the gradient down to this 2-norm where it is larger; None leaves it alone.

    Raises:
        InputError: A value outside its range, or a combination that would be ignored silently.

    Example:
        >>> Training(epochs=5, lr=0.05, schedule="cosine").milestones
        (0.5, 0.75)
        >>> Training(schedule="cosin")
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: unknown schedule 'cosin': expected one of constant, cosine, onecycle, step;
            did you mean 'cosine'?
    """

    epochs: int = 160
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: Schedule = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    augment: bool = True
    amp: Precision = "none"
    channels_last: bool = False
    sparse: bool = False
    cuda_graph: bool = False
    compile: bool = False
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs)
        check_whole("batch_size", self.batch_size)
        check_choice("optimizer", self.optimizer, get_args(Optimizer))
        check_choice("schedule", self.schedule, get_args(Schedule))
        check_choice("amp", self.amp, get_args(Precision))
        for name in ("nesterov", "augment", "channels_last", "sparse", "cuda_graph", "compile"):
            check_truth(name, getattr(self, name))
        if self.sparse and (self.compile or self.channels_last or self.amp != "none"):
            raise InputError("sparse=True has an order of images of its own: leave out amp, channels_last and compile")
        if self.cuda_graph and self.optimizer != "sgd":
            raise InputError(f"cuda_graph=True needs optimizer='sgd', got {self.optimizer!r}")
        check_number("lr", self.lr, above=0.0)
        check_number("momentum", self.momentum, least=0.0, below=1.0)
        check_number("weight_decay", self.weight_decay, least=0.0)
        check_number("gamma", self.gamma, above=0.0, most=1.0)
        check_number("warmup_epochs", self.warmup_epochs, least=0.0, below=float(self.epochs))
        check_number("label_smoothing", self.label_smoothing, least=0.0, below=1.0)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, above=0.0)
        if not isinstance(self.milestones, tuple):
            raise InputError(f"milestones must be a tuple of fractions of the epochs, got {self.milestones!r}")
        for milestone in self.milestones:
            check_number("a milestone", milestone, above=0.0, below=1.0)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InputError(f"milestones must rise, got {self.milestones}")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise InputError(
                f"nesterov needs SGD with a momentum above 0, got {self.optimizer} with momentum={self.momentum:g}; "
                "give nesterov=False"
            )


def check_whole(name: str, value: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number, 1 or more, got {value!r}")


def check_truth(name: str, value: bool) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse what is not one of `known`, and name the nearest."""
    if value not in known:
        raise unknown(name, str(value), known)


def check_number(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Check `value` against closed (`least`, `most`) and open (`above`, `below`) bounds; NaN and infinities fail."""
    try:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        is_number = False
    if is_number and value >= least and value > above and value <= most and value < below:
        return
    words = {"at least": least, "above": above, "at most": most, "below": below}
    limits = " and ".join(f"{word} {limit:g}" for word, limit in words.items() if math.isfinite(limit))
    raise InputError(f"{name} must be a number {limits}, got {value!r}")
