"""How long a training step takes by the kept weights of convolutions alone (`Training(sparse=True)`), and as ever.

    python benchmarks/sparse_steps.py [--repeats 9] [--write]

Prints a table and writes it into `docs/costs.md`, and `results/sparse_steps.json`; at other settings only with
`--write`. One thread, as in a sweep with a process a core. Some five minutes.
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Callable
from typing import Any

import torch
from documents import parse, put_table, write_results
from measure import keep_freed_memory, paired
from torch import Tensor, nn
from torch.nn import functional

import pruneinit as pi
from pruneinit.models import build
from pruneinit.train.by_survivors import by_survivors

NETWORKS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("vcnn-2", {"depth": 50, "width": 16, "activation": "tanh"}, 128),
    ("vcnn-2", {"depth": 50, "width": 16, "activation": "relu"}, 128),
    ("vgg16", {"width": 8}, 128),
    ("3xvgg16", {"width": 8}, 128),
    ("vgg16_bn", {"width": 8}, 128),
    ("resnet20", {"width": 8}, 128),
    ("vgg16", {"width": 64}, 32),
    ("resnet32", {"width": 32}, 64),
    ("mlp", {"depth": 4, "width": 1024}, 256),
)
SPARSITIES = (0.9, 0.95, 0.98)
HEADER = ("network", "images", "sparsity", "step as ever", "by survivors", "faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    arguments, commit = parse(parser)
    torch.set_num_threads(1)
    kept = keep_freed_memory()
    steps = []
    for name, settings, images in NETWORKS:
        for sparsity in SPARSITIES:
            steps.append(measured(name, settings, images, sparsity, arguments.repeats))
            print(" | ".join(row(steps[-1])), flush=True)
    machine = f"{platform.machine()}, one thread, torch {torch.__version__}"
    write_results("sparse_steps", {"machine": machine, "steps": steps}, commit)
    note = (
        "Forward, backward and SGD; median of the ratios of pairs, the same weights by layer in both. As ever is the "
        "faster memory order, that of the network or channels_last. "
        f"{'Freed memory is kept by the process. ' if kept else ''}Machine: {machine}."
    )
    put_table("costs.md", HEADER, [row(one) for one in steps], note, commit, name="sparse steps")


def measured(name: str, settings: dict[str, Any], images: int, sparsity: float, repeats: int) -> dict[str, Any]:
    """Seconds of a step of one network as ever and by its survivors, and the median ratio."""
    torch.manual_seed(0)
    shape = (1, 28, 28) if name.startswith("vcnn") else (3, 32, 32)
    model = build(name, input_shape=shape, classes=10, **settings)
    pi.edge_of_chaos_(model, activation=settings.get("activation", "relu"))
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=sparsity, scope="erk"))
    x, y = torch.randn(images, *shape), torch.randint(10, (images,))
    ours = copy.deepcopy(model)
    with by_survivors(ours):
        fast = step(ours, x, y)
        plain = step(copy.deepcopy(model), x, y)
        ordered = x.contiguous(memory_format=torch.channels_last)
        last = step(copy.deepcopy(model).to(memory_format=torch.channels_last), ordered, y)  # type: ignore[call-overload]
        found = [paired(as_ever, fast, repeats) for as_ever in (plain, last)]
    dense, own, ratio = min(found, key=lambda one: one[2])
    width = f"width {settings['width']}" + (f", depth {settings['depth']}" if "depth" in settings else "")
    described = f"{name}, {width}" + (f", {settings['activation']}" if "activation" in settings else "")
    return {"network": described, "images": images, "sparsity": sparsity, "dense": dense, "own": own, "ratio": ratio}


def step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """One step of SGD, to be called."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(x), y))
        optimizer.step()

    return run


def row(one: dict[str, Any]) -> list[str]:
    """A line of the table."""
    times = [f"{1000 * one[key]:.0f} ms" for key in ("dense", "own")]
    return [one["network"], f"{one['images']}", f"{100 * one['sparsity']:g} %", *times, f"{one['ratio']:.1f} times"]


if __name__ == "__main__":
    main()
