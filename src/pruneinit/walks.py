"""Random walks over the weights of a model, from input to output and back, biased by the weights' magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pruneinit.wiring import Wiring

_GROUP = 1024  # walks that advance together


@dataclass(frozen=True)
class Draws:
    """Lists of choices, each with its weight, and draws from many of them at once by the inverse of their CDFs."""

    start: Tensor
    end: Tensor
    choice: Tensor
    cumulative: Tensor

    @staticmethod
    def of(owner: Tensor, choice: Tensor, weight: Tensor, owners: int) -> Draws:
        """The choices of each owner in the order given."""
        order = owner.argsort(stable=True)
        counts = torch.bincount(owner, minlength=owners)
        end = counts.cumsum(0)
        return Draws(end - counts, end, choice[order], weight.double()[order].cumsum(0))

    def pick(self, owner: Tensor, u: Tensor) -> Tensor:
        """For each owner one of its choices: the first at which the sum of weights exceeds u times their total."""
        start, end = self.start[owner], self.end[owner]
        below = torch.where(start > 0, self.cumulative[start - 1], 0.0)
        target = below + u * (self.cumulative[end - 1] - below)
        at = torch.searchsorted(self.cumulative, target, right=True)
        return self.choice[at.clamp(start, end - 1)]

    def total(self) -> Tensor:
        """The sum of the weights of each owner's choices; 0 of one without."""
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), self.cumulative])
        return torch.where(self.end > self.start, sums[self.end] - sums[self.start], 0.0)


class Walker:
    """Walks of one model; `visit` tells the weights in the order in which they are met.

    Args:
        wires: Which units feed which ports.
        magnitudes: |w| of each element of each weight, flat; 0 where no walk may go.
    """

    def __init__(self, wires: Wiring, magnitudes: dict[str, Tensor]) -> None:
        offset, first, ports, units = {}, 0, 0, 0
        for name, values in magnitudes.items():
            offset[name] = first
            first += values.numel()
        weight, port, unit, size = [], [], [], []
        for call in wires.calls:
            live = magnitudes[call.name][call.index] > 0
            weight.append(call.index[live] + offset[call.name])
            size.append(magnitudes[call.name][call.index][live])
            port.append(call.port[live] + ports)
            unit.append(call.unit[live] + units)
            ports, units = ports + call.ports, units + call.units
        self.weight, self.port, self.unit = torch.cat(weight), torch.cat(port), torch.cat(unit)
        self.depth = len(wires.calls)
        edges, sizes = torch.arange(len(self.weight)), torch.cat(size)
        self.from_port = Draws.of(self.port, edges, sizes, ports)
        self.to_unit = Draws.of(self.unit, edges, sizes, units)
        ahead, behind = self.from_port.total(), self.to_unit.total()
        unit_read, port_reading = wires.reads
        some = (ahead[port_reading] > 0) & (behind[unit_read] > 0)
        unit_read, port_reading = unit_read[some], port_reading[some]
        self.readers = Draws.of(unit_read, port_reading, ahead[port_reading], units)
        self.read = Draws.of(port_reading, unit_read, behind[unit_read], ports)
        self.inputs = wires.inputs[ahead[wires.inputs] > 0]
        self.outputs = wires.outputs[behind[wires.outputs] > 0]

    @property
    def possible(self) -> bool:
        """Whether there is a path to walk."""
        return bool(len(self.inputs) and len(self.outputs))

    def visit(self, first: int, generator: Generator) -> Tensor:
        """The weights met by walks `first`, `first` + 1, ..., in order; [walks · 2, calls], -1 after the end of one.

        The rows are walk by walk: forward from an input port, backward from an output unit, and so on. Each has a row
        of numbers u in [0, 1) to itself, two for each step: which port reads the unit, and which weight leaves the
        port; backward which unit the port reads, and which weight feeds the unit. The first number is not used: walks
        start at each port of the input, and at each unit of the output, in turn.
        """
        u = torch.rand(2 * _GROUP, self.depth, 2, generator=generator, dtype=torch.float64)
        turn = torch.arange(first, first + _GROUP)
        ports, units = self.inputs[turn % len(self.inputs)], self.outputs[turn % len(self.outputs)]
        path = torch.full((2 * _GROUP, self.depth), -1)
        path[0::2] = self._walk(ports, u[0::2], self.from_port, self.unit, self.readers)
        path[1::2] = self._walk(units, u[1::2], self.to_unit, self.port, self.read)
        return torch.where(path >= 0, self.weight[path], -1)

    def _walk(self, at: Tensor, u: Tensor, leave: Draws, far: Tensor, onward: Draws) -> Tensor:
        path = torch.full((len(at), self.depth), -1)
        going = torch.arange(len(at))
        for step in range(self.depth):
            edge = leave.pick(at, u[going, step, 1])
            path[going, step] = edge
            reached = far[edge]
            more = onward.end[reached] > onward.start[reached]
            going, reached = going[more], reached[more]
            if not len(going):
                break
            at = onward.pick(reached, u[going, (step + 1) % self.depth, 0])
        return path


def first_visits(walker: Walker, wanted: Tensor, coverage: float, generator: Generator) -> Tensor:
    """The wanted weights in the order in which walks first meet them, until `coverage` of the wanted are met.

    Walks also end where as many again as there have been found less than a hundredth more.

    Args:
        walker: Walks the model.
        wanted: Whether each weight counts.
        coverage: The fraction of the wanted weights to be met.
        generator: Of the random numbers.

    Returns:
        Flat indices over all weights.
    """
    met = ~wanted
    order: list[Tensor] = []
    goal, count, before, check = coverage * int(wanted.count_nonzero()), 0, 0, _GROUP
    number = 0
    while walker.possible and count < goal:
        found = walker.visit(number, generator).reshape(-1)
        found = found[found >= 0]
        found = found[~met[found]]
        fresh, inverse = torch.unique(found, return_inverse=True)
        place = torch.full((len(fresh),), len(found)).scatter_reduce(0, inverse, torch.arange(len(found)), "amin")
        order.append(found[place.sort().values])
        met[fresh] = True
        count += len(fresh)
        number += _GROUP
        if number == check:
            if count < 1.01 * before or count == 0:
                break
            before, check = count, 2 * check
    return torch.cat(order) if order else torch.zeros(0, dtype=torch.long)
