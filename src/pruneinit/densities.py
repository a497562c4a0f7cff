"""How many weights each layer keeps, by rule: exact whole numbers, from nothing but the shapes of the layers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from fractions import Fraction

from pruneinit.errors import InputError, check_sparsity, unknown

Counts = Mapping[str, int]
Shapes = Mapping[str, tuple[int, ...]]

Scope = str | Mapping[str, float]

# Of all that is kept, by `ends`; and what an output of the last layer may have, beside one between the ends. All three
# are measured in docs/edge.md.
_FIRST_AT_LEAST, _LAST_AT_MOST = Fraction(3, 10), Fraction(1, 4)
_TIMES_AS_MANY = 5

RULES = ("layer", "uniform", "uniform+", "erk", "erk+", "ends", "igq")


def total(scope: str, sparsity: float | None, sizes: Counts, room: Counts) -> int:
    """How many weights are kept in all by a scope that has a name.

    Raises:
        InputError: There is no such sparsity, or there is room for fewer.

    Example:
        >>> total("global", 0.9, {"a": 10, "b": 30}, {"a": 10, "b": 30})
        4
    """
    if sparsity is None:
        raise InputError(f"scope {scope!r} needs a sparsity in [0, 1), got None")
    keep = round((1 - check_sparsity(sparsity)) * sum(sizes.values()))
    if keep > sum(room.values()):
        raise InputError(
            f"asked to keep {keep:,} of {sum(sizes.values()):,} weights, but only {sum(room.values()):,} can be "
            "kept, the survivors of a sparsified model or what within= keeps: take a higher sparsity"
        )
    return keep


def shares(scope: Scope, sparsity: float | None, shapes: Shapes, room: Counts) -> dict[str, int]:
    """How many weights each layer keeps, by a rule and a sparsity or by densities.

    Args:
        scope: One of `RULES`, or the density of each weight.
        sparsity: The fraction to remove in all, in [0, 1); None where densities are given.
        shapes: The shape of each weight, in the order of the layers.
        room: How many weights each layer can keep at most.

    Raises:
        InputError: As `counts` and `given`; no such rule; a sparsity that there is not, or beside densities.

    Example:
        >>> shapes, room = {"a": (2, 5), "b": (3, 5)}, {"a": 10, "b": 15}
        >>> shares("layer", 0.6, shapes, room), shares({"a": 0.5, "b": 1}, None, shapes, room)
        ({'a': 4, 'b': 6}, {'a': 5, 'b': 15})
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if isinstance(scope, str):
        if scope not in RULES:
            raise unknown("scope", scope, RULES)
        return counts(scope, shapes, total(scope, sparsity, sizes, room), room)
    if sparsity is not None:
        raise InputError(f"densities are given for each weight, so sparsity must be None, got {sparsity!r}")
    return given(scope, sizes, room)


