"""Train a recipe by the command, load what it saved into a fresh network, and see that the accuracy is the same.

    python benchmarks/roundtrip.py [recipes/cifar10-resnet32.yaml] [--epochs 1] [--data_dir DATA] [--write]

Writes `results/roundtrip-NAME.json`, at other settings only with `--write`. An epoch of
the paper's ResNet32 takes about seven minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from documents import PROJECT, parse, write_results

import pruneinit as pi
from pruneinit.data import load
from pruneinit.experiments import Recipe, run
from pruneinit.experiments.prepare import network
from pruneinit.train import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = PROJECT / "recipes" / "cifar10-resnet32.yaml"
    parser.add_argument("recipe", type=lambda word: Path(word).resolve(), nargs="?", default=usual)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--out", default="runs")
    arguments, commit = parse(parser)
    recipe = Recipe.from_yaml(arguments.recipe)
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, epochs=arguments.epochs))
    folder = run(recipe, arguments.out, data_root=arguments.data_dir, on_epoch=print)
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    result, pruning = events[-1], next(event for event in events if event["event"] == "prune")
    data = load(recipe.data, arguments.data_dir)
    fresh = pi.load(folder / "model.safetensors", into=network(recipe, data))
    loss, accuracy = evaluate(fresh, data.test, data, recipe.training.batch_size)
    same = accuracy == result["test_accuracy"]
    print(f"trained: {result['test_accuracy']:.4f}; loaded into a fresh network: {accuracy:.4f}; same: {same}")
    found = {
        "recipe": dataclasses.asdict(recipe),
        "kept": pruning["kept"],
        "total": pruning["total"],
        "file_bytes": (folder / "model.safetensors").stat().st_size,
        "trained_accuracy": result["test_accuracy"],
        "loaded_accuracy": accuracy,
        "loaded_loss": loss,
        "same": same,
    }
    write_results(f"roundtrip-{arguments.recipe.stem}", found, commit)


if __name__ == "__main__":
    main()
