"""How much memory a computation needs at its peak, counted from the tensors that live and not from the process."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def peak(function: Callable[[], Any]) -> int:
    """The most bytes that tensors made within `function()` hold at once; those made before are not counted."""
    with _Watch() as watch:
        function()
    return watch.peak


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.living = self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {self._address(t) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **kwargs)
        for tensor in pytree.tree_leaves(out):
            if isinstance(tensor, Tensor) and self._address(tensor) not in given | self._known.keys():
                storage = tensor.untyped_storage()
                self.living += storage.nbytes()
                self._known[self._address(tensor)] = weakref.finalize(
                    storage, self._freed, self._address(tensor), storage.nbytes()
                )
        self.peak = max(self.peak, self.living)
        return out

    def _freed(self, address: int, size: int) -> None:
        del self._known[address]
        self.living -= size

    @staticmethod
    def _address(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata
