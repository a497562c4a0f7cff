import dataclasses
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pruneinit.cli import main
from pruneinit.errors import InputError
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.progress import Watch
from pruneinit.paper import STUDIES, Budget, Means, reproduce, write_results_page
from pruneinit.paper.order import extremes_first, seed_by_seed
from pruneinit.paper.study import Study
from pruneinit.paper.vcnn import VCNN

SHARED = {
    "data": "digits", "validation": 0.1, "model": "vcnn", "width": 2, "score_images": 32,
    "training": {"epochs": 1, "augment": False, "batch_size": 256},
}  # fmt: skip
ROWS = {
    "ordered": {"init": "default"},
    "edge": {"init": "edge"},
    "edge, rescaled": {"init": "edge", "rescale": "formula"},
}
GRID = Grid("vcnn", SHARED, ROWS, {"depth": [3, 4], "seed": [0, 1]})


class Tiny(Study):
    def grid(self, scale):
        return GRID


TINY = Tiny(**{field.name: getattr(VCNN, field.name) for field in dataclasses.fields(VCNN)})


def clock_of(ticks):
    """A clock that is asked once more for each cell."""
    times = iter(ticks)
    return lambda: next(times)


def means_of(budget):
    return Means(stop=budget.over, workers=1, device="cpu")


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_no_cell_is_begun_when_the_time_is_over_and_the_next_call_goes_on(tmp_path):
    first = reproduce(TINY, tmp_path, means_of(Budget(10, clock=clock_of([0, 1, 5, 9, 10]))))
    assert (first.findings.done, first.findings.planned) == (3, 12)
    assert files(first.folder) == ["cells.jsonl", "vcnn.csv", "vcnn.md", "vcnn.svg"]
    rows = {json.loads(line)["row"] for line in (first.folder / "cells.jsonl").read_text().splitlines()}
    assert rows == set(ROWS)  # one seed over all rows before anything else
    second = reproduce(TINY, tmp_path, means_of(Budget(1e9)))
    assert second.findings.done == 12
    assert second.findings.progress[0] == "12 of 12 cells are done, 0 failed."
    ElementTree.fromstring((second.folder / "vcnn.svg").read_text())
    assert "3 of 12" not in second.page.read_text()


def test_further_seeds_are_computed_at_the_chosen_rate_first_and_at_the_others_last(tmp_path):
    rates, seen = [0.1, 0.01], []
    grid = Grid("vcnn", SHARED, ROWS, {"depth": [3], "seed": [0, 1], "training.lr": rates}, "training.lr")

    class Choosing(Study):
        def grid(self, scale):
            return grid

    class Seen(Watch):
        def result(self, now, cell, result):
            seen.append((cell.row, cell.recipe.seed, cell.recipe.training.lr))

    choosing = Choosing(**{**vars(TINY), "beside": 2})
    reproduce(choosing, tmp_path, means_of(Budget(10, clock=clock_of([0, 1, 2, 3, 10]))))
    found = choosing.findings("small", tmp_path / "vcnn")
    chosen = {row["row"]: row["chosen_lr"] for row in found.rows if row["seeds"]}
    assert (found.done, chosen.keys()) == (6, ROWS.keys())
    means = replace(means_of(Budget(1e9)), following=lambda name, *sweep: nullcontext(Seen(*sweep)))
    reproduce(choosing, tmp_path, means)
    assert seen[:3] == [(row, 1, chosen[row]) for row in ROWS]
    assert seen[3:] == [(row, 1, next(rate for rate in rates if rate != chosen[row])) for row in ROWS]


def test_committed_results_are_enough_to_draw_again_without_data(tmp_path):
    done = reproduce(TINY, tmp_path / "a", means_of(Budget(1e9)))
    copy = TINY.folder(tmp_path / "b", "small")
    copy.mkdir(parents=True)
    (copy / "cells.jsonl").write_text((done.folder / "cells.jsonl").read_text())
    again = reproduce(TINY, tmp_path / "b", None)
    for name in ("vcnn.csv", "vcnn.md", "vcnn.svg"):
        assert (again.folder / name).read_text() == (done.folder / name).read_text()
    assert not (copy / "cells").exists()
    page = write_results_page([TINY], tmp_path / "b", tmp_path / "docs" / "results.md").read_text()
    assert "](../b/vcnn/vcnn.svg)" in page
    assert "Not computed yet: vcnn (paper)." in page
    assert "| edge, rescaled | 4 |" in page


def test_results_of_another_version_are_left_out_counted_and_kept(tmp_path):
    done = reproduce(TINY, tmp_path, means_of(Budget(1e9)))
    file = done.folder / "cells.jsonl"
    lines = file.read_text().splitlines()
    old = json.loads(lines[0])
    old["recipe"]["width"] = 9  # as a recipe of before would have had another hash
    file.write_text("\n".join([json.dumps(old), *lines[1:]]) + "\n")
    for path in (done.folder / "cells").iterdir():
        path.unlink()
    (done.folder / "cells").rmdir()
    again = reproduce(TINY, tmp_path, None)
    assert again.findings.done == 11
    assert "1 result of other versions, or altered ones, are left out." in again.page.read_text()
    assert len(file.read_text().splitlines()) == 12


