"""Recurrent layers keep a list of the tensors that they last ran with; here it is kept true.

PyTorch looks before each forward pass whether the list still holds the layer's tensors. In between it may hold
tensors of a scoring that is over, or tensors computed by a parametrisation, which cannot be copied.
"""

from __future__ import annotations

import weakref
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize


def settle_(module: nn.Module) -> None:
    """Let a recurrent layer hold its own parameters and nothing else; other modules are left alone.

    What a parametrisation computes is computed in each forward pass, so there the list is empty.

    Example:
        >>> layer = nn.LSTM(2, 3)
        >>> layer._flat_weights[0] = None
        >>> settle_(layer)
        >>> layer._flat_weights[0] is layer.weight_ih_l0
        True
    """
    if not isinstance(module, nn.RNNBase):
        return
    inner = cast(Any, module)
    if parametrize.is_parametrized(module):
        inner._flat_weights = [None for _ in inner._flat_weights_names]
        # A reference to nothing: PyTorch takes it for a tensor that has changed.
        inner._flat_weight_refs = [_gone for _ in inner._flat_weights_names]
    else:
        # Without flatten_parameters(), which would give the parameters other memory on a GPU.
        held: list[Tensor | None] = [getattr(module, name, None) for name in inner._flat_weights_names]
        inner._flat_weights = held
        inner._flat_weight_refs = [None if tensor is None else weakref.ref(tensor) for tensor in held]


def _gone() -> None:
    return None


def copyable_(module: nn.Module) -> None:
    """Make a parametrised recurrent layer copyable also after a forward pass; other modules are left alone."""
    if not isinstance(module, nn.RNNBase) or not parametrize.is_parametrized(module):
        return
    cls = cast(Any, type(module))  # made by PyTorch for this module alone
    if getattr(cls.__deepcopy__, "settles", False):
        return
    inherited = cls.__deepcopy__

    def deepcopy(self: nn.Module, memo: dict[int, Any]) -> Any:
        settle_(self)
        return inherited(self, memo)

    deepcopy.settles = True  # type: ignore[attr-defined]
    cls.__deepcopy__ = deepcopy
