"""What the foundation costs: every figure is a ratio or a time measured in this one run.

    python benchmarks/foundation.py [--data_dir DATA] [--repeats 15] [--write]

Prints a table, writes `results/foundation.json` and the table of `docs/costs.md`, at other settings only with
`--write`. Needs CIFAR-10 for the data pipeline.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from documents import parse, put_table, write_results
from measure import figure, judge, paired
from torch import nn
from torch.nn import functional

import pruneinit as pi
from pruneinit.data import batches, load
from pruneinit.models import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--repeats", type=int, default=15)
    arguments, commit = parse(parser)
    figures = [
        *import_time(arguments.repeats),
        *survivors_step(arguments.repeats),
        *snip(arguments.repeats),
        *selection(arguments.repeats),
        *data_pipeline(arguments.data_dir, arguments.repeats),
    ]
    rows = judge(figures)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    write_results("foundation", {"machine": machine, "figures": figures}, commit)
    put_table("costs.md", ("figure", "measured", "at most", "met"), rows, f"Machine: {machine}.", commit)


def import_time(repeats: int) -> list[dict[str, Any]]:
    def python(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    # Names are imported when they are first used: here all of them are.
    everything = "import torch; from pruneinit import *"
    ours, torchs, _ = paired(python(everything), python("import torch"), repeats)
    command = "import sys; from pruneinit.cli import main; sys.exit(main(['--help']))"
    shown, _, _ = paired(python(command), python("pass"), repeats)
    return [
        figure("import all of pruneinit beyond import torch", ours - torchs, "s", 0.2, torch=torchs),
        figure("pruneinit --help", shown, "s", 2.0),
    ]


def resnet32() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet32", input_shape=(3, 32, 32), classes=10, width=32)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, generator=generator), torch.randint(10, (count,), generator=generator)


def survivors_step(repeats: int) -> list[dict[str, Any]]:
    x, y = images(128)
    figures = []
    for sparsity in (0.9, 0.98):
        dense = resnet32()
        sparse = copy.deepcopy(dense)
        pi.sparsify_(sparse, pi.prune(dense, pi.Magnitude(), sparsity=sparsity, allow_empty=True))
        optimizers = [torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9) for m in (sparse, dense)]

        def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(x), y))
            optimizer.step()

        ours, plain, ratio = paired(
            lambda m=sparse, o=optimizers[0]: step(m, o),  # type: ignore[misc]
            lambda m=dense, o=optimizers[1]: step(m, o),  # type: ignore[misc]
            repeats,
        )
        sizes = [training_bytes(m, o) for m, o in zip((sparse, dense), optimizers, strict=True)]
        share = sizes[0] / sizes[1] / (1 - sparsity)
        name = f"at {sparsity:.0%} sparsity, ResNet32 (width 32), batch 128"
        figures += [
            figure(f"training step / dense step, {name}", ratio, "x", 1.05, seconds=ours, dense_seconds=plain),
            figure(f"parameters + gradients + momentum / (density x dense), {name}", share, "x", 1.3, bytes=sizes),
        ]
    return figures


def training_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    total = 0
    for parameter in model.parameters():
        state = optimizer.state[parameter]["momentum_buffer"]
        gradient = parameter.grad
        assert gradient is not None
        total += sum(t.numel() * t.element_size() for t in (parameter, gradient, state))
    return total


def snip(repeats: int) -> list[dict[str, Any]]:
    model, batch = resnet32().train(), images(100)

    def plain() -> None:
        model.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(batch[0]), batch[1]))

    ours, backward, ratio = paired(lambda: pi.score(model, pi.Snip(norm="batch"), [batch]), plain, repeats)
    name = "Snip / one forward and backward, ResNet32 (width 32), 100 images"
    return [figure(name, ratio, "x", 1.15, seconds=ours, plain_seconds=backward)]


def selection(repeats: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    scores = {str(i): torch.randn(1_500_000, generator=generator).abs() for i in range(10)}
    seconds, _, _ = paired(lambda: pi.select(scores, 0.98), lambda: sum(range(1000)), repeats)
    code = """
import re, torch
from pruneinit import select
def memory(field):  # not ru_maxrss, which a child process takes over from its parent
    return 1024 * int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
scores = {str(i): torch.rand(10_000_000) for i in range(10)}
before = memory("VmRSS")
masks = select(scores, 0.98)
extra = memory("VmHWM") - before
print(extra / 4e8, (extra - masks.total) / 4e8)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    whole, beyond = (float(word) for word in done.stdout.split())
    return [
        figure("select on 15 million scores", seconds, "s", 0.2),
        figure("select on 100 million: memory beside scores and masks / scores", beyond, "x", 0.2, with_masks=whole),
    ]


def data_pipeline(root: str | None, repeats: int) -> list[dict[str, Any]]:
    data = load("cifar10", root)
    model = resnet32()
    epochs = (
        batches(data.train, data, 128, generator=torch.Generator().manual_seed(epoch), augment=True)
        for epoch in itertools.count()
    )
    stream = itertools.chain.from_iterable(epochs)

    def step() -> None:
        x, y = images(128)
        torch.autograd.backward(functional.cross_entropy(model(x), y))

    seconds, step_seconds, ratio = paired(lambda: next(stream), step, repeats)
    name = "an augmented CIFAR-10 batch / its training step, ResNet32 (width 32)"
    return [figure(name, ratio, "x", 0.05, seconds=seconds, step_seconds=step_seconds)]


if __name__ == "__main__":
    main()
