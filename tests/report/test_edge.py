"""The page about the Edge of Chaos."""

import html
import re
from xml.etree import ElementTree

import pytest
import torch

from pruneinit import InputError
from pruneinit.report.edge import check_page, find_edges, write_edges


def page(tmp_path, names, sigma_bs=()):
    return write_edges(find_edges(names, sigma_bs), tmp_path / "edge.html").read_text()


def test_a_page_has_a_map_a_table_and_what_to_do(tmp_path):
    text = page(tmp_path, ["tanh"])
    assert "<h1>The Edge of Chaos of tanh</h1>" in text
    assert text.count("<svg") == 2  # wide and narrow
    assert "1.30415" in text
    assert 'pi.edge_of_chaos_(model, "tanh", sigma_b=0.2)   # σ_w = 1.30415' in text
    assert "σ_b = 1.5" in text
    assert "files in the runs" not in text
    assert not re.search(r'<script|href="(?!data:)|src=|@import|url\(', text)


def test_the_code_on_the_page_puts_a_model_on_the_edge(tmp_path):
    code = html.unescape(re.search("<pre>(.*?)</pre>", page(tmp_path, ["tanh"], [0.5]), re.DOTALL).group(1))
    torch.manual_seed(0)
    values = {"model": torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.Tanh())}
    exec(code, values)
    assert values["model"][0].weight.std().item() * 300**0.5 == pytest.approx(1.54967, rel=0.01)


def test_the_code_starts_no_network_where_the_variance_is_unstable(tmp_path):
    assert 'edge_of_chaos_(model, "gelu", sigma_b=0.42)' in page(tmp_path, ["gelu"], [0.2, 0.42])
    assert 'edge_of_chaos_(model, "gelu", sigma_b=0.5)' in page(tmp_path, ["gelu"], [0.2])


def test_points_asked_for_are_in_the_table_and_marked(tmp_path):
    text = page(tmp_path, ["tanh"], [0.3, 0.7])
    assert re.findall(r"<b>σ_b = (\S+)</b>", text) == ["0.3", "0.7"]
    assert "marked points" in text


def test_an_activation_without_an_edge_is_said_to_have_none_among_others(tmp_path):
    text = page(tmp_path, ["softplus", "tanh"])
    assert "The Edge of Chaos of softplus and tanh" in text
    assert "softplus has no Edge of Chaos with a stable variance" in text
    assert text.count("There is no point to list.") == 1
    assert text.count("<table") == 1


def test_many_activations_go_without_tooltips(tmp_path):
    names = ["relu", "leaky_relu", "identity", "tanh", "erf"]
    text = page(tmp_path, names)
    assert "The Edge of Chaos of 5 activations" in text
    assert re.findall("<h2>(.*?)</h2>", text)[1:-1] == names
    assert 'class="hit"' not in text
    assert 'class="hit"' in page(tmp_path, names[:1])


def test_an_svg_is_the_drawing_alone(tmp_path):
    file = write_edges(find_edges(["relu"], []), tmp_path / "relu.svg")
    root = ElementTree.fromstring(file.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("aria-label") == "Phase diagram of relu"
    assert file.read_text() == write_edges(find_edges(["relu"], []), tmp_path / "again.svg").read_text()


def test_other_names_of_an_activation_are_the_same_one():
    assert [one.activation for one in find_edges(["swish", "silu", "swish"], [])] == ["silu"]


def test_alone_without_an_edge_is_an_error_and_in_part_is_not():
    with pytest.raises(InputError, match="relu is on the Edge of Chaos only at sigma_b=0"):
        find_edges(["relu"], [0.5, 1.0])
    (one,) = find_edges(["relu"], [0.0, 1.0])
    assert (len(one.points), len(one.lacking)) == (1, 1)


@pytest.mark.parametrize(
    "name, number, message",
    [
        ("", 1, "it is a folder; give the name of a file in it"),
        ("edge.pdf", 1, r"out must end in .html \(a page\) or .svg \(a drawing\), got '\S+edge.pdf'"),
        ("edge", 1, "out must end in"),
        ("edge.svg", 2, "would hold one drawing: name one activation"),
    ],
)
def test_a_place_that_cannot_be_is_refused(name, number, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_page(tmp_path / name, number)
    with pytest.raises(InputError, match=message):
        write_edges(find_edges(["relu", "tanh"][:number], []), tmp_path / name)
    assert not list(tmp_path.iterdir())
