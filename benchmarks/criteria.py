"""What every criterion costs: its scoring against one plain forward and backward pass on the same batch.

    python benchmarks/criteria.py [--images 100] [--repeats 7] [--threads 2] [--only NAME ...] [--write]

Prints a table, writes `results/criteria.json` and the tables of `docs/criteria.md`, at other settings only with
`--write`. A few minutes on two cores. The network is ResNet32 (width 16); seconds of public implementations are of that
network, that many images and two threads, and were measured on a machine of the same kind. The process keeps the memory
that it frees, for the plain pass as for the criteria; what the ratios are where it does not is measured and told too.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import re
import statistics
from collections.abc import Callable
from typing import Any

import torch
from documents import PROJECT, parse, put_table, write_results
from measure import figure, judge, keep_freed_memory, paired, timed
from torch import Tensor, nn
from torch.nn import functional

import pruneinit as pi
from pruneinit.criteria import Criterion

PUBLIC = {"Snip": 4.6, "Grasp": 18.9, "SynFlow": 0.73}  # seconds of public implementations
RATIOS = {"Snip": 1.15, "Grasp": 3.5, "SynFlow": 1.3}  # at most, of one forward and backward pass
SLOW = 10.0  # seconds; what takes longer is measured once
FASTER = 3  # times, at least, than the public implementations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], help="criteria to measure anew; of others the last is kept")
    arguments, commit = parse(parser, places=("only",))
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = pi.models.build("resnet32", input_shape=(3, 32, 32), classes=10, width=16)
    x, y = torch.randn(arguments.images, 3, 32, 32), torch.randint(10, (arguments.images,))
    before = json.loads((PROJECT / "results" / "criteria.json").read_text()) if arguments.only else {}
    wanted = [c for c in criteria() if type(c).__name__ in arguments.only or not arguments.only]
    judged = [criterion for criterion in wanted if type(criterion).__name__ in RATIOS]
    given_back = before.get("ratios where it is given back", {}) | {
        type(c).__name__: cost(model, c, x, y, arguments.repeats)["ratio"] for c in judged
    }
    kept = keep_freed_memory()
    measured = before.get("criteria", {}) | {type(c).__name__: cost(model, c, x, y, arguments.repeats) for c in wanted}
    figures = []
    for name, limit in RATIOS.items():
        found = measured[name]
        figures += [
            figure(f"{name}, a round / {found['against']}", found["ratio"], "x", limit),
            figure(f"{name}, a round / the public implementation's {PUBLIC[name]} s", found["seconds"] / PUBLIC[name],
                   "x", 1 / FASTER),
        ]  # fmt: skip
    rows = judge(figures)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {arguments.threads} threads"
    memory = {"freed memory kept": kept, "ratios where it is given back": given_back}
    write_results("criteria", {"machine": machine, **memory, "criteria": measured, "figures": figures}, commit)
    header = ("criterion", "rounds", "keeps", "cost", "a round / forward and backward", "source")
    note = f"ResNet32 (width 16), {arguments.images} images; machine: {machine}."
    put_table("criteria.md", header, [row(c, measured[type(c).__name__]) for c in criteria()], note, commit)
    if kept:
        told = ", ".join(f"{name} {ratio:.3g}x" for name, ratio in given_back.items())
        note += f" Freed memory is kept by the process; where it is given back to the system: {told}."
    put_table("criteria.md", ("figure", "measured", "at most", "met"), rows, note, commit, "figures")


def criteria() -> list[Criterion]:
    """Every criterion as it is by default; batch statistics, but where each example has a gradient of its own.

    The slowest comes last.
    """
    found: list[Criterion] = []
    for name in pi.criteria.__all__:
        kind = getattr(pi.criteria, name)
        if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__"):
            norm = "running" if kind is pi.Fisher else "batch"
            found.append(kind(norm=norm) if "norm" in kind.__dataclass_fields__ else kind())
    return sorted(found, key=lambda criterion: isinstance(criterion, pi.Obd))


def cost(model: nn.Module, criterion: Criterion, x: Tensor, y: Tensor, repeats: int) -> dict[str, Any]:
    """Seconds of one scoring, and its ratio to a plain pass over the same examples (SynFlow: over one).

    What prepares for several rounds is measured as `prune` carries out all rounds but the first.
    """
    name = type(criterion).__name__
    examples = 1 if name == "SynFlow" else len(x)
    # Prospect pruning takes a batch for each inner step and one for the loss.
    parts = list(zip(x.chunk(4), y.chunk(4), strict=True)) if name == "ProsPr" else [(x, y)]
    # As the criterion runs it: what a pass costs depends on it.
    model.train(getattr(criterion, "norm", None) == "batch")

    def plain() -> None:
        model.zero_grad()
        torch.autograd.backward(functional.cross_entropy(model(x[:examples]), y[:examples]))

    score: Callable[[], object] = lambda: pi.score(model, criterion, parts)  # noqa: E731
    if (prepare := getattr(criterion, "prepare", None)) is not None:
        masks, prepared = pi.select(pi.score(model, criterion, parts), 0.5), prepare(model, parts)
        score = lambda: prepared(masks)  # noqa: E731
        score()
    passes = statistics.median(timed(plain) for _ in range(repeats))
    if (seconds := timed(score)) > SLOW:
        ratio = seconds / passes
    else:
        seconds, passes, ratio = paired(score, plain, repeats)
    print(f"{name:15} {seconds:8.3f} s {ratio:8.2f}x", flush=True)
    against = f"one forward and backward on {'one image' if examples == 1 else 'the same images'}"
    return {"seconds": seconds, "pass, s": passes, "ratio": ratio, "against": against}


def row(criterion: Criterion, measured: dict[str, Any]) -> list[str]:
    """A criterion as its docstring has it, beside what was measured."""
    text = inspect.cleandoc(type(criterion).__doc__ or "")
    return [
        f"`{type(criterion).__name__}`",
        str(getattr(criterion, "rounds", 1)),
        _line(text.partition("\n\n")[0]),
        _line(_until(r"[.;:]( |$)", _paragraph(text, "Cost"))),
        f"{measured['ratio']:.2g}x" + (" (one image)" if "one image" in measured["against"] else ""),
        _line(_until(r"(?<=\d{4}\))", _paragraph(text, "Source"))),
    ]


def _paragraph(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*?)(\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found.group(1) if found else "-"


def _until(pattern: str, text: str) -> str:
    """The text up to where the pattern is first found; all of it where it is not."""
    return re.split(pattern, " ".join(text.split()), maxsplit=1)[0]


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
