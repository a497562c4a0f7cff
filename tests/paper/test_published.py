from __future__ import annotations

import dataclasses

from pruneinit.cli import main
from pruneinit.experiments import Recipe
from pruneinit.experiments.cell import failed


def test_the_page_over_results_sets_the_papers_numbers_beside_those_that_repeat_them(tmp_path):
    recipe = Recipe(data="cifar10", model="resnet32", criterion="snip", sparsity=0.9)
    measured = {"state": "done", "traceback": None, "test_accuracy": 0.9159, "survivors": 1}
    result = dataclasses.replace(failed(recipe, "", row="SNIP"), **measured)
    (tmp_path / "cells.jsonl").write_text(f"{result.to_json()}\n")
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "results.html").read_text()
    assert "92.59" in page
    assert "−1.00" in page
    assert "2002.08797" in page
