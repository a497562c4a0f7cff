import xml.etree.ElementTree as ElementTree
from itertools import groupby

import pytest

from pruneinit.errors import InputError
from pruneinit.experiments.beside import Bundle, bundles
from pruneinit.experiments.cell import Result
from pruneinit.experiments.grid import Grid
from pruneinit.models import build
from pruneinit.paper import STUDIES, study
from pruneinit.paper.order import extremes_first
from pruneinit.paper.published import published
from pruneinit.paper.study import GRIDS

SCALES = [(one, scale) for one in STUDIES.values() for scale in one.scales]
NAMED = [f"{one.name}, {scale}" for one, scale in SCALES]


@pytest.mark.parametrize("one, scale", SCALES, ids=NAMED)
def test_every_packaged_grid_is_possible_and_has_distinct_cells(one, scale):
    grid = one.grid(scale)
    cells = grid.cells()
    assert len({cell.hash for cell in cells}) == len(cells) > 0
    assert {cell.recipe.seed for cell in cells} >= {0, 1, 2}
    assert one.folder(GRIDS, scale).name == grid.name
    for model, depth, width in {(c.recipe.model, c.recipe.depth, c.recipe.width and 2) for c in cells}:
        build(model, input_shape=(3, 32, 32), classes=10, depth=depth, width=width)


def test_every_grid_file_belongs_to_a_study():
    assert {path.name for path in GRIDS.iterdir()} == {f"{one.name}.{scale}.yaml" for one, scale in SCALES}


def test_the_dense_network_is_not_repeated_for_each_sparsity():
    cells = STUDIES["cifar"].grid("small").cells()
    assert sum(cell.row == "dense" for cell in cells) == 3
    assert sum(cell.row == "SNIP" for cell in cells) == 9


def test_the_grid_of_figure_2_spans_what_the_paper_shows_and_a_calibrated_row():
    cells = STUDIES["ffnn-grid"].grid("small").cells()
    assert {cell.recipe.depth for cell in cells} >= {10, 100}
    assert {cell.recipe.sparsity for cell in cells} >= {0.1, 0.98}
    assert {cell.recipe.activation for cell in cells} == {"tanh", "relu"}
    assert {cell.recipe.seed for cell in cells} == {0, 1, 2}
    assert len({cell.recipe.training.lr for cell in cells}) == 3
    recipe = next(cell.recipe for cell in cells if cell.row == "edge, MBP, calibrated")
    assert (recipe.criterion, recipe.rescale, recipe.init) == ("magnitude", "layer", "edge")


@pytest.mark.parametrize("one, scale", SCALES, ids=NAMED)
def test_what_the_paper_reports_has_a_place_in_the_grid_or_is_told_apart(one, scale):
    names = {cell.row for cell in one.grid(scale).cells()}
    lost = {number.row for number in published(one.name)} - names
    assert lost <= {"OBD", "lottery ticket"}


def test_the_order_of_the_large_cifar_study_begins_with_the_rows_of_the_table_seed_by_seed():
    one = STUDIES["cifar"]
    grid = one.grid("paper")
    cells = sorted(grid.cells(), key=one.order["paper"](grid))
    first = [(c.recipe.seed, c.row, c.recipe.sparsity) for c in cells[:14]]
    assert first[0] == (0, "dense", 0.0)
    assert [row for _, row, _ in first[1:13]] == [r for r in ("SNIP", "SBP-SR", "GraSP", "SynFlow") for _ in range(3)]
    assert [s for _, _, s in first[1:4]] == [0.9, 0.95, 0.98]
    assert first[13] == (1, "dense", 0.0)
    assert all((c.recipe.model, c.recipe.data) == ("resnet32", "cifar10") for c in cells[:39])
    assert {c.row for c in cells[39:42]} == {"magnitude"}


