"""Loss and accuracy on a split, exact however many processes share the work."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pruneinit.data import Dataset, Split, batches
from pruneinit.errors import InputError
from pruneinit.train.distributed import World, total
from pruneinit.train.forward import Forward
from pruneinit.train.modes import mode


def evaluate(
    model: nn.Module,
    split: Split,
    dataset: Dataset,
    batch_size: int = 512,
    *,
    world: World | None = None,
    forward: Forward | None = None,
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `model` in eval mode; the model and its mode are left as they were.

    Args:
        model: Gives class scores [B, K] for images [B, C, H, W].
        split: What to evaluate on, not empty.
        dataset: Gives the normalisation.
        batch_size: Images a forward pass, over all processes; it does not change the result beyond the model's own
            rounding.
        world: The processes that share the work; every one of them must call. None: this one alone.
        forward: How to call the model, for example under autocast; None calls it plainly.

    Returns:
        The loss and the accuracy in [0, 1], from sums in float64.

    Raises:
        InputError: The split is empty.

    Example:
        >>> split = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 0, 1]))
        >>> data = Dataset("black", split, split, ("a", "b"), mean=(0.5,), std=(0.5,))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> _ = nn.init.zeros_(model[1].weight), nn.init.zeros_(model[1].bias)
        >>> evaluate(model, split, data)
        (0.693..., 0.75)
    """
    if not len(split):
        raise InputError("the split to evaluate on is empty: expected at least one image")
    world = world or World()
    call = forward or model
    tensor = next(model.parameters(), split.labels)
    sums = torch.zeros(2, dtype=torch.float64, device=tensor.device)
    with mode(model, training=False), torch.no_grad():
        for x, y in batches(split, dataset, batch_size, rank=world.rank, world=world.size):
            if not len(y):
                continue
            y = y.to(tensor.device)
            scores = call(x.to(tensor.device)).double()
            sums[0] += functional.cross_entropy(scores, y, reduction="sum")
            sums[1] += (scores.argmax(1) == y).sum()
    loss, accuracy = (total(sums, world) / len(split)).tolist()
    return loss, accuracy
