"""How much should the first and the last layer keep? Networks that are sparse and orthogonal from the start.

    python benchmarks/ends.py [--seeds 3] [--write]

The rule `ends` gives the first layer much of all that is kept, and the last not too much
(`pruneinit.densities.counts`). Here they get one share after another, and the layers between what is left, on digits,
MNIST and CIFAR, trained as in the studies `edge`, `edge-mnist` and `edge-vcnn`. The rule's three numbers were chosen by
these tables; the studies have other seeds and networks. Writes `results/ends.json` and two tables of `docs/edge.md`.
An hour on one core.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import torch
from documents import parse, put_table, write_results
from trained import at_better_rate, images_of, read, told

from pruneinit import Magnitude, models, prunable, prune, sparse_orthogonal_, sparsify_
from pruneinit.densities import counts
from pruneinit.errors import InputError
from pruneinit.paper import study
from pruneinit.seeds import derived

FIRST_SEED = 2


@dataclass(frozen=True)
class Place:
    """What is trained.

    Attributes:
        study: Whose data and training it has.
        model: The network.
        rates: The two of the study's learning rates at which sparse orthogonal networks are best.
        data: The images, if not those of the study.
        width: Of the network, if not that of the study.
    """

    study: str
    model: str
    activation: str
    depth: int
    sparsity: float
    rates: tuple[float, float]
    data: str | None = None
    width: int | None = None

    def __str__(self) -> str:
        settings = self.settings
        name = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[settings["data"]]
        if self.model == "vcnn-2":
            name += f", V-CNN of width {settings['width']}"
        return f"{name}, {self.activation}, depth {self.depth}, {100 * self.sparsity:g} %"

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the study, with what this place has of its own."""
        own = {"data": self.data, "width": self.width}
        return {**study(self.study).grid("small").recipe, **{name: one for name, one in own.items() if one is not None}}


FIRST = (
    *(Place("edge", "mlp", "relu", depth, 0.99, (0.01, 0.003)) for depth in (30, 50, 100)),
    Place("edge", "mlp", "tanh", 50, 0.99, (0.01, 0.003)),
    Place("edge-mnist", "mlp", "relu", 50, 0.95, (0.03, 0.01)),
    Place("edge-mnist", "mlp", "tanh", 50, 0.95, (0.03, 0.01)),
    Place("edge-vcnn", "vcnn-2", "relu", 10, 0.95, (0.1, 0.03)),
)
LAST = (
    *(Place("edge-vcnn", "vcnn-2", activation, 10, 0.95, (0.1, 0.03)) for activation in ("relu", "tanh")),
    Place("edge-vcnn", "vcnn-2", "relu", 10, 0.95, (0.1, 0.03), "cifar10"),
    Place("edge-vcnn", "vcnn-2", "tanh", 10, 0.95, (0.1, 0.03), "cifar10", 8),
    Place("edge-vcnn", "vcnn-2", "relu", 10, 0.95, (0.1, 0.03), "cifar100"),
    Place("edge-vcnn", "vcnn-2", "tanh", 10, 0.95, (0.1, 0.03), "cifar100"),
)
FIRST_SHARES = (None, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
LAST_SHARES = (None, 0.7, 0.5, 0.35, 0.25, 0.15, 0.08)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments, commit = parse(parser)
    torch.set_num_threads(1)
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    found: dict[str, list[dict[str, Any]]] = {}
    said = (
        f"Test accuracy in percent, mean ± standard deviation over {arguments.seeds} seeds, each at the better of two "
        "learning rates on held-out images. "
    )
    tables = {
        "first layer": (FIRST, FIRST_SHARES, "first", "f is the first layer's share of all weights, others by ERK."),
        "last layer": (
            LAST,
            LAST_SHARES,
            "last",
            "f is the last layer's share of all weights; the first has what `ends` gives it.",
        ),
    }
    for name, (places, shares, end, note) in tables.items():
        rows = []
        for place in places:
            columns = []
            for share in (*shares, "rule"):
                networks = [measured(place, end, share, seed) for seed in seeds]
                found.setdefault(f"{place}, {end}", []).append({"share": share, "networks": networks})
                columns.append(told(networks))
            rows.append([str(place), *of_rule(place, end), *columns])
            print(*rows[-1], sep=" | ", flush=True)
        header = ("network", "f", "by the rule", "by ERK", *(f"{100 * share:g} %" for share in shares if share), "ends")
        put_table("edge.md", header, rows, said + note, commit, name)
    write_results("ends", {"places": found}, commit)


def kept(place: Place, end: str, share: float | str | None) -> dict[str, int]:
    """How many weights each layer keeps where one end has a share of all that is kept.

    Args:
        place: Which network.
        end: "first" or "last".
        share: Of that layer; "rule" for all by `ends`, None by ERK.
    """
    shapes = {name: one.shape for name, one in prunable(build(place)).items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    keep = round((1 - place.sparsity) * sum(sizes.values()))
    if share == "rule":
        return counts("ends", shapes, keep, sizes)
    first, last = next(iter(shapes)), next(reversed(shapes))
    fixed: dict[str, int] = {}
    if end == "last":
        fixed[first] = counts("ends", shapes, keep, sizes)[first]
    if isinstance(share, float):
        fixed |= {first if end == "first" else last: round(keep * share)}
    fixed = {name: min(sizes[name], number) for name, number in fixed.items()}
    free = {name: shape for name, shape in shapes.items() if name not in fixed}
    found = counts("erk", free, keep - sum(fixed.values()), sizes) | fixed
    return {name: found[name] for name in shapes}


def of_rule(place: Place, end: str) -> tuple[str, str]:
    """An end's share of all weights, and of all that is kept by `ends`."""
    sizes = {name: one.numel for name, one in prunable(build(place)).items()}
    own = kept(place, end, "rule")
    name = next(iter(sizes)) if end == "first" else next(reversed(sizes))
    return f"{100 * sizes[name] / sum(sizes.values()):.2g} %", f"{100 * own[name] / sum(own.values()):.2g} %"


def build(place: Place) -> torch.nn.Module:
    """The dense network."""
    settings = place.settings
    images = read(settings["data"])
    return models.build(
        place.model, input_shape=images.shape, classes=len(images.classes), depth=place.depth,
        width=settings.get("width", 100), activation=place.activation,
    )  # fmt: skip


def measured(place: Place, end: str, share: float | str | None, seed: int) -> dict[str, Any]:
    """A network trained at each rate: its accuracy at the better one; None where the share cannot be had."""
    settings = place.settings
    _, dataset = images_of(settings, seed)
    model = build(place)
    numbers, weights = kept(place, end, share), prunable(model)
    densities = {name: number / weights[name].numel for name, number in numbers.items()}
    generator = torch.Generator().manual_seed(derived("weights", seed))
    first, *_, last = numbers.values()
    made = {"seed": seed, "first": first, "last": last, "kept": sum(numbers.values())}
    try:
        sparse_orthogonal_(model, place.activation, scope=densities, sigma_b=0.0, generator=generator)
    except InputError:  # the other layers are left with less than their mirrored halves need
        return made | {"accuracy": None}
    sparsify_(model, prune(model, Magnitude(), sparsity=None, scope=densities))
    return made | {"accuracy": at_better_rate(model, dataset, settings, place.rates, seed)}


if __name__ == "__main__":
    main()
