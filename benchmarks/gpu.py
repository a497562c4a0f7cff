"""How long the paper's ResNet32 takes on a GPU: trained as ever, with its steps recorded, compiled, and side by side.

    python benchmarks/gpu.py                                                    # some ten minutes of one GPU
    python benchmarks/gpu.py --device cpu --images 256 --width 4 --beside 2     # whether it works, in a minute

Trains a few epochs of the recipe of `pruneinit reproduce cifar --scale paper` at 90 %, SBP on a Stable ResNet, on as
many random images as CIFAR-10 has, and reckons from the median epoch and what comes before it how long all 160 take.
Prints a table, and writes it into `docs/costs.md` and `results/gpu.json`. `results/` has it only once it was measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from documents import parse, put_table, write_results
from measure import figure, judge

from pruneinit.data import Dataset, Split
from pruneinit.experiments.prepare import ready
from pruneinit.experiments.recipe import Recipe
from pruneinit.paper import study
from pruneinit.train import Training, train

ONE, SEVERAL = 90.0, 600.0  # seconds of one training, and of `--beside` side by side, at most
HEADER = ("way", "before the first epoch", "an epoch", "160 epochs")
WAYS: dict[str, dict[str, Any]] = {
    "as ever": {"cuda_graph": False},
    "recorded": {"cuda_graph": True},
    "recorded, float32": {"cuda_graph": True, "amp": "none"},
    "recorded, images first": {"cuda_graph": True, "channels_last": False},
    "recorded, compiled": {"cuda_graph": True, "compile": True},
}


@dataclass(frozen=True)
class Trial:
    """What is trained, where and how long.

    Attributes:
        training: The settings, with as many epochs as are measured.
        width: Of ResNet32.
        images: To learn from; a fifth as many are evaluated.
        device: Where.
    """

    training: Training
    width: int
    images: int
    device: str

    def carry_out(self) -> dict[str, float]:
        """Seconds before the first epoch is over beyond an epoch, and of the median one of those after it."""
        torch.set_num_threads(1)
        recipe = paper(self.width)
        dataset = noise(self.images)
        start = time.perf_counter()
        model, _ = ready(recipe, dataset.to(self.device), torch.device(self.device))
        ends: list[float] = []
        train(model, dataset, self.training, seed=0, device=self.device,
              on_epoch=lambda epoch: ends.append(time.perf_counter()))  # fmt: skip
        epoch = statistics.median(b - a for a, b in pairwise(ends))
        return {"before": ends[0] - start - epoch, "epoch": epoch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--beside", type=int, default=12)
    arguments, commit = parse(parser)
    if arguments.epochs < 2:
        raise SystemExit(
            f"--epochs must be 2 or more, as the first one is not an epoch like others, got {arguments.epochs}"
        )
    whole = paper(arguments.width).training
    found: dict[str, dict[str, float]] = {}
    for name, settings in WAYS.items():
        training = replace(whole, epochs=arguments.epochs, **settings)
        found[name] = Trial(training, arguments.width, arguments.images, arguments.device).carry_out()
        print(" | ".join(row(name, found[name], whole.epochs)), flush=True)
    quickest = min(found, key=lambda name: found[name]["before"] + whole.epochs * found[name]["epoch"])
    best = replace(whole, epochs=arguments.epochs, **WAYS[quickest])
    for count in sorted({2, arguments.beside // 2, arguments.beside} - {0, 1}):
        name = f"{count} side by side, each {quickest}"
        found[name] = beside(Trial(best, arguments.width, arguments.images, arguments.device), count)
        print(" | ".join(row(name, found[name], whole.epochs)), flush=True)
    last = f"{arguments.beside} side by side, each {quickest}"
    figures = [
        figure(f"ResNet32, {whole.epochs} epochs, {quickest}", seconds(found[quickest], whole.epochs), "s", ONE),
        figure(f"{last}, {whole.epochs} epochs", seconds(found[last], whole.epochs), "s", SEVERAL),
    ]
    judged = judge(figures)
    place = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.machine()
    machine = f"{place}, {os.cpu_count()} cores, torch {torch.__version__}"
    write_results("gpu", {"machine": machine, "ways": found, "figures": figures}, commit)
    note = f"From {arguments.epochs} epochs of {arguments.images:,} images. Machine: {machine}."
    put_table("costs.md", HEADER, [row(name, one, whole.epochs) for name, one in found.items()], note, commit, "gpu")
    put_table("costs.md", ("figure", "measured", "at most", "met"), judged, note, commit, "gpu figures")


def paper(width: int) -> Recipe:
    """The recipe of the paper's ResNet32 at 90 %."""
    cells = study("cifar").grid("paper").cells()
    return replace(
        next(
            cell.recipe
            for cell in cells
            if cell.row == "SBP-SR" and cell.recipe.model == "resnet32" and cell.recipe.sparsity == 0.9
        ),
        width=width,
    )


def noise(images: int) -> Dataset:
    """Random images of the shape of CIFAR-10: what they show does not change how long it takes."""
    drawn = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(256, (count, 3, 32, 32), generator=drawn, dtype=torch.uint8)
        return Split(pixels, torch.arange(count) % 10)

    names = tuple(str(i) for i in range(10))
    return Dataset("noise", split(images), split(images // 5), names, (0.5,) * 3, (0.25,) * 3, padding=4, flip=True)


def beside(trial: Trial, count: int) -> dict[str, float]:
    """The slowest of so many trainings at a time, each in a process of its own."""
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [future.result() for future in [pool.submit(trial.carry_out) for _ in range(count)]]
    return max(found, key=lambda one: one["before"] + one["epoch"] * paper(trial.width).training.epochs)


def seconds(found: dict[str, float], epochs: int) -> float:
    """Of a whole training."""
    return found["before"] + epochs * found["epoch"]


def row(name: str, found: dict[str, float], epochs: int) -> list[str]:
    return [name, f"{found['before']:.1f} s", f"{found['epoch']:.2f} s", f"{seconds(found, epochs):.0f} s"]


if __name__ == "__main__":
    main()
