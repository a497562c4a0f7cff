import textwrap
from dataclasses import replace

import pytest
import torch

import pruneinit as pi
from pruneinit.experiments import Recipe, look
from pruneinit.experiments.look import built_by


def test_a_built_in_network_is_pruned_and_looked_at():
    recipe = Recipe(depth=5, width=30, activation="tanh", sparsity=0.8)
    found = look(recipe)
    assert found.sparsity == pytest.approx(0.8, abs=1e-3)
    assert list(found.stages) == ["dense", "pruned", "rescaled"]
    assert look(Recipe(depth=5, width=30, activation="tanh", sparsity=0.8, rescale="layer")).judge == "rescaled"


def test_what_a_recipe_rescales_by_is_what_is_looked_at():
    recipe = Recipe(depth=20, width=20, activation="tanh", sigma_b=0.0, criterion="random", scope="layer", sparsity=0.8)
    neuron, layer = (look(replace(recipe, rescale=unit)) for unit in ("neuron", "layer"))
    ends = [list(found.stages["rescaled"].values())[-1].second_moment for found in (neuron, layer)]
    # Both bring the mean of the second moments back, the one neuron by neuron: what comes out differs.
    assert ends[0] == pytest.approx(ends[1], rel=0.2)
    assert neuron.stages["rescaled"] != layer.stages["rescaled"]
    assert neuron.stages["pruned"] == layer.stages["pruned"]


def test_a_network_that_is_drawn_anew_is_looked_at_as_it_is_trained():
    recipe = Recipe(
        depth=30, width=100, activation="relu", init="sparse_orthogonal", criterion="snip", sparsity=0.95, rounds=3
    )
    dense, pruned = (list(look(recipe).stages[stage].values()) for stage in ("dense", "pruned"))
    assert [one.second_moment for one in pruned] == pytest.approx([one.second_moment for one in dense], rel=1e-5)
    assert pruned[-2].second_moment == pytest.approx(pruned[0].second_moment, rel=1e-3)


def test_a_dense_recipe_has_one_stage():
    assert list(look(Recipe(depth=4, width=30, criterion="none")).stages) == ["dense"]


def test_the_residual_branches_of_a_recipe_are_divided():
    found = look(Recipe(model="resnet20", width=4, residuals="stable", sparsity=0.9))
    assert found.stable
    with pytest.raises(pi.InputError, match="mlp has no residual branches"):
        look(Recipe(depth=3, width=8, residuals="stable"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            def small():
                torch.manual_seed(0)
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(),
                                     nn.Linear(40, 10))

            def drawn():
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

            def nothing():
                return 5

            def broken():
                raise RuntimeError("no such file")

            def leaves():
                raise SystemExit(3)

            def drawn():
                return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

            def needs(a):
                return a
            """
        )
    )
    (tmp_path / "script.py").write_text("raise SystemExit(3)")
    (tmp_path / "crash.py").write_text("import nosuchmodule")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_of_the_users_is_drawn_from_the_seed_and_no_random_number_is_used_up(folder):
    found = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        found.append(look(Recipe(), builder="mynets:drawn").stages["dense"]["1.weight"])
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_a_function_of_the_users_builds_the_network(folder):
    found = look(Recipe(sparsity=0.5), builder="mynets:small")
    assert [layer.name for layer in found.layers] == ["1.weight", "3.weight", "5.weight"]


def test_a_network_of_the_users_is_the_same_each_time(folder):
    random = torch.random.get_rng_state()
    first, again = (look(Recipe(sparsity=0.5), builder="mynets:drawn").stages["dense"] for _ in range(2))
    assert first == again
    assert first != look(Recipe(sparsity=0.5, seed=1), builder="mynets:drawn").stages["dense"]
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("mynets", "package.module:function"),
        ("recipes/deep-tanh.yaml", "recipes go behind --config"),
        (":small", "package.module:function"),
        ("nomodule:small", "cannot import nomodule: ModuleNotFoundError"),
        ("crash:small", "cannot import crash: ModuleNotFoundError"),
        ("mynets:smal", "did you mean 'small'"),
        ("mynets:nothing", "returned int: expected a torch.nn.Module"),
        ("mynets:broken", "RuntimeError: no such file"),
        ("mynets:leaves", "failed: SystemExit: 3"),
        ("script:main", "cannot import script: SystemExit: 3"),
        ("mynets:needs", "called without arguments"),
    ],
)
def test_what_builds_no_network_is_refused(spec, message, folder):
    with pytest.raises(pi.InputError, match=message) as caught:
        built_by(spec)
    assert "\n" not in str(caught.value)
