"""Any model: each architecture of the tests' list goes the whole way, and what was found on it.

    python benchmarks/models.py [--only WORD] [--write]

Writes `results/models.json` and the table of `docs/models.md`, with `--only` just with `--write`. Needs the extra
`architectures`. A few minutes of one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from documents import PROJECT, parse, put_table, write_results

HEADER = (
    *("from", "model", "weights pruned / parameters", "left at 95 %", "score, prune, rescale, train, save, load"),
    *("residual branches", "first layer empty at", "layers emptied by one global threshold", "effective sparsity"),
    "what to know",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="models that have this word in their name or source")
    arguments, commit = parse(parser)
    # The list belongs to the tests: what is published is what is tested.
    sys.path.insert(0, str(PROJECT / "tests"))
    listed: Any = importlib.import_module("zoo").ARCHITECTURES
    carry: Any = importlib.import_module("zoo.chain").carry
    found = []
    for architecture in listed:
        if arguments.only.lower() in f"{architecture.source} {architecture.name}".lower():
            found.append(travelled(architecture, carry))
            print(
                f"{found[-1]['source']:14}{found[-1]['name']:24}{found[-1]['passed']!s:8}{found[-1]['seconds']:.1f} s"
            )
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", "torchvision", "timm")}
    versions["transformers"] = importlib.import_module("transformers").__version__
    write_results("models", {"versions": versions, "models": found}, commit)
    note = ", ".join(f"{name} {version}" for name, version in versions.items())
    put_table("models.md", HEADER, [row(model) for model in found], f"Measured with {note}.", commit)


def travelled(architecture: Any, carry: Any) -> dict[str, Any]:
    """How far a model came, and what was found."""
    start = time.perf_counter()
    passage: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            passage = dataclasses.asdict(carry(architecture, Path(folder)))
            problem = ""
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
    plain = importlib.import_module("pruneinit.functional").cross_entropy
    return {
        "source": architecture.source,
        "name": architecture.name,
        "passed": not problem,
        "problem": problem,
        **passage,
        "norm": architecture.norm,
        "loss": "" if architecture.loss is plain else architecture.loss.__name__,
        "special": architecture.special,
        "seconds": round(time.perf_counter() - start, 1),
    }


def row(model: dict[str, Any]) -> list[str]:
    if not model["passed"]:
        return [model["source"], model["name"], "", "", f"no: {model['problem']}", "", "", "", "", model["special"]]
    branches = "cannot be scaled" if model["branches"] is None else str(model["branches"] or "none")
    said = [f'`norm="{model["norm"]}"`'] if model["norm"] else []
    said += [f"`loss={model['loss']}`"] if model["loss"] else []
    said += [model["special"]] if model["special"] else []
    return [
        model["source"],
        model["name"],
        f"{model['weights']:,} / {model['parameters']:,}",
        f"{model['left']:,}",
        "✓",
        branches,
        f"{model['critical']:.2%}",
        str(model["emptied"]),
        f"{model['effective']:.2%}",
        "; ".join(said),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
