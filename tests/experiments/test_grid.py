import pytest

from pruneinit.errors import InputError
from pruneinit.experiments import Recipe
from pruneinit.experiments.grid import Grid, choose
from pruneinit.train import Training

SHARED = {"depth": 3, "width": 16, "training": {"epochs": 1, "augment": False}}


def test_every_combination_of_rows_and_axes_is_a_cell_once():
    grid = Grid(
        "g", SHARED, rows={"edge": {"init": "edge"}, "usual": {"init": "default"}},
        over={"sparsity": [0.5, 0.9], "training.lr": [0.1, 0.2]},
    )  # fmt: skip
    cells = grid.cells()
    assert len({cell.hash for cell in cells}) == len(cells) == 8
    found = [(cell.row, *cell.axes.values()) for cell in cells[:3]]
    assert found == [("edge", 0.5, 0.1), ("edge", 0.5, 0.2), ("edge", 0.9, 0.1)]
    training = Training(epochs=1, augment=False, lr=0.2)
    assert cells[-1].recipe == Recipe(depth=3, width=16, init="default", sparsity=0.9, training=training)


def test_a_row_that_sets_an_axis_has_that_one_value_on_it():
    rows = {"dense": {"criterion": "none", "sparsity": 0.0}, "SNIP": {"criterion": "snip"}}
    cells = Grid("g", SHARED, rows, {"sparsity": [0.5, 0.9], "seed": [0, 1]}).cells()
    found = [(cell.row, cell.axes["sparsity"], cell.axes["seed"]) for cell in cells]
    snip = [("SNIP", sparsity, seed) for sparsity in (0.5, 0.9) for seed in (0, 1)]
    assert found == [("dense", 0.0, 0), ("dense", 0.0, 1), *snip]
    assert [cell.recipe.sparsity for cell in cells] == [sparsity for _, sparsity, _ in found]


def test_a_grid_file_is_the_same_grid(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("name: g\nrecipe: {depth: 3}\nover: {sparsity: [0.5, 0.9], training.epochs: [1]}\n")
    assert Grid.from_yaml(path) == Grid("g", {"depth": 3}, over={"sparsity": [0.5, 0.9], "training.epochs": [1]})


def test_all_faults_are_told_at_once():
    grid = Grid("g", {"dept": 3}, over={"sparsity": [0.5, 98], "training.epochs": [0, 1]})
    with pytest.raises(InputError, match=r"^3 faults: ") as caught:
        grid.cells()
    for part in ("did you mean 'depth'", "sparsity must be in [0, 1), got 98", "epochs must be a whole number"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"over": {"depth": []}}, "depth must have a list of values"),
        ({"over": {"depth": [3, 3]}}, "names a value twice"),
        ({"over": {"width": [16]}}, "width is both an axis and in recipe"),
        ({"over": {"init": ["edge"]}, "rows": {"a": {"init": "default"}}}, "init is an axis, and every row sets it"),
        ({"choose": "training.lr"}, "axis to choose by"),
        ({"name": "a/b"}, "it names a folder"),
        ({"rows": {"a": 5}}, "must be a mapping of settings"),
    ],
    ids=["empty", "twice", "both", "set by all", "choose", "name", "row"],
)
def test_impossible_grids(change, message):
    with pytest.raises(InputError, match=message):
        Grid(**({"name": "g", "recipe": SHARED} | change))


def test_two_rows_that_are_the_same_are_refused():
    grid = Grid("g", SHARED, rows={"a": {"init": "edge"}, "b": {}})
    with pytest.raises(InputError, match="b: the same recipe as a|the same recipe as a; leave one of them out"):
        grid.cells()


def test_choosing_is_by_validation_over_seeds_for_each_row_and_never_by_a_value_that_failed():
    grid = Grid(
        "g", SHARED | {"validation": 0.1}, rows={"edge": {"init": "edge"}, "usual": {"init": "default"}},
        over={"seed": [0, 1], "training.lr": [0.1, 0.2, 0.3]}, choose="training.lr",
    )  # fmt: skip
    values = {0.1: 0.5, 0.2: 0.7, 0.3: None}
    cells = grid.cells()
    found = choose(cells, "training.lr", lambda c: values[c.axes["training.lr"]] if c.row == "edge" else 0.4)
    assert [(c.row, c.axes["training.lr"]) for c in found] == [("edge", 0.2)] * 2 + [("usual", 0.1)] * 2
    with pytest.raises(InputError, match="needs held-out images"):
        Grid("g", SHARED, over={"training.lr": [0.1, 0.2]}, choose="training.lr").cells()
