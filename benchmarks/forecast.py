"""Does the theory tell beforehand what pruning does? Densities, the critical sparsity, published collapse, the cost.

    python benchmarks/forecast.py [--width 2000] [--seeds 20] [--data_dir DATA] [--parts PART ...] [--write]

Writes `results/forecast.json` and the tables of `docs/theory.md`, at other settings only with `--write`. About a
quarter of an hour on two cores; of parts that are not asked for, the committed results stay. Real CIFAR-10 images are
needed for the convolutional networks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import resnets
import torch
from documents import PROJECT, parse, put_table, write_results
from measure import timed
from torch import Tensor, nn

import pruneinit as pi
from pruneinit.criteria import Criterion
from pruneinit.data import batches, load
from pruneinit.functional import Norm
from pruneinit.meanfield import edge_of_chaos, predict

EDGE = edge_of_chaos("tanh", 0.2).sigma_w
CHAOS = (3**0.5, 0.05**0.5)
MODULES: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "identity": nn.Identity}
Batch = tuple[Tensor, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2000, help="of the wide networks")
    parser.add_argument("--seeds", type=int, default=20, help="of measured critical sparsities; half for densities")
    parser.add_argument("--data_dir", default=None)
    parts = ("cost", "densities", "critical", "published")  # the cost first, before the machine is warm from the rest
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="what to measure")
    arguments, commit = parse(parser, ("data_dir", "parts"))
    half = max(1, arguments.seeds // 2)
    measure: dict[str, Callable[[], Any]] = {
        "cost": cost,
        "densities": lambda: list(densities(arguments.width, half)),
        "critical": lambda: [*plain_networks(arguments.seeds), *image_networks(arguments.seeds, arguments.data_dir)],
        "published": published,
    }
    kept = {} if set(arguments.parts) == set(parts) else json.loads((PROJECT / "results" / "forecast.json").read_text())
    found = {part: measure[part]() if part in arguments.parts else kept[part] for part in parts}
    found |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    write_results("forecast", found, commit)
    tables(found, half, arguments.seeds, commit)


# -- densities ---------------------------------------------------------------------------------------------------------


def densities(width: int, seeds: int) -> Any:
    """Each layer's density at sparsity 0.9, measured over seeds and by the laws, on networks of depth 20."""
    near = edge_of_chaos("tanh", 0.05).sigma_w
    cells: list[tuple[str, float, float, int, int, int]] = [
        ("identity", 1.0, 0.0, width, 64, 10),
        ("tanh", 1.0, 0.0, width, 64, 10),
        ("tanh", near, 0.05, width, 64, 10),
        ("tanh", EDGE, 0.2, width, 64, 10),
        ("tanh", EDGE, 0.2, width, 64, 100),
        ("tanh", EDGE, 0.2, width, 1, 100),
        ("relu", 2**0.5, 0.0, 300, 64, 100),
        ("tanh", *CHAOS, 300, 64, 100),
    ]
    for activation, sigma_w, sigma_b, n, examples, classes in cells:
        widths = [n] * 20 + [classes]
        laws: dict[str, list[list[float]]] = {"plain": [], "neurons": [], "neurons, measured moments": []}
        for law in ("plain", "neurons"):
            laws[law].append(
                predict(widths, activation, sigma_w, sigma_b, sparsity=0.9, law=law, examples=examples).densities
            )
        measured = []
        for seed in range(seeds):
            model = mlp(widths, activation, sigma_w, sigma_b, seed)
            scores = pi.score(model, pi.Snip(), [batch(n, examples, classes, seed)])
            measured.append(list(pi.select(scores, 0.9).densities.values()))
            logs = [math.log(float(torch.linalg.vector_norm(s)) ** 2 / s.numel()) for s in scores.values()]
            laws["neurons, measured moments"].append(
                predict(
                    widths, activation, sigma_w, sigma_b, sparsity=0.9, examples=examples, log_moments=logs
                ).densities
            )
        mean = np.mean(measured, axis=0)
        cell = {
            "activation": activation, "sigma_w": sigma_w, "sigma_b": sigma_b, "width": n, "examples": examples,
            "classes": classes, "seeds": seeds, "measured": mean.tolist(), "sd": np.std(measured, axis=0).tolist(),
        }  # fmt: skip
        for law, values in laws.items():
            cell[law] = np.mean(values, axis=0).tolist()
            errors = np.abs(np.mean(values, axis=0) / mean - 1)
            cell[f"worst, {law}"] = float(errors.max())
            cell[f"worst hidden, {law}"] = float(errors[1:-1].max())
        print({k: v for k, v in cell.items() if not isinstance(v, list)}, flush=True)
        yield cell


