"""All results below a folder."""

import dataclasses
import json

import pytest

from pruneinit.errors import InputError
from pruneinit.experiments import Recipe, run
from pruneinit.experiments.cell import failed
from pruneinit.experiments.results import find_results, sweeps_below
from pruneinit.train import Training


def result(row="edge", seed=0, **changes):
    recipe = Recipe(model="mlp", depth=3, width=16, seed=seed)
    done = {"state": "done", "traceback": None, "test_accuracy": 0.9, "densities": {"fc1.weight": 0.1}}
    return dataclasses.replace(failed(recipe, "", row=row), **{**done, **changes})


def export(folder, *results, more=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cells.jsonl").write_text("".join(one.to_json() + "\n" for one in results) + more)


def test_sweeps_are_found_at_any_depth_in_either_form(tmp_path):
    export(tmp_path / "a", result(seed=0))
    single = tmp_path / "b" / "c" / "cells"
    single.mkdir(parents=True)
    one = result(seed=1)
    (single / f"{one.cell}.json").write_text(one.to_json())
    (single / f".{one.cell}.lock").write_text("")
    assert sweeps_below(tmp_path) == [tmp_path / "a", tmp_path / "b" / "c"]
    found = find_results(tmp_path)
    assert [one.settings["seed"] for one in found.outcomes] == [0, 1]
    assert found.sources == {"a": 1, "b/c": 1}
    assert list(find_results(tmp_path / "a").sources) == ["a"]


def test_a_result_is_told_as_it_is(tmp_path):
    export(tmp_path, result(best_test_accuracy=0.95, validation_accuracy=0.8, diverged=True, empty=("fc1.weight",)))
    ((one,), made) = find_results(tmp_path).outcomes, result()
    assert (one.name, one.row, one.settings) == (made.cell, "edge", made.recipe)
    assert one.version == f"pruneinit {made.version} ({made.code}), torch {made.torch}"
    assert (one.test_accuracy, one.best_test_accuracy, one.validation_accuracy) == (0.9, 0.95, 0.8)
    assert (one.diverged, one.empty, one.densities, one.failed) == (True, ("fc1.weight",), {"fc1.weight": 0.1}, False)


def test_of_one_recipe_for_one_row_the_first_computed_result_counts(tmp_path):
    export(tmp_path / "a", result(state="failed", traceback="x\nOSError: full", test_accuracy=None))
    export(tmp_path / "b", result(test_accuracy=0.5))
    export(tmp_path / "c", result(test_accuracy=0.6), result(row="other"))
    found = find_results(tmp_path).outcomes
    assert [(one.row, one.test_accuracy) for one in found] == [("edge", 0.5), ("other", 0.9)]
    (alone,) = find_results(tmp_path / "a").outcomes
    assert alone.why == "OSError: full"


def test_a_failed_result_without_a_traceback_has_failed(tmp_path):
    export(tmp_path, result(state="failed"))
    assert find_results(tmp_path).outcomes[0].failed


def test_runs_that_have_ended_are_among_the_results(tmp_path):
    recipe = Recipe(model="mlp", depth=3, width=16, validation=0.1, training=Training(epochs=1, augment=False))
    folder = run(recipe, tmp_path, device="cpu")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.yaml").write_text(recipe.to_yaml())
    (begun / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().split("\n")[0])
    found = find_results(tmp_path)
    (one,) = found.outcomes
    assert (one.name, one.row, one.settings) == (recipe.hash, None, recipe.to_mapping())
    assert 0 <= one.validation_accuracy <= 1
    assert sum(one.densities.values()) > 0
    assert found.sources == {"1 run": 1}
    assert found.unread == ("begun",)


def test_a_run_of_another_version_is_left_out(tmp_path):
    recipe = Recipe(model="mlp", depth=3, width=16, training=Training(epochs=1, augment=False))
    folder = run(recipe, tmp_path, device="cpu")
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace(recipe.hash, "0123456789"))
    export(tmp_path / "sweep", result())
    found = find_results(tmp_path)
    assert found.left_out == {folder.name: 1}
    assert len(found.outcomes) == 1


def test_results_of_another_version_are_left_out_and_counted(tmp_path):
    other = result(seed=1).to_json().replace('"seed": 1', '"seed": 2')
    export(tmp_path, result(), more=other + "\n")
    found = find_results(tmp_path)
    assert (len(found.outcomes), list(found.left_out.values())) == (1, [1])


@pytest.mark.parametrize("changes", [
    {"test_accuracy": "high"}, {"test_accuracy": 1.5}, {"validation_accuracy": True}, {"densities": {"fc": None}},
    {"densities": [0.1]}, {"row": 3}, {"empty": (1,)}, {"traceback": 5},
])  # fmt: skip
def test_values_of_the_wrong_kind_are_damage(changes, tmp_path):
    export(tmp_path, result(**changes))
    with pytest.raises(InputError, match=rf"the result {result().cell} in \S+ is damaged"):
        find_results(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    export(tmp_path, result(), more='{"cell": "0a\n')
    with pytest.raises(InputError, match=r"cells.jsonl, line 2, is damaged"):
        find_results(tmp_path)


def test_a_folder_without_a_result_that_can_be_shown_is_refused(tmp_path):
    export(tmp_path)
    with pytest.raises(InputError, match="there is no result below .* that can be shown; sweep first"):
        find_results(tmp_path)
    altered = json.loads(result().to_json()) | {"cell": "0000000000"}
    (tmp_path / "cells.jsonl").write_text(json.dumps(altered) + "\n")
    with pytest.raises(InputError, match="1 are of another version of pruneinit, sweep again"):
        find_results(tmp_path)
