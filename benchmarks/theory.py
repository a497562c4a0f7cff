"""The figures of `docs/theory.md`: every formula, a line, against wide random networks, points.

    python benchmarks/theory.py [--width 1000] [--seeds 4] [--write]

Writes `docs/figures/*.svg` and `results/theory.json`, at other settings only with `--write`. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from documents import PROJECT, parse, write_results
from forecast import CHAOS, EDGE, batch, first_lost, mlp
from torch import Tensor, nn

import pruneinit as pi
from pruneinit.files import write_text
from pruneinit.meanfield import Shape, predict, stack_signals
from pruneinit.meanfield import signals as expected_signals
from pruneinit.propagation import signals
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.standalone import standalone

PHASES = {"ordered, σ_w = 1.1": (1.1, 0.2), "edge, σ_w = 1.304": (EDGE, 0.2), "chaotic, σ_w = 1.732": CHAOS}
DEPTH, EXAMPLES, CLASSES = 30, 64, 100
Points = list[tuple[float, float | None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=4)
    arguments, commit = parse(parser)
    drawn = {
        **propagation(arguments.width, arguments.seeds),
        "stacks": stacks(arguments.seeds),
        **density_figures(arguments.seeds),
        "critical": critical(arguments.seeds),
    }
    results = {}
    for name, (series, settings) in drawn.items():
        if commit:
            chart = line_chart(series, width=760, height=260, tooltips=False, **settings)
            write_text(PROJECT / "docs" / "figures" / f"{name}.svg", standalone(chart))
        results[name] = {one.label: one.points for one in series}
    write_results("theory", {"width": arguments.width, "seeds": arguments.seeds, "figures": results}, commit)


def propagation(width: int, seeds: int) -> dict[str, tuple[list[Series], dict[str, Any]]]:
    """q, c, gradient and score moments of tanh networks in the three phases."""
    names = ("variance", "correlation", "gradient", "moments")
    series: dict[str, list[Series]] = {name: [] for name in names}
    widths = [width] * DEPTH + [CLASSES]
    for look, (phase, (sigma_w, sigma_b)) in enumerate(PHASES.items()):
        found = expected_signals(widths, "tanh", sigma_w, sigma_b, examples=EXAMPLES)
        # Measured without the bias, which all examples share.
        bare = [layer.q - sigma_b**2 for layer in found]
        theory = {
            "variance": bare,
            "correlation": [(la.c * la.q - sigma_b**2) / q for la, q in zip(found, bare, strict=True)],
            "gradient": [math.exp(la.log_gradient - found[-2].log_gradient) for la in found[:-1]],
            "moments": [math.exp(layer.log_moment - found[-2].log_moment) for layer in found[:-1]],
        }
        runs = [measure(mlp(widths, "tanh", sigma_w, sigma_b, seed), batch(width, EXAMPLES, CLASSES, seed))
                for seed in range(seeds)]  # fmt: skip
        for name in names:
            mean = np.exp(np.mean([np.log(np.maximum(run[name], 1e-300)) for run in runs], axis=0))
            series[name] += [Series(f"{phase}, theory", points(theory[name]), "line", look),
                             Series(f"{phase}, measured", points(mean), "points", look)]  # fmt: skip
    labels = {
        "variance": ("variance q without the bias", True),
        "correlation": ("correlation of two examples", False),
        "gradient": ("q̃ / q̃ of the last hidden layer", True),
        "moments": ("m / m of the last hidden layer", True),
    }
    return {
        name: (series[name], {"title": label, "x_label": "layer", "y_label": label, "log": log})
        for name, (label, log) in labels.items()
    }


def measure(model: nn.Module, data: tuple[Tensor, Tensor]) -> dict[str, Sequence[float]]:
    found = list(signals(model, [data]).values())
    scores = list(pi.score(model, pi.Snip(), [data]).values())
    moments = [float(torch.linalg.vector_norm(score)) ** 2 / score.numel() for score in scores[:-1]]
    squares = [signal.gradient or 0.0 for signal in found[:-1]]
    return {
        "variance": [signal.second_moment for signal in found],
        "correlation": [signal.correlation or 0.0 for signal in found],
        "gradient": [square / squares[-1] for square in squares],
        "moments": [moment / moments[-1] for moment in moments],
    }


def stacks(seeds: int) -> tuple[list[Series], dict[str, Any]]:
    """Score moments of convolutional and residual stacks, relative to the last hidden layer's mean over the stacks."""
    kinds = {
        "circular border": Shape(3, (8, 8)),
        "border of zeros": Shape(3, (8, 8), "zeros"),
        "residual": Shape(3, (8, 8), "circular", "plain"),
        "Stable ResNet": Shape(3, (8, 8), "circular", "stable"),
    }
    widths, series = [16] + [64] * 12 + [CLASSES], []
    for look, (name, shape) in enumerate(kinds.items()):
        theory = [layer.log_moment for layer in stack_signals(widths, "relu", 1.2, 0.0, shape, examples=4)][:-1]
        runs = []
        for seed in range(4 * seeds):
            generator = torch.Generator().manual_seed(seed)
            model = pi.mean_field_(ConvStack(widths, shape), 1.2, 0.0, generator=generator)
            data = (torch.randn(4, 16, 8, 8, generator=generator), torch.randint(CLASSES, (4,), generator=generator))
            scores = list(pi.score(model, pi.Snip(), [data]).values())[:-1]
            runs.append([math.log(float(torch.linalg.vector_norm(s)) ** 2 / s.numel()) for s in scores])
        measured = np.mean(runs, axis=0)
        series += [Series(f"{name}, theory", points(np.exp(theory)), "line", look),
                   Series(f"{name}, measured", points(np.exp(measured)), "points", look)]  # fmt: skip
    label = "score moment m"
    return series, {"title": label, "x_label": "layer", "y_label": label, "log": True}