# -- critical sparsity -------------------------------------------------------------------------------------------------


def plain_networks(seeds: int) -> list[dict[str, Any]]:
    """Tanh networks in each phase: s_cr predicted from widths and scales alone."""
    cells = []
    phases = {"ordered": (1.0, 0.05), "edge": (EDGE, 0.2), "chaotic": CHAOS}
    for (phase, (sigma_w, sigma_b)), depth in itertools.product(phases.items(), (10, 30, 100)):
        widths = [200] * depth + [10]
        measured = []
        for seed in range(seeds):
            scores = pi.score(mlp(widths, "tanh", sigma_w, sigma_b, seed), pi.Snip(), [batch(200, 64, 10, seed)])
            measured.append(first_lost(scores))
        predicted = predict(widths, "tanh", sigma_w, sigma_b, sparsity=0.9, examples=64)
        name = f"tanh network, {phase}, depth {depth}, width 200"
        cells.append(critical(name, "SBP", "widths and scales", predicted.critical.mean, measured, predicted.bound))
    return cells


def image_networks(seeds: int, data_dir: str | None) -> list[dict[str, Any]]:
    """Convolutional networks on CIFAR-10 images: s_cr of one forecast against the mean over other seeds."""
    data = load("cifar10", data_dir)
    kinds: list[tuple[str, dict[str, Any], bool, Norm | None]] = [
        ("vcnn", {"depth": 20, "width": 32, "activation": "relu"}, False, None),
        ("resnet20", {}, False, "batch"),
        ("resnet20", {}, True, "batch"),
        ("vgg16", {}, False, None),
    ]
    cells = []
    for model_name, settings, stable, norm in kinds:
        criteria: list[tuple[str, Criterion]] = [("SBP", pi.Snip(norm=norm))]
        if model_name == "vgg16":
            criteria.append(("magnitude", pi.Magnitude()))
        for label, criterion in criteria:
            measured = []
            for seed in range(seeds + 1):
                model = pi.models.build(model_name, input_shape=data.shape, classes=10, **settings)
                pi.edge_of_chaos_(model, "relu", generator=torch.Generator().manual_seed(seed))
                part = next(iter(batches(data.train, data, 100, generator=torch.Generator().manual_seed(seed))))
                if stable:
                    pi.stabilize_residuals_(model, part[0][:1])
                if seed == seeds:  # a network of its own, not among the measured ones
                    forecast = pi.forecast(model, [part], criterion).critical.sparsity
                else:
                    measured.append(first_lost(pi.score(model, criterion, [part])))
            name = f"{'Stable ' if stable else ''}{model_name}"
            cells.append(critical(name, label, "a forecast of one network", forecast, measured))
    return cells


def critical(
    name: str, criterion: str, source: str, predicted: float, measured: Sequence[float], bound: float | None = None
) -> dict[str, Any]:
    cell = {
        "network": name, "criterion": criterion, "from": source, "predicted": predicted,
        "measured": statistics.mean(measured), "sd": statistics.pstdev(measured), "bound": bound,
    }  # fmt: skip
    print(cell, flush=True)
    return cell


def first_lost(scores: dict[str, Tensor]) -> float:
    """The sparsity at which the first layer is empty, from the scores themselves."""
    threshold = min(float(score.max()) for score in scores.values())
    total = sum(score.numel() for score in scores.values())
    return 1 - sum(int((score > threshold).sum()) for score in scores.values()) / total


# -- published collapse, cost -----------------------------------------------------------------------------------------


def published() -> list[dict[str, Any]]:
    """Magnitude pruning of ResNet18 (200 classes): which layer is forecast to die, and where it does."""
    cells = []
    inits: dict[str, Callable[[nn.Module], Any]] = {
        "published (Kaiming fan-out, classifier N(0, 0.01²))": resnets.published_init_,
        "PyTorch's default": lambda model: model,
        "Edge of Chaos": lambda model: pi.edge_of_chaos_(model, "relu", generator=torch.Generator().manual_seed(0)),
    }
    for name, initialise in inits.items():
        torch.manual_seed(0)
        model = resnets.resnet18(200)
        initialise(model)
        forecast = pi.forecast(model, criterion=pi.Magnitude())
        layer, sparsity = forecast.critical.layer, forecast.critical.sparsity
        scores = pi.score(model, pi.Magnitude())
        low, high = 0.5, 0.9999  # by bisection over real selections, as if nothing were known
        while high - low > 1e-5:
            middle = (low + high) / 2
            low, high = (low, middle) if pi.select(scores, middle).empty else (middle, high)
        emptied = pi.select(scores, high).empty
        law = forecast.law.critical()
        cells.append(
            {
                "init": name, "layer": layer, "forecast": sparsity, "law": law.mean, "law's layer": law.layer,
                "measured": high, "emptied": list(emptied),
            }
        )  # fmt: skip
        print(cells[-1], flush=True)
    return cells


