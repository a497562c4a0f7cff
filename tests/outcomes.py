"""Made-up results of recipes, for the tests of the page over many."""

from pruneinit.report import Outcome


def outcome(seed=0, *, row="edge", lr=0.1, name=None, test=0.9, validation=0.9, settings=None, **more):
    """A result of an mlp on the digits, 90 % removed, unless told otherwise."""
    recipe = {"data": "digits", "model": "mlp", "depth": 10, "width": 64, "init": "edge", "criterion": "snip",
              "sparsity": 0.9, "scope": "global", "rescale": "none", "training": {"epochs": 5, "lr": lr}}  # fmt: skip
    recipe = {**recipe, "seed": seed, **(settings or {})}
    numbers = {"test_accuracy": test, "validation_accuracy": validation, "best_test_accuracy": test}
    if more.get("why"):
        numbers = {}
    given = {"version": "pruneinit 1 (abc), torch 2", "densities": {"fc1.weight": 0.2, "fc2.weight": 0.05}}
    name = name or f"{seed}-{row}-{lr}-{sorted((settings or {}).items())}"
    return Outcome(name, row, recipe, **{**given, **numbers, **more})
