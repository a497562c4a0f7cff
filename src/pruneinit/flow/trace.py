"""The pass itself: every operation by its rule, and each result brought back to a size that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pruneinit.batch import tensors
from pruneinit.calls import functional_form, is_composed, named, opened
from pruneinit.errors import InputError
from pruneinit.flow import rules
from pruneinit.flow.call import Call
from pruneinit.flow.recorder import Recorder
from pruneinit.flow.rules import Rule
from pruneinit.flow.scaled import ROOM, Scale, Scales, settled, times
from pruneinit.flow.table import FREE, UNSEEN, rule_of


class Flow(TorchFunctionMode):
    """Runs a model as a linear one with positive coefficients, whatever its depth.

    Example:
        >>> flow, x, weight = Flow(), torch.ones(1, 2), torch.full((1, 2), 2.0**100)
        >>> weight = flow.start(weight)
        >>> flow.signal(x)
        >>> with flow:
        ...     y = torch.tanh(x @ weight.t())
        >>> y.item(), flow.scales.of(y).exponent
        (1.0, 101)

    Args:
        recorder: What writes the pass down, if it is to be run again.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        super().__init__()
        self.scales = Scales()
        self._recorder = recorder
        self._read = recorder.top if recorder else float
        self._within: list[Callable[..., Any]] = []

    def start(self, weight: Tensor) -> Tensor:
        """A tensor of positive weights as what the model is to read in its place."""
        weight, scale = settled(weight, Scale(), "reading the weights")
        self.scales.note(weight, scale)
        return weight

    def signal(self, tensor: Tensor) -> None:
        """Let the flow begin at a tensor."""
        self.scales.note(tensor, Scale(signal=True))

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func` by its rule."""
        kwargs = kwargs or {}
        name, in_place, free, rule = _classified(func)
        if name in UNSEEN and self._recorder:
            self._recorder.possible = False
        if free:
            return func(*args, **kwargs)
        if rule is None and is_composed(func) and func not in self._within:
            self._within.append(func)
            try:
                with self:
                    return opened(func)(*args, **kwargs)
            finally:
                self._within.pop()
        call = Call(name, functional_form(func, name, in_place), args, kwargs, self.scales, in_place)
        if not call.followed:
            return func(*args, **kwargs)
        self._see_all(call)
        target = args[0] if in_place else kwargs.get("out")
        if rule is None and target is None:
            result = func(*args, **kwargs)
            if tensors(result) and all(self.scales.of(t) is not None for t in tensors(result)):
                return result
            if any(scale.exponent for _, scale in call.followed):
                result = rules.unknown(call)[0]
            exponent = 0
        else:
            result, exponent = (rule or rules.unknown)(call)
        if rule is rules.inverse and target is None:
            return result  # a constant now
        scale = Scale(exponent, call.signal or name == "embedding")
        if target is not None:
            return target if result is target else self._write(target, result, scale, name)
        if rule is not rules.identity and isinstance(result, Tensor) and self.scales.of(result) is None:
            result, scale = settled(result, scale, name, self._read)
        for tensor in self._fresh(result):
            self.scales.note(tensor, scale)
        return result

    def _fresh(self, result: Any) -> list[Tensor]:
        """The numbers in a result that are no views of an argument; views share its scale."""
        found = [result] if isinstance(result, Tensor) else tensors(result)
        return [t for t in found if (t.is_floating_point() or t.is_complex()) and self.scales.of(t) is None]

    def _write(self, target: Tensor, result: Tensor, scale: Scale, name: str) -> Tensor:
        """Put a result in place of what is in a tensor, whose whole storage has one exponent."""
        result, scale = settled(result, scale, name, self._read)
        before = self.scales.of(target) or Scale()
        whole = target.untyped_storage().nbytes() == target.numel() * target.element_size()
        if not whole and scale.exponent <= before.exponent + ROOM:
            scale, result = Scale(before.exponent, scale.signal), times(result, scale.exponent - before.exponent)
        elif not whole:
            base = target._base
            if base is None:
                raise InputError(f"{name!r} writes to a part of a tensor in a way that cannot be followed")
            base.copy_(times(base, before.exponent - scale.exponent))
        target.copy_(result)
        self.scales.note(target, Scale(scale.exponent, scale.signal or before.signal))
        return target

    def _see_all(self, call: Call) -> None:
        """See that no argument comes of something that was not seen.

        Raises:
            InputError: One does, so that its power of two is unknown.
        """
        if any(tensor.requires_grad and not tensor.is_leaf for tensor in call.others):
            raise InputError(
                f"an argument of {call.name!r} was computed out of sight, by a scripted module or an extension of "
                "PyTorch: the flow through it cannot be followed; use the plain module"
            )


@cache
def _classified(func: Callable[..., Any]) -> tuple[str, bool, bool, Rule | None]:
    name, in_place = named(func)
    free = getattr(func, "__name__", "") == "__get__" or (name in FREE and not in_place)
    return name, in_place, free, rule_of(name)


def total(tree: Any, scales: Scales) -> Tensor:
    """The sum of all outputs, in some units.

    Raises:
        InputError: None of them depends on the input in a way that can be followed.
    """
    found = [(t, scale) for t in tensors(tree) if t.is_floating_point() and (scale := scales.of(t)) is not None]
    if not found:
        raise InputError(
            "the output cannot be followed back to the input: expected output(model, batch) to give tensors that the "
            "model computes in operations of PyTorch"
        )
    units = max(scale.exponent for _, scale in found)
    parts = [times(torch.where(t == -torch.inf, 0.0, t).sum(), scale.exponent - units) for t, scale in found]
    return torch.stack(parts).sum()