def test_the_edge_study_goes_on_with_the_places_of_the_first_table_one_seed_over_all_rows():
    one = STUDIES["edge"]
    grid = one.grid("small")
    cells = sorted(grid.cells(), key=one.order["small"](grid))
    recommended = [c for c in cells if " ends" in c.row and c.recipe.seed < 3]
    assert cells[: len(recommended)] == recommended
    assert [c.row for c in cells[:3]] == ["sparse orthogonal, ends"] * 3
    cells = cells[len(recommended) :]
    places = {("tanh", 30, 0.95), ("tanh", 50, 0.95), ("relu", 30, 0.9)}

    def of_table(c):
        return (c.recipe.activation, c.recipe.depth, c.recipe.sparsity) in places and c.recipe.init != "orthogonal"

    first = [of_table(c) for c in cells if c.recipe.seed == 0]
    assert first == sorted(first, reverse=True)
    assert {c.row for c in cells if of_table(c)} > set(list(grid.rows)[:39])
    assert [c.row.split(",")[0] for c in cells[:13]] == ["sparse orthogonal"] * 12 + ["snip"]
    seeds = [c.recipe.seed for c in cells[: len(cells) // 5]]
    assert list(dict.fromkeys(seeds)) == [0, 1, 2, 3, 4]  # further seeds of these places, before the other places


def test_the_rows_of_the_edge_study_rescale_between_rounds_as_they_do_at_the_end():
    recipes = [cell.recipe for cell in STUDIES["edge"].grid("small").cells()]
    assert all(recipe.rescale_between in ("none", recipe.rescale) for recipe in recipes if not recipe.redraws)
    assert {recipe.rescale for recipe in recipes} == {"none", "formula", "layer", "neuron"}
    assert {recipe.init for recipe in recipes} == {"edge", "orthogonal", "sparse_orthogonal"}
    assert not any(recipe.activation == "relu" and recipe.rescale == "formula" for recipe in recipes)


CHOOSING = [(one, scale) for one, scale in SCALES if one.name != "densities" and one.grid(scale).choose]


@pytest.mark.parametrize("one, scale", CHOOSING, ids=[f"{one.name}, {scale}" for one, scale in CHOOSING])
def test_all_learning_rates_of_an_entry_are_computed_together(one, scale):
    grid = one.grid(scale)
    cells = sorted(grid.cells(), key=one.order.get(scale, extremes_first)(grid))
    runs = [name for name, _ in groupby(entry_of(cell, grid.choose) for cell in cells)]
    assert len(runs) == len(set(runs)) < len(cells)


@pytest.mark.parametrize("one", [one for one in STUDIES.values() if one.beside > 1], ids=lambda one: one.name)
def test_networks_side_by_side_are_of_whole_entries(one):
    grid = one.grid("small")
    cells = sorted(grid.cells(), key=one.order.get("small", extremes_first)(grid))
    found = bundles(cells, one.beside)
    assert all(isinstance(bundle, Bundle) for bundle in found)
    entries = [name for bundle in found for name in {entry_of(cell, grid.choose) for cell in bundle.cells}]
    assert len(entries) == len(set(entries))


def entry_of(cell, choose):
    """What the cells of one entry and seed have in common."""
    return repr((cell.row, {axis: value for axis, value in cell.axes.items() if axis != choose}))


def test_an_unknown_study_or_scale_is_refused():
    with pytest.raises(InputError, match="unknown study 'vcn'.*did you mean 'vcnn'"):
        study("vcn")
    with pytest.raises(InputError, match="densities has no scale 'paper': expected one of small"):
        STUDIES["densities"].grid("paper")


def made(grid: Grid, accuracy) -> dict[str, Result]:
    """A result for each cell, without any training."""
    return {
        cell.hash: Result(
            cell=cell.hash, row=cell.row, recipe=cell.recipe.to_mapping(), version="0", code="0", results_version=1,
            torch="2", state="done", seconds=1.0, test_accuracy=accuracy(cell), best_test_accuracy=accuracy(cell),
            best_epoch=1, validation_accuracy=accuracy(cell),
        )
        for cell in grid.cells()
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in ("densities", "edge")])
def test_a_whole_study_is_drawn_and_told_from_its_results_alone(name, tmp_path):
    one = STUDIES[name]
    results = made(one.grid("small"), lambda cell: 0.9 - 0.1 * cell.recipe.sparsity - 0.01 * cell.recipe.seed)
    (tmp_path / "cells.jsonl").write_text("".join(f"{result.to_json()}\n" for result in results.values()))
    found = one.findings("small", tmp_path)
    assert found.done == found.planned
    assert "0 failed" in found.progress[0]
    ElementTree.fromstring(found.figure)
    assert "±" in found.table
    assert found.remarks
    assert "nan" not in found.table + found.summary + found.figure
