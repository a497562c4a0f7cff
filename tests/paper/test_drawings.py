from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pruneinit.paper.drawings import accuracy_lines, accuracy_maps, row_maps
from pruneinit.paper.entries import Entry, Spread
from pruneinit.paper.published import Reported


def entry(row, sparsity, mean, **axes):
    last = None if mean is None else Spread(mean, 1.0)
    return Entry(
        row, {"sparsity": sparsity, **axes}, "cifar10", "resnet20", 3, 3 if last else 0, None, last, last, None
    )


FOUND = [entry("dense", 0.0, 80.0), *(entry("SNIP", s, m) for s, m in ((0.9, 70.0), (0.95, 61.0), (0.98, None)))]
PAPER = [
    Reported("SNIP", "cifar10", "resnet32", "sparsity", 0.9, 92.6, None, "made up"),
    Reported("OBD", "cifar10", "resnet32", "sparsity", 0.9, 94.2, None, "made up"),
    Reported("SNIP", "cifar100", "resnet32", "sparsity", 0.9, 70.0, None, "made up"),
]
GROUPS = {"criteria": ("SNIP", "dense"), "others": ("magnitude",)}


def told(svg, kind):
    return [node.text for node in ElementTree.fromstring(svg).iter() if kind in node.get("class", "").split()]


def lines(paper=PAPER, found=FOUND, **more):
    return accuracy_lines(found, paper, title="t", axis="sparsity", groups=GROUPS, **more)


def test_each_network_has_its_panels_and_the_papers_beside_them():
    svg = lines(stands_for={"resnet20": "resnet32"})
    assert told(svg, "head") == ["resnet20 on cifar10, criteria", "resnet32 on cifar10, as the paper reports"]
    assert told(svg, "key") == ["SNIP", "dense", "SNIP", "OBD"]
    tips = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag == "title"]
    assert any("0.9" in tip and "SNIP: 70" in tip and "dense: 80" in tip for tip in tips)
    assert any("SNIP: 92.6" in tip for tip in tips)


def test_without_a_number_of_the_paper_there_is_no_such_panel():
    assert told(lines(paper=[]), "head") == ["resnet20 on cifar10, criteria"]
    assert told(lines(), "head") == ["resnet20 on cifar10, criteria"]


def test_ticks_are_where_the_values_are():
    texts = [node.text for node in ElementTree.fromstring(lines()).iter() if node.tag == "text"]
    for tick in ("0.9", "0.95", "60", "70", "80"):
        assert tick in texts
    assert "0.92" not in texts


def test_a_map_shows_each_mean_in_its_cell_and_leaves_out_what_is_not_there():
    found = [
        entry("edge", s, m, depth=d, activation="tanh")
        for s, d, m in ((0.5, 10, 97.4), (0.9, 10, 12.2), (0.5, 100, 10.0), (0.9, 100, None))
    ]
    found += [replace(one, row="ordered") for one in found]
    svg = accuracy_maps(found, title="t", x="sparsity", y="depth", lines={"SBP": ("ordered", "edge")}, by="activation")
    assert told(svg, "head") == ["ordered, tanh", "edge, tanh"]
    assert told(svg, "name") == ["97", "12", "10"] * 2
    texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag == "text"]
    assert {"0.5", "0.9", "10", "100", "test accuracy after the last epoch, %"} <= set(texts)
    tips = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag == "title"]
    assert "sparsity 0.9, depth 100\ntest accuracy, %: no value" in tips


def test_a_map_of_rows_has_a_line_for_each_row_and_a_column_for_each_place():
    found = [
        entry(row, s, m, depth=d, activation="tanh", init=init)
        for row, init, s, d, m in (
            ("snip", "edge", 0.9, 30, 91.0),
            ("snip", "edge", 0.9, 100, 12.0),
            ("random", "edge", 0.9, 30, 34.0),
            ("grasp", "edge", 0.99, 30, None),
            ("grasp", "default", 0.9, 30, None),
            ("snip", "orthogonal", 0.95, 30, 55.0),
        )
    ]
    svg = row_maps(found, title="t", places=("depth", "sparsity"), by=("activation", "init"))
    assert told(svg, "head") == ["tanh, edge", "tanh, orthogonal"]
    assert told(svg, "name") == ["34", "91", "12", "55"]
    texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag == "text"]
    assert texts.index("random") < texts.index("snip")  # the lowest line first
    assert {"30, 0.9", "100, 0.9", "30, 0.95"} <= set(texts)
    assert not {"grasp", "30, 0.99"} & set(texts)  # nothing is measured there yet


@pytest.mark.parametrize("columns, wide", [(1, 1), (2, 2), (9, 3), (None, 3)])
def test_maps_stand_side_by_side_as_many_as_are_asked_for(columns, wide):
    found = [entry("snip", 0.9, 50.0, model=name) for name in ("a", "b", "c")]
    svg = row_maps(found, title="t", places=("sparsity",), by=("model",), columns=columns)
    heads = [node for node in ElementTree.fromstring(svg).iter() if node.text in ("a", "b", "c") and "x" in node.attrib]
    assert [node.text for node in heads] == ["a", "b", "c"]
    assert len({node.attrib["x"] for node in heads}) == wide
