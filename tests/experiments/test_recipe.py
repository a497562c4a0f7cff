import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneinit.criteria import Phew
from pruneinit.errors import InputError
from pruneinit.experiments import Grid, Recipe
from pruneinit.experiments.offered import OFFERED, criterion
from pruneinit.experiments.recipe import RESULTS_VERSION
from pruneinit.train import Training

RECIPES = Path(__file__).parents[2] / "recipes"


@given(
    sparsity=st.floats(0, 0.999),
    depth=st.none() | st.integers(2, 100),
    seed=st.integers(0, 2**63 - 1),
    epochs=st.integers(1, 500),
    milestones=st.sampled_from([(), (0.5,), (0.5, 0.75)]),
    init=st.sampled_from(["default", "edge", "orthogonal"]),
)
def test_yaml_gives_the_recipe_back(tmp_path_factory, sparsity, depth, seed, epochs, milestones, init):
    recipe = Recipe(
        sparsity=sparsity, depth=depth, seed=seed, init=init, training=Training(epochs=epochs, milestones=milestones)
    )
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.from_yaml(path) == recipe
    assert Recipe.from_yaml(path).hash == recipe.hash


def test_every_setting_changes_the_hash():
    base = Recipe(init="gaussian", sigma_w=1.0, rescale="formula", rounds=3)
    other = {
        "data": "mnist", "validation": 0.1, "model": "vcnn", "depth": 7, "width": 9, "activation": "tanh",
        "sigma_w": 2.0, "sigma_b": 0.3, "residuals": "stable", "criterion": "random", "sparsity": 0.5,
        "scope": "layer", "rounds": 2, "sanity": "shuffle", "norm": "running", "score_images": 7, "train_images": 9,
        "rescale": "layer", "rescale_between": "layer", "fold": True, "seed": 1, "training": Training(epochs=1),
    }  # fmt: skip
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert fields - other.keys() == {"init", "mirrored"}  # the latter goes with some values of the former alone
    hashes = {dataclasses.replace(base, **{name: value}).hash for name, value in other.items()}
    hashes.add(Recipe(init="edge").hash)
    assert len(hashes | {base.hash}) == len(other) + 2


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sparsity": 98}, "did you mean 0.98"),
        ({"sparsity": float("nan")}, "got nan"),
        ({"init": "egde"}, "did you mean 'edge'"),
        ({"criterion": "snap"}, "did you mean 'snip'"),
        ({"scope": "globl"}, "did you mean 'global'"),
        ({"rounds": 0}, "rounds must be a whole number, 1 or more, got 0"),
        ({"validation": 1.0}, "validation must be a number at least 0 and below 1, got 1"),
        ({"seed": -1}, "seed must be a whole number in"),
        ({"sigma_w": 1.0}, "sigma_w goes with init='gaussian'"),
        ({"init": "gaussian"}, "sigma_w goes with init='gaussian'"),
        ({"criterion": "none", "rescale": "layer"}, "needs something pruned"),
        ({"criterion": "none", "init": "sparse_orthogonal"}, "needs something pruned: set criterion='magnitude'"),
        ({"sanity": "shuffle", "init": "sparse_orthogonal"}, "does not go with sanity='shuffle'"),
        (
            {"init": "sparse_orthogonal", "scope": "erk", "residuals": "stable"},
            "criterion='snip' .* does not go with scope='erk', residuals='stable'",
        ),
        ({"mirrored": True}, "mirrored goes with orthogonal initialisations alone, got init='edge'"),
        ({"mirrored": 1, "init": "orthogonal"}, "mirrored must be"),
        ({"criterion": "none", "rescale_between": "layer"}, "rescale_between='layer' needs something pruned"),
        ({"rescale_between": "layer"}, "rescale_between='layer' rescales between rounds, and there is one: set rounds"),
        ({"rescale_between": "neuron", "criterion": "force", "rounds": 1}, "and there is one"),
        ({"rescale_between": "formula", "rounds": 3}, "unknown rescale_between 'formula'"),
        ({"rescale": "nueron"}, "did you mean 'neuron'"),
        ({"data": 3}, "data must be a name, got 3"),
        ({"model": ["mlp"]}, r"model must be a name, got \['mlp'\]"),
        ({"model": None}, "model must be a name, got None"),
        ({"activation": 3}, "activation must be a name, got 3"),
        ({"depth": "3"}, "depth must be a whole number, 1 or more, got '3'"),
        ({"depth": 2.5}, "depth must be a whole number, 1 or more, got 2.5"),
        ({"width": [1]}, r"width must be a whole number, 1 or more, got \[1\]"),
        ({"rounds": True}, "rounds must be a whole number, 1 or more, got True"),
        ({"sanity": "invret"}, "did you mean 'invert'"),
        ({"criterion": "none", "sanity": "invert"}, "sanity='invert' needs something pruned"),
        ({"score_images": True}, "score_images must be a whole number, 1 or more, got True"),
        ({"sigma_b": "x"}, "sigma_b must be a number at least 0, got 'x'"),
        ({"sigma_b": float("nan")}, "sigma_b must be a number at least 0, got nan"),
        ({"init": "gaussian", "sigma_w": "1"}, "sigma_w must be a number above 0, got '1'"),
        ({"validation": "x"}, "validation must be a number at least 0 and below 1, got 'x'"),
        ({"validation": float("nan")}, "validation must be a number at least 0 and below 1, got nan"),
        ({"seed": "a"}, "seed must be a whole number in .*, got 'a'"),
        ({"seed": 1.5}, "seed must be a whole number in .*, got 1.5"),
        ({"seed": True}, "seed must be a whole number in .*, got True"),
        ({"fold": "yes"}, "fold must be True or False, got 'yes'"),
        ({"training": None}, "training must be a mapping of settings such as 'epochs: 10', got None"),
        ({"init": ["edge"]}, "unknown init"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


def test_recipes_of_before_rounds_were_optional_and_checks_were_there_keep_their_hashes():
    assert RESULTS_VERSION == 1
    assert Recipe().hash == Recipe(rounds=1).hash == "a2bdaa44be"
    assert Recipe(rounds=5).hash == "f8f859c729"
    assert Recipe(criterion="random", seed=3).hash == "16fed1c91d"
    assert Recipe(criterion="none").hash == "b727454c8e"


@pytest.mark.parametrize("name", ["sparse", "cuda_graph"])
def test_later_settings_of_training_are_in_the_hash_only_where_they_are_asked_for(name):
    assert Recipe(training=Training(**{name: False})).hash == Recipe().hash == "a2bdaa44be"
    assert Recipe(training=Training(**{name: True})).hash != Recipe().hash


def test_a_sparse_orthogonal_recipe_is_shared_out_by_layers_said_or_unsaid():
    unsaid = Recipe(init="sparse_orthogonal", criterion="magnitude")
    said = dataclasses.replace(unsaid, scope="ends")
    assert (unsaid, unsaid.hash) == (said, said.hash)
    assert len({dataclasses.replace(unsaid, scope=scope).hash for scope in ("layer", "erk+", "ends")}) == 3
    assert Recipe.from_mapping(unsaid.to_mapping()) == unsaid


def test_a_sparse_orthogonal_recipe_of_another_criterion_was_another_recipe_before():
    assert Recipe(init="sparse_orthogonal", criterion="snip").redraws
    assert Recipe(init="sparse_orthogonal", criterion="snip").hash != "154a8d3b12"
    assert not Recipe(init="sparse_orthogonal", criterion="magnitude").redraws
    assert not Recipe(init="orthogonal", criterion="snip").redraws


def test_rescaling_between_rounds_is_in_the_hash_only_where_it_is_done():
    assert Recipe(rounds=5, rescale_between="none").hash == "f8f859c729"
    orthogonal = Recipe(init="orthogonal")
    for init, different in (("orthogonal", 2), ("sparse_orthogonal", 3)):
        ways = [dataclasses.replace(orthogonal, init=init, mirrored=way) for way in (None, True, False)]
        assert len({one.hash for one in ways}) == len(set(ways)) == different
    assert len({Recipe(rounds=5, rescale_between=unit).hash for unit in ("none", "layer", "neuron")}) == 3
    assert Recipe(criterion="force", rescale_between="layer").hash != Recipe(criterion="force").hash


def test_rounds_that_are_the_criterions_own_are_no_other_recipe():
    assert Recipe(criterion="force").hash == Recipe(criterion="force", rounds=60).hash
    assert Recipe(criterion="force").hash != Recipe(criterion="force", rounds=1).hash


@pytest.mark.parametrize("name", OFFERED)
def test_every_criterion_that_is_offered_can_be_named_and_made(name):
    recipe = Recipe(criterion=name, seed=7, norm="running")
    made = criterion(recipe)
    assert callable(made)
    assert made == criterion(dataclasses.replace(recipe, depth=7))
    fields = {field.name for field in dataclasses.fields(made)}
    for setting in fields & {"norm", "seed"}:
        assert getattr(made, setting) == getattr(recipe, setting)


def test_random_walks_go_on_until_they_cover_what_is_kept():
    assert criterion(Recipe(criterion="phew", sparsity=0.5)).coverage == 0.5
    assert criterion(Recipe(criterion="phew", sparsity=0.99)).coverage == Phew.coverage


def test_the_hash_changes_with_what_the_code_computes(monkeypatch):
    before = Recipe().hash
    monkeypatch.setattr("pruneinit.experiments.recipe.RESULTS_VERSION", RESULTS_VERSION + 1)
    assert Recipe().hash != before


def test_a_number_is_the_same_setting_whole_or_not():
    whole = Recipe(sparsity=0, sigma_b=1, activation="tanh", training=Training(lr=1, clip_norm=2, milestones=()))
    other = Recipe(
        sparsity=0.0, sigma_b=1.0, activation="tanh", training=Training(lr=1.0, clip_norm=2.0, milestones=())
    )
    assert whole == other
    assert whole.hash == other.hash


@pytest.mark.parametrize(
    "text, message",
    [
        ("sparsty: 0.9", "unknown setting 'sparsty'; did you mean 'sparsity'|did you mean 'sparsity'"),
        ("training: {epcohs: 3}", "did you mean 'epochs'"),
        ("training: 3", "training must be a mapping"),
        ("- a\n- b", "is no recipe"),
        ("a: [", "cannot read the recipe"),
        ("sparsity: much", "must be a number"),
        ("training: {epochs: many}", "epochs must be a whole number"),
        ("training: {epochs: 1.0e9}", "epochs must be a whole number"),
        ("training: {batch_size: 0}", "batch_size must be a whole number"),
        ("training: {lr: .nan}", "lr must be a number above 0, got nan"),
        ("training: {lr: [0.1]}", "lr must be a number above 0, got"),
        ("training: {milestones: 0.5}", "milestones must be a tuple"),
        ("training: {milestones: [[0.5]]}", "a milestone must be a number"),
        ("training: null", "training must be a mapping"),
        ("test_accuracy: 0.9", "unknown setting 'test_accuracy'"),
        ("1: 2", "unknown setting '1'"),
        ("[a]: 2", "cannot read the recipe"),
        ("data: 2020-99-99", "cannot read the recipe"),
        ("data: 2020-01-02", "data must be a name"),
        ("model: mlp\nwidth: [", "cannot read the recipe .*: line 2: "),
        ("[" * 5000, "cannot read the recipe"),
        ("", "is no recipe"),
    ],
)
def test_damaged_recipe_files(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Recipe.from_yaml(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("contents", [b"\x00\x01\x02", b"\xff\xfe\xa9", bytes(range(256))])
def test_a_file_that_is_no_text_is_no_recipe(tmp_path, contents):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(contents)
    with pytest.raises(InputError, match="cannot read the recipe .*recipe.yaml"):
        Recipe.from_yaml(path)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(InputError, match="cannot read the recipe .*: Is a directory"):
        Recipe.from_yaml(tmp_path)


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.yaml"):
        Recipe.from_yaml(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_files_that_come_with_it_are_recipes_or_grids(file):
    if file.stem == "ffnn-small":
        assert Grid.from_yaml(file).cells()
    else:
        assert Recipe.from_yaml(file).criterion in ("snip", "magnitude")
