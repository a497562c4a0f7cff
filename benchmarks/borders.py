"""How many channels of a convolution with zero borders should begin unshifted?

    python benchmarks/borders.py [--seeds 3] [--only NAME ...] [--write]

`sparse_orthogonal_` begins a convolution as one shift a channel. With periodic borders that loses nothing; with zeros
each shift loses an edge, but a channel that is never shifted sees nothing beside it. Here one share of the channels
after another begins where it is, in small VGG16s without batch normalisation, on CIFAR-10, and in V-CNNs with zero
borders, on MNIST, trained as in the studies `edge-cifar` and `edge-vcnn` on other seeds. Writes `results/borders.json`
and a table of `docs/edge.md`. An hour and a half on one core; with `--only` some networks, and the others as they were.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from documents import PROJECT, parse, put_table, write_results
from trained import at_better_rate, images_of, told

from pruneinit import Magnitude, models, prune, rescale_, sparse_orthogonal_, sparsify_
from pruneinit.experiments.prepare import scoring_batch
from pruneinit.paper import study
from pruneinit.seeds import derived

FIRST_SEED = 5
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Place:
    """What is trained.

    Attributes:
        study: Whose data, width and training it has.
        model: The network; a V-CNN has zero borders.
        rates: The two of the study's learning rates at which sparse orthogonal networks are best.
    """

    name: str
    study: str
    model: str
    sparsity: float
    rates: tuple[float, float]
    depth: int | None = None
    rescaled: bool = False


PLACES = (
    Place("VGG16, 98 %", "edge-cifar", "vgg16", 0.98, (0.1, 0.05), rescaled=True),
    Place("3xVGG16, 98 %", "edge-cifar", "3xvgg16", 0.98, (0.05, 0.02), rescaled=True),
    *(Place(f"V-CNN, depth {depth}, 95 %", "edge-vcnn", "vcnn-2", 0.95, (0.1, 0.03), depth) for depth in (10, 50)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[place.name for place in PLACES], metavar="NAME")
    arguments, commit = parse(parser, ("only",))
    torch.set_num_threads(1)
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    fresh = {
        place.name: [{"share": share, "networks": [measured(place, share, seed) for seed in seeds]} for share in SHARES]
        for place in PLACES
        if arguments.only is None or place.name in arguments.only
    }
    before = {} if arguments.only is None else json.loads((PROJECT / "results" / "borders.json").read_text())["places"]
    found = {place.name: (before | fresh)[place.name] for place in PLACES if place.name in before | fresh}
    rows = [[name, *(told(one["networks"]) for one in columns)] for name, columns in found.items()]
    numbers = {len(one["networks"]) for columns in found.values() for one in columns}
    said = (
        "ReLU, sparse orthogonal by `ends`; test accuracy in percent, mean ± standard deviation over "
        f"{' or '.join(map(str, sorted(numbers)))} seeds, each at the better of two learning rates on held-out images."
    )
    header = ("unshifted", "all taps alike", *(f"{100 * share:g} %" for share in SHARES[1:]))
    put_table("edge.md", header, rows, said, commit, "borders")
    write_results("borders", {"places": found}, commit)


def measured(place: Place, share: float, seed: int) -> dict[str, Any]:
    """A network trained at each rate: its accuracy at the better one."""
    settings = study(place.study).grid("small").recipe
    recipe, dataset = images_of(settings, seed)
    borders: dict[str, Any] = {"padding": "zero"} if place.model == "vcnn-2" else {}
    model = models.build(
        place.model, input_shape=dataset.shape, classes=len(dataset.classes), depth=place.depth,
        width=settings["width"], activation="relu", **borders,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(derived("weights", seed))
    with mock.patch("pruneinit.exact_orthogonal._UNSHIFTED", share):
        sparse_orthogonal_(model, sparsity=place.sparsity, sigma_b=0.0, generator=generator)
    masks = prune(model, Magnitude(), sparsity=place.sparsity, scope="ends")
    if place.rescaled:
        rescale_(model, [scoring_batch(recipe, dataset)], masks=masks, method="layer")
    sparsify_(model, masks)
    return {"seed": seed, "accuracy": at_better_rate(model, dataset, settings, place.rates, seed)}


if __name__ == "__main__":
    main()
