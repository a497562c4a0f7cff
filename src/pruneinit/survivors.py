"""The survivors representation: a pruned weight's parameter IS the 1-D tensor of its kept values.

Gradients, optimizer state, all-reduce traffic and checkpoints shrink with the density, with any optimizer, and a
pruned weight cannot become non-zero because there is nothing to update. The forward pass scatters the values into
a dense tensor, so a step gives the same numbers as training the dense model under fixed masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruneinit.errors import InputError
from pruneinit.masks import Masks, check_masks
from pruneinit.processes import require_own
from pruneinit.reparametrize import (
    Link,
    chain,
    reparametrized,
    require_ours,
    set_chain_,
    set_stored_,
    stored,
    tied_names,
)
from pruneinit.sharded import is_sharded
from pruneinit.weights import listed, weight


class Survivors(Link):
    """Make the dense tensor of a pruned weight from its kept values.

    Args:
        mask: Which values are kept, in the shape of the dense tensor.
        energy: The dense tensor's mean square before pruning, per kernel tap (see `tap_energy`), which the
            paper's rescaling needs later.

    Example:
        >>> Survivors(torch.tensor([[True, False], [False, True]]), torch.zeros(1))(torch.tensor([5.0, 7.0]))
        tensor([[5., 0.],
                [0., 7.]])
    """

    index: Tensor
    energy: Tensor

    def __init__(self, mask: Tensor, energy: Tensor) -> None:
        super().__init__()
        self.shape = tuple(mask.shape)
        self.register_buffer("index", mask.reshape(-1).nonzero().reshape(-1))
        self.register_buffer("energy", energy.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """The dense tensor: values [kept] -> [*shape]."""
        # Out of the many ways to write this, scatter was the fastest forward and backward on CPU.
        return values.new_zeros(self.numel).scatter(0, self.index, values).view(self.shape)

    @property
    def numel(self) -> int:
        """How many values the dense tensor has."""
        return torch.Size(self.shape).numel()

    @property
    def mask(self) -> Tensor:
        """Which values of the dense tensor are kept."""
        mask = torch.zeros(self.numel, dtype=torch.bool, device=self.index.device)
        mask[self.index] = True
        return mask.view(self.shape)

    def gather(self, tensor: Tensor) -> Tensor:
        """The kept values of a dense tensor: [*shape] -> [kept]."""
        return tensor.reshape(-1)[self.index]

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{len(self.index)} of {self.numel} kept, shape={self.shape}"


def sparsify_(model: nn.Module, masks: Masks) -> nn.Module:
    """Turn each masked weight into its survivors: its parameter becomes the 1-D tensor of kept values.

    Create the optimizer afterwards. Parametrised modules cannot be pickled by PyTorch: save with `pruneinit.save`
    (or `state_dict()`), never with `torch.save(model)`.

    Args:
        model: Any module; changed in place.
        masks: Masks for some or all of its prunable weights. For a model that is sparsified already they must keep
            no weight that is gone.

    Returns:
        The model.

    Raises:
        InputError: A mask has no weight of its name or shape in the model, brings back a pruned weight, or the weight
            carries a parametrisation of another library. Or the model is sharded, or wrapped for several processes. It
            is then as it was.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 2))
        >>> masks = Masks({"0.weight": torch.tensor([[True, False, False, True], [False, True, False, False]])})
        >>> sum(p.numel() for p in sparsify_(model, masks).parameters())  # 3 survivors and 2 biases
        5
    """
    require_own(model, "sparsify")
    weights = listed(model)
    previous = current_masks(model)
    masks = check_masks(masks, {name: found.shape for name, found in weights.items()})
    if sharded := next((name for name, mask in masks.items() if is_sharded(mask)), None):
        raise InputError(
            f"the mask of {sharded} is sharded and the model is not: bring the masks together, masks.full()"
        )
    require_ours(model, masks)
    for name, mask in masks.items():
        if name in previous and bool((mask.to(previous[name].device) & ~previous[name]).any()):
            raise InputError(f"the mask of {name} keeps weights that are pruned already; they cannot come back")
    tied = tied_names(model)
    for name, mask in masks.items():
        links = chain(model, name)
        before = _survivors(links)
        rest = [link for link in links if link is not before]
        with torch.no_grad():
            parameter = stored(model, name)
            dense = parameter if before is None else before(parameter)
            energy = tap_energy(dense) if before is None else before.energy
            survivors = Survivors(mask.to(dense.device), energy)
            set_stored_(model, name, survivors.gather(dense))
        set_chain_(model, tied[name], [survivors, *rest])
    return model


def densify_(model: nn.Module) -> nn.Module:
    """Turn every weight back into a plain dense parameter: zeros where pruned, fixed factors multiplied in.

    The model computes the same function and holds no trace of pruneinit, so it can be pickled or handed on. Training
    it further would let pruned weights grow again.

    Returns:
        The model, changed in place.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
        >>> _ = sparsify_(model, Masks({"0.weight": torch.tensor([[True, False]])}))
        >>> densify_(model)[0].weight.shape
        torch.Size([1, 2])
    """
    require_own(model, "densify")
    tied = tied_names(model)
    for name in list(reparametrized(model)):
        with torch.no_grad():
            dense = weight(model, name)
        set_chain_(model, tied[name], [])
        set_stored_(model, name, dense)
    return model


def current_masks(model: nn.Module) -> Masks:
    """The masks of the weights that are sparsified now; an empty mapping for a dense model.

    Example:
        >>> len(current_masks(nn.Linear(2, 2)))
        0
    """
    found = {}
    for name in reparametrized(model):
        survivors = _survivors(chain(model, name))
        if survivors is not None:
            found[name] = survivors.mask
    return Masks(found)


def chosen_masks(model: nn.Module, masks: Masks | None) -> Masks:
    """The masks that are given, or those of a sparsified model where none are.

    Raises:
        InputError: None are given for a dense model, or they are of another model.

    Example:
        >>> chosen_masks(nn.Linear(2, 2), None)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: the model is dense: pass the masks that it is to be pruned with, or ...
    """
    chosen = current_masks(model) if masks is None else masks
    if masks is None and not chosen:
        raise InputError("the model is dense: pass the masks that it is to be pruned with, or sparsify_ it first")
    return check_masks(chosen, {name: found.shape for name, found in listed(model).items()})


def tap_energy(tensor: Tensor) -> Tensor:
    """The mean square of a weight tensor, per kernel tap for convolutions, in float32.

    The mean and not the sum, which a cast of the model to float16 could overflow.

    Args:
        tensor: A dense weight of shape [out, in, *kernel].

    Returns:
        Shape [1, 1, *kernel], so that it broadcasts against the tensor.

    Example:
        >>> tap_energy(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        tensor([[3.5000]])
    """
    return tensor.float().square().mean(dim=(0, 1), keepdim=True)


def _survivors(links: list[nn.Module]) -> Survivors | None:
    return next((link for link in links if isinstance(link, Survivors)), None)


def survivors_of(model: nn.Module, name: str) -> Survivors | None:
    """The `Survivors` on the weight `name`, or None where it is dense."""
    return _survivors(chain(model, name))