class ConvStack(nn.Module):
    """The network that `stack_signals` is about, with ReLU."""

    def __init__(self, widths: Sequence[int], shape: Shape) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, shape.taps, padding=shape.taps // 2, padding_mode=shape.padding)
            for a, b in itertools.pairwise(widths[:-1])
        )
        self.fc = nn.Linear(widths[-2] * shape.positions, widths[-1])
        self.shortcut = 0.0 if shape.residual == "none" else 1.0
        self.factor = (len(widths) - 3) ** -0.5 if shape.residual == "stable" else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, widths[0], H, W]` to `[B, widths[-1]]`."""
        y: Tensor = self.convs[0](x)
        for conv in list(self.convs)[1:]:
            y = self.shortcut * y + self.factor * conv(torch.relu(y))
        logits: Tensor = self.fc(torch.relu(y).flatten(1))
        return logits


def density_figures(seeds: int) -> dict[str, tuple[list[Series], dict[str, Any]]]:
    """Densities at sparsity 0.9: measured, by the plain law, and with neurons that differ."""
    figures = {}
    cells = (("densities-tanh", "tanh", *CHAOS), ("densities-relu", "relu", 2**0.5, 0.0))
    for name, activation, sigma_w, sigma_b in cells:
        widths = [300] * 20 + [CLASSES]
        measured = []
        for seed in range(2 * seeds):
            model, data = mlp(widths, activation, sigma_w, sigma_b, seed), batch(300, EXAMPLES, CLASSES, seed)
            masks = pi.prune(model, pi.Snip(), [data], sparsity=0.9, allow_empty=True)
            measured.append(list(masks.densities.values()))
        plain, neurons = (
            predict(widths, activation, sigma_w, sigma_b, sparsity=0.9, law=law, examples=EXAMPLES).densities
            for law in ("plain", "neurons")
        )  # fmt: skip
        series = [
            Series("measured", points(100 * np.mean(measured, axis=0)), "points", 0),
            Series("neurons differ", points(100 * np.array(neurons)), "line", 0),
            Series("plain law", points(100 * np.array(plain)), "line", 1),
        ]
        figures[name] = (
            series,
            {"title": "density", "x_label": "layer", "y_label": "density", "log": True, "unit": " %"},
        )
    return figures


def critical(seeds: int) -> tuple[list[Series], dict[str, Any]]:
    """1 - s_cr of tanh networks of width 100 against depth."""
    depths, series = (5, 10, 20, 40, 60, 80, 100), []
    for look, (phase, (sigma_w, sigma_b)) in enumerate(PHASES.items()):
        theory, measured = [], []
        for depth in depths:
            widths = [100] * depth + [10]
            mean = predict(widths, "tanh", sigma_w, sigma_b, sparsity=0.9, examples=EXAMPLES).critical.mean
            runs = [
                first_lost(pi.score(mlp(widths, "tanh", sigma_w, sigma_b, s), pi.Snip(), [batch(100, EXAMPLES, 10, s)]))
                for s in range(2 * seeds)
            ]
            theory.append((float(depth), 100 * (1 - mean)))
            measured.append((float(depth), 100 * (1 - float(np.mean(runs)))))
        series += [Series(f"{phase}, theory", theory, "line", look),
                   Series(f"{phase}, measured", measured, "points", look)]  # fmt: skip
    label = "weights left when the first layer is lost"
    return series, {"title": label, "x_label": "depth", "y_label": label, "log": True, "unit": " %"}


def points(values: Any) -> Points:
    return [(i, float(value)) for i, value in enumerate(values, 1)]


if __name__ == "__main__":
    main()
