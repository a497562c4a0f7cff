"""Weights that are sparse and orthogonal at once, for networks that are deep and sparse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor, nn

from pruneinit.densities import Scope, shares
from pruneinit.detect import alternates, find_activation
from pruneinit.draw import Mirrored, disjoint, sparse_orthogonal, turned
from pruneinit.errors import InputError
from pruneinit.initialize import drawn, edge, initialize_
from pruneinit.meanfield import Activation, ActivationSpec, NoEdgeOfChaos
from pruneinit.meanfield import activation as resolved
from pruneinit.meanfield.gaussian import check_number
from pruneinit.selection import check_scope
from pruneinit.weights import Weight, owner

_UNSHIFTED = 0.5  # of the channels of a convolution whose borders are zeros: measured in docs/edge.md


def sparse_orthogonal_(
    model: nn.Module,
    activation: ActivationSpec | None = None,
    *,
    sparsity: float | None = None,
    scope: Scope = "ends",
    degree: float = 2.5,
    mirrored: bool | None = None,
    sigma_b: float | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """As `orthogonal_` with most entries 0, in place: layers that are sparse *and* exactly orthogonal.

    What pruning leaves of an orthogonal matrix is orthogonal no more, and of a Gaussian one still less: deep in a
    sparse network all inputs look alike. Here the sparse matrix is made orthogonal from the start, by random Givens
    rotations of rows that share no column (Nowak, Gniecki, Szatkowski, Tabor, "Sparser, Better, Deeper, Stronger:
    Improving Static Sparse Training with Exact Orthogonal Initialization", 2024), spread evenly over rows. Prune it by
    `Magnitude()` to the same sparsity and scope, which removes zeros alone. A convolution begins as one shift a
    channel, and channels are turned in pairs from either side: with periodic borders and stride 1 it keeps the norm of
    images. Where borders are zeros a shift loses an edge, half of an image of 2 x 2 pixels, and half of the channels
    begin unshifted (docs/edge.md).

    Where layers of a plain stack widen and narrow in turn, what leads out of a wide layer reads just the directions
    that lead into it, at the same norm; drawn apart, each pair of layers would lose some of the signal.

    Where the sparsity leaves a neuron no more than one entry or two, a hundred layers only permute what they are given.
    A plain stack then uses as many neurons as can have `degree` entries, and the others have no weights at all: a
    sparse network of fewer neurons learns more than single wires through a wide one.

    ReLU is no isometry after an orthogonal matrix either. With `mirrored`, the second half of a layer's neurons has the
    weights of the first half negated, and the next layer takes their difference, φ(z) - φ(-z) = a z for ReLU, leaky
    ReLU, GELU and SiLU: the network starts as a linear one of half the width, orthogonal at any depth (Balduzzi et al.,
    "The Shattered Gradients Problem", 2017; Burkholz, Dubatovka, "Initialization of ReLUs for Dynamical Isometry",
    2019), and training takes the halves apart. The scale is then √2 / a, so that nothing grows or shrinks.

    Args:
        model: Any module; with `mirrored` one whose weights are listed in the order in which they run.
        activation: As in `edge_of_chaos_`.
        sparsity: The fraction of the weights that are 0, in [0, 1); None where `scope` gives densities. Where no
            rotation fits in any more, more entries are 0: a few of a layer of many neurons, up to an eighth of one that
            has few and reads many. They are kept, and trained, by the scope's masks. Of a weight that keeps fewer
            entries than its rows, some rows are empty.
        scope: How it is shared out: `"layer"`, `"uniform+"`, `"erk"`, `"erk+"`, `"ends"` or `"igq"`, or densities by
            the names of weights, as in `select`. By the same density for all, the last layer of a very sparse network
            does not lead to every class; by it and by ERK, the first reads too little of the inputs (docs/edge.md). The
            first and the last are those that the model lists first and last.
        degree: How many entries a hidden neuron has at least, on average over its layer; 0 uses all neurons. Mirrored
            neurons share theirs; those of wide layers between narrow ones have twice as many. At least as many neurons
            are used as the model has outputs.
        mirrored: None for those activations of which φ(z) - φ(-z) is linear and that are not odd, in a model that lists
            an activation module between every two layers.
        sigma_b: Standard deviation of the biases, 0 where mirrored. None: 0 if the activation has an edge there, as
            those near which the network is an isometry have; otherwise as in `edge_of_chaos_`.
        generator: As in `edge_of_chaos_`.

    Returns:
        `model`.

    Raises:
        InputError: As in `edge_of_chaos_`; a sparsity, scope or degree that there is not; a sparsity that leaves
            nothing of a weight, or of its mirrored half; or mirrored an activation of which φ(z) - φ(-z) is not linear,
            a `sigma_b` above 0, groups, or an odd number of neurons or channels.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        >>> model = sparse_orthogonal_(model, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(model[2].weight @ model[2].weight.T, torch.eye(8), atol=1e-6)
        True
        >>> int(model[2].weight.count_nonzero())
        16

        As many in each layer as a criterion keeps, which scores the dense network with data:

        >>> from pruneinit import Snip, prune
        >>> batches = [(torch.randn(32, 8), torch.randint(8, (32,)))]
        >>> masks = prune(sparse_orthogonal_(model, sparsity=0.0), Snip(), batches, sparsity=0.75)
        >>> model = sparse_orthogonal_(model, scope=masks.densities)
    """
    degree = check_number("degree", degree)
    if mirrored not in (None, True, False):
        raise InputError(f"mirrored must be True, False or None, got {mirrored!r}")
    phi = find_activation(model) if activation is None else resolved(activation)
    sigma_b = None if sigma_b is None else check_number("sigma_b", sigma_b)
    slope, weights = _difference_slope(phi), drawn(model)
    # Listed in the order in which they run, each once, with an activation between.
    stacked = alternates(model) and not any(weight.aliases for weight in weights.values())
    if mirrored is None:
        mirrored = slope is not None and stacked and not sigma_b
    if mirrored:
        if slope is None or sigma_b:
            why = "an activation with phi(z) - phi(-z) linear, as ReLU" if slope is None else "sigma_b=0"
            raise InputError(f"a mirrored network needs {why}: leave out mirrored, or set it to False")
        sigma_w, sigma_b = math.sqrt(2) / slope, 0.0
    else:
        sigma_w, sigma_b = _without_biases(model, phi) if sigma_b is None else edge(model, phi, sigma_b)
    check_scope(scope)
    sizes = {name: weight.numel for name, weight in weights.items()}
    kept = shares(scope, sparsity, {name: weight.shape for name, weight in weights.items()}, sizes)
    first, last = next(iter(weights)), next(reversed(weights))
    halves = {name: (mirrored and name != last, mirrored and name != first) for name in weights}
    for name, weight in weights.items():
        _check_halves(weight, halves[name])

    room = {name: kept[name] // (1 + halves[name][0]) // (1 + halves[name][1]) for name in weights}
    if gone := [name for name, left in room.items() if not left and sizes[name]]:
        entries = f"{kept[gone[0]]:,} of {sizes[gone[0]]:,} entries"
        shared, other = "the densities leave", "higher densities"
        if isinstance(scope, str):
            shared, other = f"sparsity={sparsity:g} by scope={scope!r} leaves", "a lower sparsity"
        raise InputError(
            f"{shared} {entries} to {gone[0]}, too few for a weight"
            + (" whose halves are mirrored" if mirrored else "")
            + f": take {other}"
        )
    used = _used(weights, room, halves, degree) if stacked else {name: _sizes(weights[name]) for name in weights}
    wide: list[Tensor] = []  # where a layer leads to something wider, the directions there, which the next one reads

    def draw(weight: Weight, generator: Generator, dtype: torch.dtype) -> Tensor:
        mirrors, own = halves[weight.name], room[weight.name]
        outputs, inputs = (size // (1 + half) for size, half in zip(used[weight.name], mirrors, strict=True))
        start, scale = wide.pop() if wide else None, sigma_w
        fits = start is not None and start.shape[1:] == (inputs, 1) and outputs <= len(start)
        if start is not None and fits and int(start[:outputs].count_nonzero()) <= own:
            # All that arrives lies along these directions, so that it is no more than so many numbers.
            scale, start = sigma_w * math.sqrt(len(start) / inputs), _read(start, outputs, own, generator)
        elif stacked and weight.kind == "linear" and outputs > inputs:
            start = disjoint(inputs, outputs, 1, own, generator)
            wide.append(start)
        else:
            start = None
        small = _of(weight, used[weight.name])
        unshifted = _UNSHIFTED if _loses_edges(owner(model, weight.name)[0], weight) else 0.0
        values = scale * sparse_orthogonal(
            small, kept[weight.name], generator, dtype, mirrors, start, unshifted=unshifted
        )
        return values if small is weight else _placed(values, weight, mirrors)

    return initialize_(model, draw, sigma_w, sigma_b, generator)


def _loses_edges(module: nn.Module, weight: Weight) -> bool:
    """Whether an image that a convolution shifts loses an edge, but would not if it stayed where it is.

    Zeros must take the place of what is shifted out, as many as keep the size. With a stride either way leaves out most
    positions, and an even kernel has no centre.
    """
    if getattr(module, "padding_mode", "") != "zeros" or any(size % 2 == 0 for size in weight.shape[2:]):
        return False
    stride, padding, dilation = (getattr(module, name, None) for name in ("stride", "padding", "dilation"))
    ones = (1,) * len(weight.shape[2:])
    if stride != ones or not isinstance(dilation, Sequence):
        return False
    return padding in ("same", tuple(step * (n // 2) for step, n in zip(dilation, weight.shape[2:], strict=True)))


def _read(start: Tensor, outputs: int, kept: int, generator: Generator) -> Tensor:
    """So many orthonormal combinations of all directions in `start`, with at most `kept` entries."""
    if outputs == len(start):
        return start
    every = turned(start, kept * len(start) // outputs, generator)
    fewest = every[every.flatten(1).count_nonzero(1).argsort(stable=True)[:outputs]]
    return fewest if int(fewest.count_nonzero()) <= kept else start[:outputs]


def _sizes(weight: Weight) -> tuple[int, int]:
    """Outputs and inputs (of a group), neurons or channels."""
    return weight.shape[weight.out_dim], weight.shape[1 - weight.out_dim]


def _used(
    weights: Mapping[str, Weight], room: Mapping[str, int], halves: Mapping[str, Mirrored], degree: float
) -> dict[str, tuple[int, int]]:
    """How many outputs and inputs of each weight are used, so that hidden neurons have `degree` entries on average.

    Neurons are counted where one weight writes just what the next one of its kind reads, in stacks without groups. The
    first weight and the last have no say: what reads the inputs, or writes few outputs, is passed once and needs no
    more than an entry a neuron. Neurons of a wide layer beyond the directions that narrow ones let through carry
    nothing more, and have twice as many entries.
    """
    sizes = {name: list(_sizes(weight)) for name, weight in weights.items()}
    names = list(weights)
    grouped = any(weight.groups > 1 for weight in weights.values())
    inner: dict[tuple[str, str], list[int]] = {}  # between two weights, the entries of those that have a say
    for name, after in pairwise(names):
        having = [room[one] for one in (name, after) if one not in (names[0], names[-1])]
        same = sizes[name][0] == sizes[after][1] and weights[name].kind == weights[after].kind
        if having and degree > 0 and same and not grouped:
            inner[name, after] = having

    def neurons(name: str, after: str, entries: Sequence[int], degree: float) -> int:
        # Never so few that there is no place for the entries, or for those of the last weight.
        least = max(sizes[names[-1]][0], math.isqrt(max(*entries, 1) - 1) + 1)
        if after == names[-1]:
            least = max(least, min(room[name], -(-room[after] // sizes[after][0])))
        return min(sizes[name][0] // (1 + halves[name][0]), max(int(min(entries) / degree), least))

    few = {name: neurons(name, after, entries, degree) for (name, after), entries in inner.items()}
    flat = all(weights[name].kind == "linear" for name in few)
    for (name, after), entries in inner.items():
        beyond = flat and few[name] > min(few.values())
        used = max(neurons(name, after, entries, 2 * degree), min(few.values())) if beyond else few[name]
        sizes[name][0] = sizes[after][1] = used * (1 + halves[name][0])
    return {name: (outputs, inputs) for name, (outputs, inputs) in sizes.items()}


def _of(weight: Weight, sizes: tuple[int, int]) -> Weight:
    """The weight with so many outputs and inputs."""
    if sizes == _sizes(weight):
        return weight
    shape = list(weight.shape)
    shape[weight.out_dim], shape[1 - weight.out_dim] = sizes
    return replace(weight, shape=tuple(shape), fan_in=weight.fan_in * sizes[1] / weight.shape[1 - weight.out_dim])


def _placed(values: Tensor, weight: Weight, mirrored: Mirrored) -> Tensor:
    """The values of the neurons that are used, the first of each half, among zeros."""
    whole = values.new_zeros(weight.shape)
    at = {}
    for dim, halved in zip((weight.out_dim, 1 - weight.out_dim), mirrored, strict=True):
        halves = torch.arange(weight.shape[dim], device=values.device).chunk(1 + halved)
        at[dim] = torch.cat([half[: values.shape[dim] // len(halves)] for half in halves])
    whole[at[0][:, None], at[1]] = values
    return whole


def _without_biases(model: nn.Module, phi: Activation) -> tuple[float, float]:
    try:
        return edge(model, phi, 0.0)
    except NoEdgeOfChaos:
        return edge(model, phi, None)


def _difference_slope(phi: Activation) -> float | None:
    """The a of φ(z) - φ(-z) = a z; None where it is not linear, or φ is odd, so that nothing is gained by it."""
    z = np.linspace(0.1, 4.0, 40)
    up, down = phi.function(z), phi.function(-z)
    slopes = (up - down) / z
    odd = np.allclose(up, -down, rtol=1e-6, atol=0)
    return None if odd or not slopes[0] or not np.allclose(slopes, slopes[0], rtol=1e-6) else float(slopes[0])


def _check_halves(weight: Weight, mirrored: Mirrored) -> None:
    outputs, inputs = weight.shape[weight.out_dim], weight.shape[1 - weight.out_dim]
    if any(mirrored) and weight.groups > 1:
        raise InputError(f"{weight.name} has groups, which cannot be mirrored: set mirrored=False")
    for number, halved, what in ((outputs, mirrored[0], "outputs"), (inputs, mirrored[1], "inputs")):
        if halved and number % 2:
            raise InputError(
                f"{weight.name} has {number} {what}, which have no halves to mirror: take an even number, or set "
                "mirrored=False"
            )