def cost(repeats: int = 5) -> dict[str, float]:
    """The time of a forecast over that of one SBP scoring, on ResNet50 and 32 images of 224 pixels."""
    torch.manual_seed(0)
    model = resnets.resnet50(1000)
    data = [(torch.randn(32, 3, 224, 224), torch.randint(1000, (32,)))]
    pairs = []
    for _ in range(repeats):
        scoring = timed(lambda: pi.score(model, pi.Snip(norm="batch"), data))
        pairs.append((scoring, timed(lambda: pi.forecast(model, data, norm="batch"))))
    forecast = pi.forecast(model, data, norm="batch")
    found = {
        "scoring, s": statistics.median(a for a, _ in pairs),
        "forecast / scoring": statistics.median(b / a for a, b in pairs),
    }
    found["an effective sparsity / scoring"] = timed(lambda: forecast.effective(0.9)) / found["scoring, s"]
    print(found, flush=True)
    return found


# -- networks and data -------------------------------------------------------------------------------------------------


def mlp(widths: Sequence[int], activation: str, sigma_w: float, sigma_b: float, seed: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, device="meta"), MODULES[activation]()]
    model = nn.Sequential(*layers[:-1]).to_empty(device="cpu")  # drawn once, not twice
    return pi.mean_field_(model, sigma_w, sigma_b, generator=torch.Generator().manual_seed(seed))


def batch(inputs: int, examples: int, classes: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(10_000 + seed)
    return torch.randn(examples, inputs, generator=generator), torch.randint(classes, (examples,), generator=generator)


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(found: dict[str, Any], half: int, seeds: int, commit: bool) -> None:
    laws = ("plain", "neurons", "neurons, measured moments")
    rows = [
        [
            c["activation"], f"{c['sigma_w']:.4g}, {c['sigma_b']:.3g}", str(c["width"]), str(c["examples"]),
            str(c["classes"]),
            *(f"{100 * c[f'worst hidden, {law}']:.1f} %, {100 * c[f'worst, {law}']:.3g} %" for law in laws),
        ]
        for c in found["densities"]
    ]  # fmt: skip
    header: tuple[str, ...] = (
        "activation",
        "σ_w, σ_b",
        "width",
        "examples",
        "classes",
        "plain law",
        "neurons",
        "neurons, measured moments",
    )
    note = (
        "Largest relative error of a hidden layer's density, and of any layer's, at sparsity 0.9, depth 20, "
        f"against the mean of {half} networks."
    )
    put_table("theory.md", header, rows, note, commit, "densities")
    rows = [
        [
            c["network"], c["criterion"], c["from"], f"{c['predicted']:.4f}",
            f"{c['measured']:.4f} ± {c['sd']:.4f}", f"{100 * (c['predicted'] - c['measured']):+.2f} %",
            "-" if c["bound"] is None else f"{c['bound']:.3g}",
        ]
        for c in found["critical"]
    ]  # fmt: skip
    header = ("network", "criterion", "predicted from", "predicted", "measured", "difference", "theorem 1")
    put_table("theory.md", header, rows, f"s_cr, measured: mean ± sd of {seeds} networks.", commit, "critical")
    rows = [
        [c["init"], f"{c['layer']} at {c['forecast']:.4f}", f"{', '.join(c['emptied'])} at {c['measured']:.4f}",
         f"{c['law']:.4f}"]
        for c in found["published"]
    ]  # fmt: skip
    header = ("initialisation", "forecast", "by trying sparsities", "the law's mean")
    put_table("theory.md", header, rows, "ResNet18 for 200 classes, magnitude, global.", commit, "published")
    rows = [[name, f"{value:.3g}"] for name, value in found["cost"].items()]
    put_table("theory.md", ("cost", "measured"), rows, "ResNet50, 32 images of 224 pixels.", commit, "cost")


if __name__ == "__main__":
    main()
