from typing import get_args

from pruneinit.experiments import recipe
from pruneinit.report.settings import differences, flatten, ways


def test_flatten_keeps_empty_mappings_and_lists():
    assert flatten({"a": {}, "b": {"c": {"d": [1, {"e": None}]}}}) == [
        ("", "a", "{}"),
        ("b.c.", "d", '[1, {"e": null}]'),
    ]


def test_a_setting_that_a_recipe_lacks_differs():
    assert differences([{"a": 1, "b": 2}, {"b": 2}]) == [[("a", "1")], [("a", "–")]]
    assert differences([{"a": 1, "b": 2}, {"a": 3, "b": 4}], apart_from=["a"]) == [[("b", "2")], [("b", "4")]]
    assert differences([{"a": 1}]) == [[]]
    assert differences([]) == []


def test_every_way_to_initialise_and_rescale_has_its_words():
    for name in get_args(recipe.Init):
        assert ways([{"init": name}])[0].endswith(".")
    for name in set(get_args(recipe.Rescale)) - {"none"}:
        assert "after pruning" in ways([{"init": "edge", "rescale": name}])[0]
    shared = {"init": "sparse_orthogonal", "criterion": "snip"}
    assert "as many in each layer as pruning removes" in ways([shared])[0]
    assert "which is what pruning removes" in ways([shared | {"criterion": "magnitude"}])[0]
    stable = ways([{"init": "edge"}, {"init": "edge", "residuals": "stable", "rescale": "none"}])[1]
    assert stable.startswith("The same, and each residual branch is divided by")


def test_a_way_is_only_the_same_as_one_that_it_repeats():
    told = ways([{"init": "default"}, {"init": "edge", "rescale": "layer"}, {"init": "edge"}, {"init": "edge"}, {}])
    assert [sentence.startswith("The same") for sentence in told] == [False] * 5
    assert told[2] == told[3] != ""
    assert told[4] == ""
