import dataclasses

import numpy as np
import pytest

from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.paper.predict import ALL, BOTH, Network, Split, best_threshold, logistic, networks, predict
from pruneinit.trainability import MEASURES

GRID = Grid(
    "g", {"validation": 0.1}, {"a": {}, "b": {"init": "orthogonal"}}, {"depth": [30, 50], "seed": [0, 1, 2, 3],
    "training.lr": [0.1, 0.01]}, "training.lr",
)  # fmt: skip


def result(cell, *, validation, test, measured):
    return Result(
        cell=cell.hash, row=cell.row, recipe=cell.recipe.to_mapping(), version="0", code="0", results_version=1,
        torch="2", state="done", seconds=1.0, test_accuracy=test, validation_accuracy=validation, measured=measured,
    )  # fmt: skip


def made(number=200, noise=0.0):
    """Networks that train where chi is within a tenth of 1 and alive is above 20, of two depths and four seeds."""
    draw = np.random.default_rng(0)
    found = []
    for i in range(number):
        chi, alive = np.exp(draw.normal(0, 0.15)), draw.uniform(1, 60)
        good = abs(np.log(chi)) < 0.1 and alive > 20
        found.append(Network("a", i % 4, (30, 50)[i // 4 % 2], 90.0 if good else 10.0,
                             {"chi": chi, "alive": alive, "rank": draw.uniform(1, 9)}))  # fmt: skip
    return found


def measured_cells(seeds_and_rates):
    """Of row a at depth 30: the higher rate is better on held-out images, and worse on test images."""
    return {
        cell.hash: result(cell, validation=rate, test=0.5 if rate == 0.1 else 0.9, measured={"alive": 7.0})
        for cell in GRID.cells()
        for rate in [cell.recipe.training.lr]
        if cell.row == "a" and cell.recipe.depth == 30 and (cell.recipe.seed, rate) in seeds_and_rates
    }


def test_a_network_counts_at_its_best_rate_on_held_out_images():
    found = measured_cells([(0, 0.1), (0, 0.01)])
    (one,) = networks(GRID.cells(), GRID.choose, found)
    assert (one.row, one.seed, one.depth, one.accuracy) == ("a", 0, 30, 50.0)
    assert one.measured == {"alive": 7.0}
    without = {name: dataclasses.replace(value, measured=None) for name, value in found.items()}
    assert networks(GRID.cells(), GRID.choose, without) == []


def test_a_network_without_all_rates_counts_at_the_rate_that_other_seeds_chose():
    found = measured_cells([(0, 0.1), (0, 0.01), (1, 0.1), (2, 0.01)])
    told = networks(GRID.cells(), GRID.choose, found)
    assert [(one.seed, one.accuracy) for one in told] == [(0, 50.0), (1, 50.0)]
    assert networks(GRID.cells(), GRID.choose, measured_cells([(1, 0.1), (2, 0.01)])) == []


def test_the_parts_of_a_split_are_apart_and_together_all():
    parts = Split().parts(made(40))
    others = parts.pop("all others")
    assert np.array_equal(others, ~parts["found on"])
    assert np.array_equal(sum(part.astype(int) for part in parts.values()), np.ones(40))
    assert all(part.sum() == 10 for part in parts.values())


def test_the_best_threshold_is_that_of_trying_all():
    draw = np.random.default_rng(1)
    values, truth = draw.normal(size=30), draw.random(30) < 0.4
    threshold, above = best_threshold(values, truth)
    said = values > threshold if above else values < threshold

    def balanced(said):
        return (np.mean([s for s, t in zip(said, truth, strict=True) if t])
                + np.mean([not s for s, t in zip(said, truth, strict=True) if not t])) / 2  # fmt: skip

    every = [balanced(values > t) for t in [-9, *values]] + [balanced(values < t) for t in [*values, 9]]
    assert balanced(said) == pytest.approx(max(every))


def test_a_measure_that_decides_half_is_better_than_one_that_decides_nothing():
    found = predict(made(400), trains=80.0)
    assert {one.name for one in found} == {*MEASURES, ALL, BOTH}
    judged = {one.name: one.judged for one in found}
    assert found[0].judged == max(judged.values())
    assert judged[ALL] > 0.7
    assert judged["chi"] > 0.7 > 0.62 > judged["rank"]
    chi = next(one for one in found if one.name == "chi")
    assert not chi.above
    assert chi.threshold == pytest.approx(0.1, abs=0.02)
    assert next(one for one in found if one.name == "kernel").judged == pytest.approx(0.5)  # nobody has it


def test_what_does_not_have_both_kinds_is_not_judged():
    assert predict([], trains=80.0) == []
    assert predict(made(), trains=99.0) == []
    only = [one for one in made() if one.depth == 30 and one.seed < 2]
    assert all(one.judged == -1 for one in predict(only, trains=80.0))


def test_the_logistic_regression_is_at_the_minimum_of_its_loss():
    draw = np.random.default_rng(2)
    features = np.column_stack([draw.normal(size=(60, 2)), np.ones(60)])
    truth = features[:, 0] + draw.normal(size=60) > 0.3
    found = logistic(features, truth)

    def loss(coefficients):
        total = 0.0
        for row, true in zip(features, truth, strict=True):
            share = truth.mean() if true else 1 - truth.mean()
            total += 0.5 / share * np.log1p(np.exp(-(1 if true else -1) * (row @ coefficients)))
        return total + 0.5 * 1e-2 * len(truth) * (coefficients[:2] ** 2).sum()

    for at in range(3):
        for step in (-1e-3, 1e-3):
            assert loss(found) < loss(found + step * np.eye(3)[at])


def test_what_is_learnable_counts_where_the_gradient_does_not_explode():
    draw = np.random.default_rng(0)
    found = []
    for i in range(200):
        learnable, gradient = draw.uniform(0, 1), 10 ** draw.uniform(-2, 6)
        accuracy = 90.0 if learnable > 0.6 and gradient < 1000 else 30.0
        found.append(
            Network("a", i % 4, 30 + 20 * (i // 4 % 2), accuracy, {"learnable": learnable, "gradient": gradient})
        )
    judged = {one.name: one for one in predict(found, trains=80.0)}
    assert judged[BOTH].judged > 0.95 > judged["learnable"].judged
    assert judged[BOTH].above
    assert judged[BOTH].threshold == pytest.approx(0.6, abs=0.05)
