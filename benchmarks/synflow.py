"""What synaptic flow keeps of deep residual networks in float32, and what a round costs.

    python benchmarks/synflow.py [--rounds 100] [--repeats 7] [--write]

Prints tables, writes `results/synflow.json` and the tables of `docs/synflow.md`, at other settings only with
`--write`. Some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import platform
from typing import Any

import torch
from documents import parse, put_table, write_results
from measure import paired
from torch import Tensor, nn

import pruneinit as pi
from pruneinit.models import build
from pruneinit.pruning import all_kept

NETWORKS = (("resnet32", 32), ("resnet44", 16), ("resnet56", 16), ("resnet110", 16))
SPARSITIES = (0.9, 0.98, 0.999)
ONES = torch.ones(1, 3, 32, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    arguments, commit = parse(parser)
    costs = [cost(name, width, arguments.repeats) for name, width in (("resnet32", 16), *NETWORKS)]
    counts = []
    for (name, width), shortcut in itertools.product(NETWORKS, ("projection", "padding")):
        for sparsity in SPARSITIES:
            counts.append(count(name, width, shortcut, sparsity, arguments.rounds))
            print(count_row(counts[-1]), flush=True)
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    results = {"machine": machine, "rounds": arguments.rounds, "counts": counts, "costs": costs}
    write_results("synflow", results, commit)
    header = ("network", "shortcut", "sparsity", "asked", "kept", "empty layers", "first empty", "plain float32")
    note = (
        f"{arguments.rounds} rounds, PyTorch's default initialisation, seed 0. The last column is R of the dense "
        "network as plain float32 computes it."
    )
    put_table("synflow.md", header, [count_row(found) for found in counts], note, commit, name="counts")
    columns = ("network", "forward and backward", "one scoring", "one of many", "with selection", "a whole prune")
    put_table("synflow.md", columns, [cost_row(found) for found in costs], f"Machine: {machine}.", commit, name="costs")


def network(name: str, width: int, shortcut: str = "projection") -> nn.Module:
    torch.manual_seed(0)
    return build(name, input_shape=(3, 32, 32), classes=10, width=width, shortcut=shortcut).eval()


def count(name: str, width: int, shortcut: str, sparsity: float, rounds: int) -> dict[str, Any]:
    model = network(name, width, shortcut)
    masks, first = all_kept(model), None
    scores = pi.SynFlow().prepare(model, [ONES])
    for number in range(1, rounds + 1):
        step = 1 - (1 - sparsity) ** (number / rounds)
        masks = pi.select(scores(masks), step, within=masks)
        if masks.empty and first is None:
            first = {"sparsity": masks.sparsity, "layers": list(masks.empty)}
    return {
        "network": name,
        "width": width,
        "shortcut": shortcut,
        "sparsity": sparsity,
        "asked": round((1 - sparsity) * masks.total),
        "kept": masks.kept,
        "empty": list(masks.empty),
        "layers": len(masks),
        "first": first,
        "plain": str(plain_flow(model).item()),
    }


def plain_flow(model: nn.Module) -> Tensor:
    """R as the definition says it, with nothing done against overflow."""
    positive = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
        flow: Tensor = positive(ONES).sum()
    return flow


def cost(name: str, width: int, repeats: int) -> dict[str, Any]:
    """Seconds of a plain pass of one example, and how many times as long each of these takes, in turn with it."""
    model, rounds = network(name, width), pi.SynFlow.rounds
    masks = pi.select(pi.SynFlow()(model, [ONES]), 0.5)
    prepared = pi.SynFlow().prepare(model, [ONES])
    prepared(masks)
    data = [(ONES, torch.zeros(1, dtype=torch.long))]

    def plain() -> None:
        model.zero_grad()
        torch.autograd.backward(model(ONES).sum())

    def passes() -> None:
        for _ in range(rounds):
            plain()

    def prune() -> None:
        pi.prune(model, pi.SynFlow(), data, sparsity=0.98, allow_empty=True)

    scores, seconds, one = paired(lambda: pi.SynFlow()(model, [ONES], masks), plain, repeats)
    _, _, later = paired(lambda: prepared(masks), plain, repeats)
    _, _, selected = paired(lambda: pi.select(prepared(masks), 0.6, within=masks), plain, repeats)
    _, _, whole = paired(prune, passes, max(1, repeats // 3), warm=1)
    found = {"plain": seconds, "scores": scores, "one": one, "later": later, "selected": selected, "whole": whole}
    print(name, width, found, flush=True)
    return {"network": name, "width": width, **found}


def count_row(found: dict[str, Any]) -> list[str]:
    first = f"{found['first']['layers'][0]} at {100 * found['first']['sparsity']:.2f} %" if found["first"] else "none"
    return [
        f"{found['network']}, width {found['width']}", found["shortcut"], f"{100 * found['sparsity']:g} %",
        f"{found['asked']:,}", f"{found['kept']:,}", f"{len(found['empty'])} of {found['layers']}", first,
        f"{float(found['plain']):.2g}",
    ]  # fmt: skip


def cost_row(found: dict[str, Any]) -> list[str]:
    ratios = [f"{found[key]:.2f}x" for key in ("one", "later", "selected", "whole")]
    return [f"{found['network']}, width {found['width']}", f"{1e3 * found['plain']:.3g} ms", *ratios]


if __name__ == "__main__":
    main()