def counts(rule: str, shapes: Shapes, keep: int, room: Counts) -> dict[str, int]:
    """Share out exactly `keep` weights among layers.

    The rules, with n for the number of a layer's weights:

    - `"layer"`, also called `"uniform"`: the same density everywhere.
    - `"uniform+"`: the first convolution is kept whole, the last fully connected layer keeps at least 20 %, and all
      others have one density (Gale, Elsen, Hooker, "The State of Sparsity in Deep Neural Networks", 2019; Lee, Park,
      Mo, Ahn, Shin, "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021). A tensor of more than two
      dimensions is a convolution; where there is none, only the last layer has its share.
    - `"erk"`: Erdos-Renyi-Kernel, densities in proportion to the sum of the tensor's dimensions over their product
      (Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", 2020). A grouped
      convolution counts with the dimensions of its tensor, out x in / groups x kernel.
    - `"erk+"`: the same, but the first layer has at least the density of the whole. Where it reads many inputs, ERK
      leaves it fewer weights than any other layer, and deep networks that are sparse and orthogonal from the start
      lose by that (docs/edge.md).
    - `"ends"`: ERK between the ends. Of all that is kept the first layer has at least 30 %, or all its weights, or its
      share of all weights where that is larger: it is the only one that sees the inputs, and what it does not read is
      lost to all that follow. The last layer has at most 25 %: where it reads many numbers, ERK would take them from
      the layers before it. Where there are many classes and few layers it has more than that, up to about five times as
      many weights an output, the first dimension of its tensor, as the layers between, or what the others have no room
      for.
      Best for networks that are sparse and orthogonal from the start (docs/edge.md).
    - `"igq"`: Ideal Gas Quotas, densities 1 / (1 + F n) with one F for all layers (Vysogorets, Kempe, "Connectivity
      Matters: Neural Network Pruning Through the Lens of Effective Sparsity", 2023).

    The first and the last layer are those of `shapes`: of the weights to prune, those that the model lists first and
    last.

    A layer that would get more than it has room for is filled, and the others share what is left by the same rule.
    Fractions go to the largest remainders, equal ones to the layer that is listed first, so that every layer is within
    one weight of its exact share, and loses at most one where `keep` grows.

    Args:
        rule: One of `RULES`.
        shapes: The shape of each weight, in the order of the layers.
        keep: How many weights to keep, at most the sum of `room`.
        room: How many weights each layer can keep at most.

    Returns:
        How many weights each layer keeps; their sum is `keep`.

    Raises:
        InputError: The rule keeps more than `keep` weights; the highest possible sparsity is named.

    Example:
        >>> shapes = {"conv": (8, 3, 3, 3), "wide": (64, 72), "fc": (10, 64)}
        >>> room = {name: math.prod(shape) for name, shape in shapes.items()}
        >>> for rule in ("layer", "uniform+", "erk", "erk+", "ends", "igq"):
        ...     print(rule, counts(rule, shapes, 600, room))
        layer {'conv': 24, 'wide': 506, 'fc': 70}
        uniform+ {'conv': 216, 'wide': 256, 'fc': 128}
        erk {'conv': 45, 'wide': 359, 'fc': 196}
        erk+ {'conv': 45, 'wide': 359, 'fc': 196}
        ends {'conv': 180, 'wide': 272, 'fc': 148}
        igq {'conv': 124, 'wide': 275, 'fc': 201}
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if rule == "igq":
        return _whole(_ideal_gas(sizes, keep, room), keep, room)
    by_dimensions = rule in ("erk", "erk+", "ends")
    parts = {name: sum(shape or (1,)) for name, shape in shapes.items()} if by_dimensions else sizes
    least: dict[str, Fraction] = dict.fromkeys(shapes, Fraction(0))
    most: dict[str, Fraction] = {name: Fraction(room[name]) for name in shapes}
    if rule == "uniform+":
        least |= _whole_first_and_part_of_last(shapes, keep, room)
    elif rule == "erk+" and keep:
        first = next(iter(shapes))
        least[first] = min(most[first], keep * _share(first, sizes))
    elif rule == "ends" and keep:
        (first, *_), (*_, last) = shapes, shapes
        least[first] = min(most[first], keep * max(_share(first, sizes), _FIRST_AT_LEAST))
        most[last] = min(most[last], _most_of_last(shapes, keep, room, least[first]))
    return _whole(_proportional(parts, keep, least, most), keep, room)


def given(densities: Mapping[str, float], sizes: Counts, room: Counts) -> dict[str, int]:
    """How many weights each layer keeps where its density is given.

    Args:
        densities: For each weight the density it keeps, in [0, 1].
        sizes: How many weights each layer has.
        room: How many weights each layer can keep at most.

    Raises:
        InputError: A density is missing, no density, or more than there is room for, or a name is no weight's.

    Example:
        >>> given({"a": 0.25, "b": 1}, {"a": 10, "b": 15}, {"a": 10, "b": 15})
        {'a': 2, 'b': 15}
    """
    for name in densities:
        if name not in sizes:
            raise unknown("weight", str(name), sizes)
    found = {}
    for name, size in sizes.items():
        if not isinstance(densities.get(name), numbers.Real) or not 0 <= densities[name] <= 1:
            raise InputError(f"the density of {name} must be given, in [0, 1]; got {densities.get(name)!r}")
        found[name] = round(float(densities[name]) * size)
        if found[name] > room[name]:
            raise InputError(
                f"asked to keep {found[name]:,} weights of {name}, but only {room[name]:,} can be kept, the survivors "
                "of a sparsified model or what within= keeps: take a lower density"
            )
    return found


def _share(name: str, sizes: Counts) -> Fraction:
    """What a layer has of all weights."""
    return Fraction(sizes[name], sum(sizes.values()))


def _most_of_last(shapes: Shapes, keep: int, room: Counts, of_first: Fraction) -> Fraction:
    """What `ends` lets the last layer keep, where the first keeps `of_first`."""
    *others, last = shapes
    outputs = {name: (shape or (1,))[0] for name, shape in shapes.items()}
    weighed = _TIMES_AS_MANY * outputs[last]
    asked = weighed + sum(outputs[name] for name in others[1:])
    by_outputs = (keep - of_first) * Fraction(weighed, asked or 1)
    unplaced = Fraction(keep - sum(room[name] for name in others))
    return max(keep * _LAST_AT_MOST, by_outputs, unplaced)


def _whole_first_and_part_of_last(shapes: Shapes, keep: int, room: Counts) -> dict[str, Fraction]:
    """What `uniform+` keeps of two layers at least."""
    first = next((name for name, shape in shapes.items() if len(shape) > 2), None)
    last = next((name for name in list(shapes)[::-1] if len(shapes[name]) <= 2), None)
    least: dict[str, int] = {}
    if last is not None:
        least[last] = min(room[last], math.ceil(Fraction(math.prod(shapes[last]), 5)))
    if first is not None:
        least[first] = room[first]
    total, needed = sum(map(math.prod, shapes.values())), sum(least.values())
    if needed > keep:
        parts = [f"{first} whole"] * (first is not None) + [f"20 % of {last}"] * (last is not None)
        highest = math.floor(10_000 * (1 - needed / total)) / 10_000
        raise InputError(
            f"scope 'uniform+' keeps {' and '.join(parts)}, {needed:,} of {total:,} weights, but only {keep:,} are to "
            f"be kept: the highest possible sparsity is {highest:g}"
        )
    return {name: Fraction(part) for name, part in least.items()}


def _proportional(
    parts: Counts, keep: int, least: Mapping[str, Fraction], most: Mapping[str, Fraction]
) -> dict[str, Fraction]:
    """The shares t * parts, each moved into [least, most], with the one t at which they add up to `keep`."""
    fixed: dict[str, Fraction] = {}
    while True:
        free = [name for name in parts if name not in fixed]
        left, mass = keep - sum(fixed.values()), sum(parts[name] for name in free)
        share = {name: left * Fraction(parts[name], mass) if mass else Fraction(0) for name in free}
        above = {name: most[name] for name in free if share[name] > most[name]}
        below = {name: least[name] for name in free if share[name] < least[name]}
        if not above and not below:
            return {name: (fixed | share)[name] for name in parts}
        excess = sum(share[name] - bound for name, bound in (above | below).items())
        # With too much in all, the others will get more, so that those above stay above; and the other way round.
        if excess >= 0:
            fixed |= above
        if excess <= 0:
            fixed |= below


def _ideal_gas(sizes: Counts, keep: int, room: Counts) -> dict[str, Fraction]:
    """The shares n / (1 + F n), at most `room`, with the one F at which they add up to `keep`."""

    def share(force: float) -> dict[str, float]:
        return {name: min(room[name], size / (1 + force * size)) for name, size in sizes.items()}

    low, high = 0.0, len(sizes) / max(keep, 1)  # no layer gets as much as 1 / F
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if math.fsum(share(middle).values()) > keep else (low, middle)
    return {name: Fraction(part) if keep else Fraction(0) for name, part in share(high).items()}


def _whole(shares: Mapping[str, Fraction], keep: int, room: Counts) -> dict[str, int]:
    """Shares rounded to whole numbers of sum `keep`, the largest remainders up."""
    found = {name: math.floor(share) for name, share in shares.items()}
    left = keep - sum(found.values())
    by_remainder = sorted(shares, key=lambda name: found[name] - shares[name])
    while left > 0:
        for name in [name for name in by_remainder if found[name] < room[name]][:left]:
            found[name] += 1
            left -= 1
    return found
