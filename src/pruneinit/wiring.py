"""Which units of a model's layers feed which: the graph on which paths from input to output are walked.

A **call** is one use of a weight by a layer; a layer that runs twice has two. A **unit** is an output channel or
feature of a call, a **port** an input channel or feature. What lies between the calls (activations, normalisation,
pooling, sums, concatenation, attention) decides which units a port reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.batch import tensors
from pruneinit.errors import InputError
from pruneinit.functional import Loss
from pruneinit.reach.operation import Operation
from pruneinit.reach.trace import Tracer

_CONVS = {f"conv{k}d": k for k in (1, 2, 3)}
_TRANSPOSED = {f"conv_transpose{k}d": k for k in (1, 2, 3)}
_MATMULS = ("matmul", "mm")
# What reads a tied weight by row and is no layer: the tokens are the input.
_PASSED = ("embedding",)


@dataclass(frozen=True)
class Call:
    """One use of a weight.

    Attributes:
        name: The weight's.
        index: Which elements of the weight, flat, are used.
        port: For each of them the input channel that it reads.
        unit: For each of them the output channel that it feeds.
        ports: How many input channels there are.
        units: How many output channels there are.
    """

    name: str
    index: Tensor
    port: Tensor
    unit: Tensor
    ports: int
    units: int


@dataclass(frozen=True)
class Wiring:
    """The calls of a model in order of execution, ports and units numbered through.

    Attributes:
        calls: The calls.
        reads: Pairs of a unit and a port that reads it, [2, pairs], sorted by unit.
        inputs: The ports that read the model's input.
        outputs: The units that the model's output depends on directly.
    """

    calls: tuple[Call, ...]
    reads: Tensor
    inputs: Tensor
    outputs: Tensor


def wiring(model: nn.Module, batch: Any, loss: Loss, values: dict[str, Tensor]) -> Wiring:
    """The wiring of `loss(model, batch)`, run with exactly the tensors `values` for weights, without gradients.

    Cost: two forward passes of the batch, each operation done twice; and for each call about two backward passes for
    each bit of the number of its ports, through what lies between it and the calls before. Where a unit is read by
    several ports (a map that is flattened, attention), one for each port.

    Raises:
        InputError: A weight is used by an operation that is not understood, or the output cannot be followed.
    """
    # Twice: once to see which ports read the input, through no other call, and once to see which units they read.
    direct = _run(_Wires(values, from_input=True), model, batch, loss)
    wires = _run(_Wires(values, from_input=False), model, batch, loss)
    if not wires.calls:
        raise InputError(
            "no weight is used between the input and the output: expected a loss that runs the model on the batch"
        )
    pairs = [torch.zeros(2, 0, dtype=torch.long)]
    first_port = 0
    for number, call in enumerate(wires.calls):
        for source, unit, port in _read_by(wires.seen[number], wires.leaves[:number]):
            pairs.append(torch.stack([unit + sum(c.units for c in wires.calls[:source]), port + first_port]))
        first_port += call.ports
    reads = torch.cat(pairs, 1)
    inputs = torch.cat([seen > 0 for seen in direct.seen])
    return Wiring(
        tuple(wires.calls),
        reads[:, reads[0].argsort(stable=True)],
        inputs.nonzero().reshape(-1),
        wires.reached.nonzero().reshape(-1),
    )


class _Wires(Tracer):
    """Cuts the reach at every call: what a call puts out depends on its own units, and on nothing before."""

    def __init__(self, values: dict[str, Tensor], *, from_input: bool) -> None:
        super().__init__()
        self.values = {v.untyped_storage().data_ptr(): (name, v) for name, v in values.items()}
        self.from_input = from_input
        self.calls: list[Call] = []
        self.leaves: list[Tensor] = []
        self.seen: list[Tensor] = []
        self.reached = torch.zeros(0)

    def _follow(
        self, name: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], outputs: list[Tensor]
    ) -> None:
        weights = [t for t in tensors((args, kwargs)) if (g := self.gates.of(t)) is not None and g.requires_grad]
        if not weights or name in _PASSED or all(self.reach.of(t) is None for t in tensors((args, kwargs))):
            super()._follow(name, func, args, kwargs, outputs)
            return
        op = Operation(name, func, args, kwargs, outputs[0], self.reach.of, self._factor, self.gates.of, inner=False)
        call, data, place, out_place = self._call(op, weights)
        shadow = self.reach.of(data)
        if shadow is None:
            raise InputError(f"{call.name} is multiplied by what does not depend on the input, which cannot be walked")
        leaf = torch.ones(call.units, device=shadow.device)
        leaf = leaf.zero_() if self.from_input else leaf.requires_grad_()
        self.calls.append(call)
        self.leaves.append(leaf)
        self.seen.append(shadow.movedim(place, 0).reshape(call.ports, -1).sum(1))
        out = outputs[0]
        self.reach.cast(out, leaf.reshape(-1, *(1,) * (-1 - out_place)).expand(out.shape))

    def _call(self, op: Operation, weights: list[Tensor]) -> tuple[Call, Tensor, int, int]:
        """The call that an operation is, the tensor that it reads, and the dimensions of its ports and its units."""
        names = [self.values[p][0] for t in weights if (p := t.untyped_storage().data_ptr()) in self.values]
        what = f"{names[0] if names else 'a tensor computed from weights'} in {op.name}"
        data = op.given(0, "input", op.kwargs.get("self"))
        other = "other" if op.name == "matmul" else "mat2" if op.name == "mm" else "weight"
        used = op.given(1, other)
        known = op.name in ("linear", *_MATMULS, *_CONVS, *_TRANSPOSED)
        if not known or len(weights) != 1 or weights[0] is not used or not names or used.dim() < 2:
            raise InputError(
                f"the paths through {what} cannot be walked: expected linear layers, convolutions, and products with a "
                "matrix that is a weight itself; leave the model to another criterion"
            )
        if op.name in _MATMULS:
            if used.dim() != 2:
                raise InputError(f"the paths through {what} cannot be walked: expected a matrix, got {used.dim()}-D")
            used = used.T
        _, value = self.values[used.untyped_storage().data_ptr()]
        # The elements of the stored weight behind a view of it, such as the query's third of an attention's.
        every = torch.arange(value.numel()).as_strided(used.shape, used.stride(), used.storage_offset())
        places = _CONVS.get(op.name, _TRANSPOSED.get(op.name, 0))
        groups = op.given(6, "groups", 1) if places else 1
        return _described(names[0], every, groups, op.name in _TRANSPOSED), data, -1 - places, -1 - places


def _described(name: str, every: Tensor, groups: int, transposed: bool) -> Call:
    """The ports and units of each element: of a weight [out, in / groups, *taps], or transposed [in, out / groups]."""
    near = torch.arange(every.shape[0])
    far = torch.arange(every.shape[1]) + (near // (every.shape[0] // groups) * every.shape[1])[:, None]
    rows = near.view(-1, 1, 1).expand(-1, every.shape[1], every[0, 0].numel()).reshape(-1)
    columns = far[:, :, None].expand(-1, -1, every[0, 0].numel()).reshape(-1)
    sizes = every.shape[0], every.shape[1] * groups
    if transposed:
        return Call(name, every.reshape(-1), rows, columns, *sizes)
    return Call(name, every.reshape(-1), columns, rows, *reversed(sizes))


def _run(wires: _Wires, model: nn.Module, batch: Any, loss: Loss) -> _Wires:
    for tensor in tensors(batch):
        wires.reach.cast(tensor, torch.full((), float(wires.from_input), device=tensor.device))
    for parameter in model.parameters():
        wires.gates.cast(parameter, torch.ones((), device=parameter.device))
    for _, value in wires.values.values():
        wires.gates.cast(value, torch.ones(value.shape, device=value.device).requires_grad_())
    with torch.no_grad(), wires:
        outputs = loss(model, batch)
    found = [reach for tensor in tensors(outputs) if (reach := wires.reach.of(tensor)) is not None]
    if not found:
        raise InputError(
            "the output cannot be followed back to the input: expected a loss that runs the model on the batch in "
            "operations of PyTorch; return tensors, and no numbers taken by item() or numpy()"
        )
    total = sum((reach.sum().cpu() for reach in found), torch.zeros(()))
    if total.requires_grad and wires.leaves and not wires.from_input:
        parts = torch.autograd.grad(total, wires.leaves, allow_unused=True, materialize_grads=True, retain_graph=True)
        wires.reached = torch.cat([part.cpu() > 0 for part in parts])
    return wires


def _read_by(seen: Tensor, leaves: list[Tensor]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each earlier call that the ports `seen` read: its number, and pairs of its unit and a port that reads it."""
    if not seen.requires_grad or not leaves:
        return

    def units(ports: Tensor) -> list[Tensor | None]:
        seed = ports.to(seen.device, seen.dtype)
        found = torch.autograd.grad(seen, leaves, seed, retain_graph=True, allow_unused=True)
        return [None if part is None else part.cpu() > 0 for part in found]

    count = len(seen)
    sources = [i for i, part in enumerate(units(torch.ones(count))) if part is not None and bool(part.any())]
    leaves = [leaves[i] for i in sources]
    if not sources:
        return
    numbers = torch.arange(count)
    # A unit that one port reads is seen in exactly one of the two halves that each bit makes of the ports.
    ones, zeros = [], []
    for bit in range(max(1, (count - 1).bit_length())):
        half = (numbers >> bit) & 1
        ones.append(units(half))
        zeros.append(units(1 - half))
    unclear = []
    for i, source in enumerate(sources):
        has = torch.stack([_or_none(part[i], leaves[i]) for part in ones])
        lacks = torch.stack([_or_none(part[i], leaves[i]) for part in zeros])
        if bool((has & lacks).any()):
            unclear.append(i)
            continue
        unit = (has | lacks).any(0).nonzero().reshape(-1)
        port = (has.long() << torch.arange(len(has))[:, None]).sum(0)[unit]
        yield source, unit, port
    if not unclear:
        return
    leaves = [leaves[i] for i in unclear]
    found = [units(numbers == port) for port in range(count)]
    for at, i in enumerate(unclear):
        table = torch.stack([_or_none(part[at], leaves[at]) for part in found])
        port, unit = table.nonzero(as_tuple=True)
        yield sources[i], unit, port


def _or_none(part: Tensor | None, leaf: Tensor) -> Tensor:
    return torch.zeros(len(leaf), dtype=torch.bool) if part is None else part
