import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruneinit.errors import InputError
from pruneinit.experiments import Recipe
from pruneinit.train import Training


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
    base = Recipe(init="gaussian", sigma_w=1.0, rescale="formula")
    other = {
        "data": "mnist", "validation": 0.1, "model": "vcnn", "depth": 7, "width": 9, "activation": "tanh",
        "sigma_w": 2.0, "sigma_b": 0.3, "residuals": "stable", "criterion": "random", "sparsity": 0.5,
        "scope": "layer", "rounds": 2, "norm": "running", "score_images": 7, "rescale": "layer", "fold": True,
        "seed": 1, "training": Training(epochs=1),
    }  # fmt: skip
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert fields - other.keys() == {"init"}
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
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"validation": 1.0}, r"validation must be in \[0, 1\), got 1"),
        ({"seed": -1}, "seed must be in"),
        ({"sigma_w": 1.0}, "sigma_w goes with init='gaussian'"),
        ({"init": "gaussian"}, "sigma_w goes with init='gaussian'"),
        ({"criterion": "none", "rescale": "layer"}, "needs something pruned"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


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
    ],
)
def test_damaged_recipe_files(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Recipe.from_yaml(path)


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing.yaml"):
        Recipe.from_yaml(tmp_path / "nothing.yaml")
