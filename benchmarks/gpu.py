"""How long the paper's ResNet32 takes on a GPU: trained as ever, with its steps recorded, compiled, and side by side.

    python benchmarks/gpu.py                                                    # some ten minutes of one GPU
    python benchmarks/gpu.py --device cpu --images 256 --width 4 --beside 2     # whether it works, in a minute

Trains a few epochs of the recipe of `pruneinit reproduce cifar --scale paper` at 90 %, SBP on a Stable ResNet, on as
many random images as CIFAR-10 has, and reckons from the median epoch and what comes before it how long all 160 take.
Every way has processes of its own; the losses that are printed should be alike. Prints a table, and writes it into
`docs/costs.md` and, line by line, `results/gpu.json`.
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
from multiprocessing.synchronize import Barrier
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
        """Seconds of a median epoch, and of what comes before the first one and on top of it; the last loss."""
        torch.set_num_threads(1)
        dataset, device = noise(self.images), torch.device(self.device)
        torch.zeros(1, device=device)  # starts the GPU
        start = time.perf_counter()
        model, _ = ready(paper(self.width), dataset.to(device), device)
        prepared = time.perf_counter() - start
        if _MEETING is not None:
            _MEETING.wait(120)
        ends = [time.perf_counter()]
        records = train(model, dataset, self.training, seed=0, device=device,
                        on_epoch=lambda epoch: ends.append(time.perf_counter()))  # fmt: skip
        first, *others = (b - a for a, b in pairwise(ends))
        epoch = statistics.median(others)
        return {"before": prepared + first - epoch, "epoch": epoch, "loss": records[-1].train_loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--beside", type=int, default=12)
    arguments, commit = parse(parser)
    if arguments.epochs < 2 or arguments.beside < 2:
        raise SystemExit("--epochs and --beside must be 2 or more")
    epochs = paper(arguments.width).training.epochs
    gpu = arguments.device.startswith("cuda")
    place = torch.cuda.get_device_name() if gpu else platform.machine()
    kept: dict[str, Any] = {"machine": f"{place}, {os.cpu_count()} cores, torch {torch.__version__}", "ways": {}}
    found: dict[str, dict[str, float]] = kept["ways"]

    def measure(name: str, settings: dict[str, Any], count: int) -> None:
        """One line of the table, which is kept at once; what fails leaves the others alone."""
        training = replace(paper(arguments.width).training, epochs=arguments.epochs, **settings)
        try:
            found[name] = beside(Trial(training, arguments.width, arguments.images, arguments.device), count)
        except Exception as error:
            print(f"{name}: {error}", flush=True)
            return
        print(" | ".join(row(name, found[name], epochs)), f"loss {found[name]['loss']:.4f}", flush=True)
        if commit:
            write_results("gpu", kept)

    for name in ("as ever", "recorded", "recorded, float32", "recorded, images first"):
        measure(name, WAYS[name], 1)
    if not found:
        raise SystemExit("none of the ways could be measured; what went wrong is said above")
    quick = min(found, key=lambda name: seconds(found[name], epochs))
    several = {count: f"{count} side by side, each {quick}" for count in sorted({2, arguments.beside})}
    for count, name in several.items():
        measure(name, WAYS[quick], count)
    measure("recorded, compiled", WAYS["recorded, compiled"], 1)
    alone = {name: seconds(found[name], epochs) for name in WAYS if name in found}
    best = min(alone, key=lambda name: alone[name])
    kept["figures"] = [figure(f"ResNet32, {epochs} epochs, {best}", alone[best], "s", ONE)]
    if (last := several[arguments.beside]) in found:
        kept["figures"].append(figure(f"{last}, {epochs} epochs", seconds(found[last], epochs), "s", SEVERAL))
    judged = judge(kept["figures"])
    write_results("gpu", kept, commit)
    note = f"From {arguments.epochs} epochs of {arguments.images:,} images. Machine: {kept['machine']}."
    put_table("costs.md", HEADER, [row(name, one, epochs) for name, one in found.items()], note, commit, "gpu")
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


_MEETING: Barrier | None = None
"""Where the processes of trainings side by side wait for each other, so that none begins before all are ready."""


def beside(trial: Trial, count: int) -> dict[str, float]:
    """The slowest of so many trainings at a time, each in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, spawn, initializer=_meet, initargs=(spawn.Barrier(count),)) as pool:
        found = [future.result() for future in [pool.submit(trial.carry_out) for _ in range(count)]]
    return max(found, key=lambda one: seconds(one, paper(trial.width).training.epochs))


def _meet(barrier: Barrier) -> None:
    global _MEETING
    _MEETING = barrier


def seconds(found: dict[str, float], epochs: int) -> float:
    """Of a whole training."""
    return found["before"] + epochs * found["epoch"]


def row(name: str, found: dict[str, float], epochs: int) -> list[str]:
    return [name, f"{found['before']:.1f} s", f"{found['epoch']:.2f} s", f"{seconds(found, epochs):.0f} s"]


if __name__ == "__main__":
    main()
