"""A model of a billion weights, scored, pruned and turned into survivors on one CPU: how much memory, how long.

    python benchmarks/billion.py [--weights 1e9] [--write]

An MLP of square layers in bfloat16 is drawn on the Edge of Chaos, scored by Snip, pruned to 95 % by one global
threshold and sparsified; then it is run once. A fresh process does this, and its peak resident memory, Python and
PyTorch included, is measured after each step. Writes `results/billion.json` and the table of `docs/costs.md`, at other
settings only with `--write`; `--weights 1e6` is a quick try.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from documents import parse, put_table, write_results

LAYERS = 15
EXAMPLES = 8
CLASSES = 10
SPARSITY = 0.95
LIMIT = 12.0  # GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=float, default=1e9)
    arguments, commit = parse(parser)
    # This process has not imported torch: a child's peak memory begins with that of its parent.
    command = [sys.executable, "-c", f"import billion; billion.work({arguments.weights})"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    found = json.loads(done.stdout)
    found["met"] = found["peak_gb"] <= LIMIT
    write_results("billion", {"sparsity": SPARSITY, "limit_gb": LIMIT, **found}, commit)
    rows = [[step["name"], f"{step['seconds']:.1f} s", f"{step['peak_gb']:.2f} GB"] for step in found["steps"]]
    met = "met" if found["met"] else "NOT MET"
    note = (
        f"{found['weights']:,} weights in {LAYERS + 1} layers, {found['survivors']:,} of them kept; at most "
        f"{LIMIT:g} GB: {met}. Machine: {found['machine']}."
    )
    put_table("costs.md", ("step", "time", "peak memory so far"), rows, note, commit, name="billion")


def work(weights: float) -> None:
    """Do it all in this process, and print what it took as JSON."""
    import torch
    from torch import nn

    import pruneinit as pi

    steps: list[dict[str, Any]] = []

    @contextmanager
    def step(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        steps.append({"name": name, "seconds": time.perf_counter() - start, "peak_gb": peak()})

    width, dtype = math.ceil(math.sqrt(weights / LAYERS)), torch.bfloat16
    generator = torch.Generator().manual_seed(0)
    with step("draw the model on the Edge of Chaos"):
        layers = [
            nn.Linear(width, size, bias=False, dtype=dtype, device="meta") for size in (*[width] * LAYERS, CLASSES)
        ]
        modules = [module for layer in layers for module in (layer, nn.Tanh())][:-1]
        model = nn.Sequential(*modules).to_empty(device="cpu")  # not drawn twice
        pi.edge_of_chaos_(model, generator=generator)
    x = torch.randn(EXAMPLES, width, generator=generator).to(dtype)
    y = torch.arange(EXAMPLES) % CLASSES
    with step("score by Snip"):
        scores = pi.score(model, pi.Snip(), [(x, y)])
    with step(f"select {SPARSITY:.0%} globally"):
        masks = pi.select(scores, SPARSITY)
    del scores
    with step("turn into survivors"):
        pi.sparsify_(model, masks)
    with step("run once"), torch.no_grad():
        output = model(x)
    survivors = sum(parameter.numel() for parameter in model.parameters())
    assert bool(output.isfinite().all())
    assert survivors == masks.kept == round((1 - SPARSITY) * masks.total)
    machine = f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    found = {"machine": machine, "weights": masks.total, "survivors": survivors, "peak_gb": peak(), "steps": steps}
    print(json.dumps(found))


def peak() -> float:
    """The most memory that this process has held at once, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