def test_what_an_interrupted_call_left_is_gathered(tmp_path):
    class Interrupted(Watch):
        def result(self, now, cell, result):
            raise KeyboardInterrupt

    means = replace(means_of(Budget(1e9)), following=lambda name, *sweep: nullcontext(Interrupted(*sweep)))
    with pytest.raises(KeyboardInterrupt):
        reproduce(TINY, tmp_path, means)
    assert not (tmp_path / "vcnn" / "cells.jsonl").exists()
    again = reproduce(TINY, tmp_path, None)
    assert again.findings.done == 1
    assert len((again.folder / "cells.jsonl").read_text().splitlines()) == 1


def test_without_results_the_page_says_so_and_nothing_is_drawn(tmp_path):
    found = reproduce(TINY, tmp_path, None)
    assert files(found.folder) == ["vcnn.csv", "vcnn.md"]
    assert "0 of 12 cells are done" in found.page.read_text()


def test_the_corners_of_a_grid_come_first_and_further_seeds_last():
    grid = Grid("g", {}, {"a": {}, "b": {"init": "default"}}, {"depth": [1, 2, 3, 4, 5], "seed": [0, 1]})
    cells = sorted(grid.cells(), key=extremes_first(grid))
    first = [(cell.row, cell.axes["depth"], cell.axes["seed"]) for cell in cells[:7]]
    assert first == [*((row, depth, 0) for depth in (1, 5) for row in "ab"), ("a", 3, 0), ("b", 3, 0), ("a", 2, 0)]
    assert [cell.axes["seed"] for cell in cells] == [0] * 10 + [1] * 10


@pytest.mark.parametrize("order", [extremes_first, seed_by_seed()], ids=["extremes first", "seed by seed"])
@pytest.mark.parametrize("axes", [["depth", "training.lr"], ["training.lr", "depth"]], ids=["rate last", "rate first"])
def test_values_to_choose_from_come_together(order, axes):
    over = {"depth": [1, 9], "training.lr": [0.1, 0.2]}
    grid = Grid("g", {"validation": 0.1}, {}, {axis: over[axis] for axis in axes}, "training.lr")
    cells = sorted(grid.cells(), key=order(grid))
    assert [(c.axes["depth"], c.axes["training.lr"]) for c in cells] == [(1, 0.1), (1, 0.2), (9, 0.1), (9, 0.2)]


def test_the_densities_are_counted_and_drawn(tmp_path, monkeypatch):
    rows = {
        "ResNet32": {"model": "resnet8", "width": 4, "data": "digits"},
        "FFNN, Edge of Chaos": {"depth": 6, "width": 8},
    }
    grid = Grid("densities", {"score_images": 32, "sparsity": 0.9}, rows, {"seed": [0, 1]})
    one = STUDIES["densities"]
    monkeypatch.setattr(type(one), "grid", lambda self, scale: grid)
    half = reproduce(one, tmp_path, means_of(Budget(2, clock=clock_of([0, 1, 2]))))
    assert half.findings.done == 1
    done = reproduce(one, tmp_path, means_of(Budget(1e9)))
    assert done.findings.done == 4
    layers = [json.loads(line) for line in (done.folder / "layers.jsonl").read_text().splitlines()]
    for found in layers:
        assert sum(found["kept"]) == round(0.1 * sum(found["total"]))
    ElementTree.fromstring((done.folder / "densities.svg").read_text())
    text = (done.folder / "layers.jsonl").read_text().replace('"sparsity": 0.9', '"sparsity": 0.8', 1)
    (done.folder / "layers.jsonl").write_text(text)
    assert "1 result of other versions" in reproduce(one, tmp_path, None).page.read_text()
    (done.folder / "layers.jsonl").write_text(text + "{")
    with pytest.raises(InputError, match="line 5, is damaged"):
        reproduce(one, tmp_path, None)


@pytest.mark.parametrize(
    "words, message",
    [
        (["vccn"], "did you mean 'vcnn'"),
        (["vcnn", "--budget", "soon"], "budget must be a time"),
        (["vcnn", "--scale", "large"], "vcnn has no scale 'large': expected one of small, paper"),
        (["vcnn", "--workers", "0"], "workers must be 1 or more"),
        (["cifar", "--budget", "1min"], "pruneinit data download cifar10"),
        (["imagenet"], "no folder .*tiny-imagenet-200-subset: copy some classes of Tiny-ImageNet there"),
        ([], "needs STUDY"),
    ],
    ids=["study", "budget", "scale", "workers", "data", "folder", "nothing"],
)
def test_what_a_user_can_get_wrong_is_told_in_one_line(words, message, tmp_path, capsys):
    assert main(["reproduce", *words, "--out", str(tmp_path), "--data_dir", str(tmp_path / "none")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(message, told)


def test_the_command_draws_again_and_writes_the_page_of_all_studies(tmp_path, capsys):
    assert main(["reproduce", "vcnn", "--budget", "0", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "vcnn: 0 of 144 cells are done" in out
    assert "goes on with the cells that are missing" in out
    page = tmp_path / "docs" / "results.md"
    assert main(["reproduce", "docs", "--out", str(tmp_path), "--page", str(page)]) == 0
    assert "Not computed yet: densities (small)" in page.read_text()


def test_the_command_tells_each_cell_as_a_sweep_does(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Study, "grid", lambda self, scale: Grid("vcnn", SHARED, ROWS, {"depth": [3]}))
    assert main(["reproduce", "vcnn", "--workers", "1", "--device", "cpu", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [re.match(r"(./3) .*: test accuracy [\d.]+%, [\d.]+ s(; about .* left)?$", line) for line in lines[:3]]
    assert [(found[1], bool(found[2])) for found in told] == [("1/3", True), ("2/3", True), ("3/3", False)]
