"""Phase diagrams as drawings and as text, against the diagram they show."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from drawings import assert_inside, elements
from pruneinit.errors import InputError
from pruneinit.meanfield import NAMED, edge_curve, phase_diagram
from pruneinit.report.phases import TEXT, diagram_of, edge_points, phase_chart, phase_text, remarks, settling


def names(svg):
    return {node.text for node in elements(svg, "name")}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_activation_is_drawn_inside_its_drawing_and_in_twenty_lines(name):
    points, lacking = edge_points(name, [])
    diagram = diagram_of(name, points)
    for width in (340, 900):
        assert_inside(phase_chart(diagram, points, width=width))
    lines = phase_text(diagram_of(name, points, TEXT))
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert bool(lacking) == (name == "softplus")
    for point in points:
        assert diagram.sigma_bs[0] <= point.sigma_b <= diagram.sigma_bs[-1]
        assert diagram.sigma_ws[0] <= point.sigma_w <= diagram.sigma_ws[-1]


def test_the_phases_have_their_names_where_they_are():
    diagram = diagram_of("tanh")
    svg = phase_chart(diagram)
    assert names(svg) == {"ordered phase", "chaotic phase"}
    heights = {node.text: float(node.get("y")) for node in elements(svg, "name")}
    assert heights["chaotic phase"] < heights["ordered phase"]
    assert names(phase_chart(diagram_of("gelu"))) == {"ordered phase", "variance diverges"}
    assert names(phase_chart(phase_diagram("tanh", np.linspace(0, 1, 20), np.linspace(0.1, 0.9, 20)))) == {
        "ordered phase"
    }


def test_the_colours_part_at_the_edge():
    svg = phase_chart(phase_diagram("tanh", [0.2], [1.30, 1.31]))
    assert [node.get("class") for node in elements(svg, "cell")[16:]] == ["cell below s1", "cell above s1"]


def test_the_edge_is_dashed_where_the_variance_is_unstable():
    svg = phase_chart(diagram_of("gelu"))
    lines = [node for node in elements(svg, "line") if "L" in node.get("d")][2:]  # after two samples in the legend
    assert [node.get("stroke-dasharray") for node in lines] == [None, "7 4"]
    ends = [node.get("d").replace("M", "L").split("L")[1:] for node in lines]
    assert ends[0][0] == ends[1][-1]
    assert len(elements(phase_chart(diagram_of("tanh")), "line")) == 2  # sample and line


def test_the_edge_of_relu_is_drawn_as_one_point():
    points, _ = edge_points("relu", [])
    svg = phase_chart(diagram_of("relu", points), points)
    assert not elements(svg, "line")
    sample, mark = elements(svg, "mark")
    assert sample.get("d").count("M") == mark.get("d").count("M") == 1
    assert "Edge of Chaos, χ = 1: σ_b = 0, σ_w = 1.414" in [node.text for node in elements(svg, "key")]


def test_points_asked_for_are_marked_and_in_sight():
    points, _ = edge_points("tanh", [0.3, 5.0])
    svg = phase_chart(diagram_of("tanh", points), points)
    assert elements(svg, "mark")[-1].get("d").count("M") == 2
    assert "marked points" in [node.text for node in elements(svg, "key")]


def test_a_tooltip_holds_log_chi():
    svg = phase_chart(phase_diagram("relu", [0.0], [2.0]))
    texts = [node.text for node in ElementTree.fromstring(svg).iter("title")]
    assert texts == [f"bias scale σ_b 0, weight scale σ_w 2\nlog χ: {math.log(2):.4g}"]


def test_remarks_are_about_what_the_diagram_shows():
    assert remarks(diagram_of("tanh")) == []
    (relu,) = remarks(diagram_of("relu"))
    assert relu.startswith("relu is scale-free")
    blank, dashed = remarks(diagram_of("gelu"))
    assert blank.startswith("Where there is no colour")
    assert dashed.endswith("by a factor of up to 1.11 a layer, and with it a deep network leaves the edge; at "
                           "σ_b = 0.45 and above it is stable.")  # fmt: skip
    assert max(point.variance_slope for point in edge_curve("gelu", np.linspace(0, 0.4, 9))) == pytest.approx(
        1.11, abs=5e-3
    )
    assert remarks(diagram_of("softplus"), ["None at 0"])[0] == "None at 0."


def test_the_text_shows_each_phase_and_the_edge_in_its_place():
    diagram = phase_diagram("tanh", np.linspace(0, 2, 41), np.linspace(0.5, 2.5, 11))
    lines = phase_text(diagram)
    rows = [line.split("┤")[1] for line in lines[1:12]]
    for row, phases, sigma_w in zip(rows[::-1], diagram.phase, diagram.sigma_ws, strict=True):
        for sign, phase, point in zip(row, phases, diagram.edge, strict=True):
            distance = abs(point.sigma_w - sigma_w)
            if distance < 0.1 - 1e-9:
                assert sign == "●"
            elif distance > 0.1 + 1e-9:
                assert sign == {"ordered": "░", "chaotic": "▓"}[phase]
    assert lines[1].startswith("     ┤")
    assert lines[2].startswith("2.30 ┤")
    assert lines[-1] == "● Edge of Chaos"


def test_the_legend_of_the_text_names_what_is_there():
    lines = phase_text(diagram_of("gelu", size=TEXT))
    assert lines[-2:] == [
        "● Edge of Chaos   ○ the same, but the variance is unstable",
        "blank: the variance grows without bound",
    ]
    assert not [line for line in lines if line.startswith("▓")]


def test_cells_that_count_as_edge_are_shown_on_their_side_of_it():
    diagram = phase_diagram("gelu", np.linspace(1.0, 2.0, 24), np.linspace(1.405, 1.413, 17))
    rows = [line.split("┤")[1] for line in phase_text(diagram)[1:18]][::-1]
    assert ((diagram.phase == "edge") & (diagram.chi < 1)).any()
    for row, values in zip(rows, diagram.chi, strict=True):
        for sign, value in zip(row, values, strict=True):
            assert sign == "●" or sign == (" " if math.isnan(value) else "░" if value < 1 else "▓")


def test_a_diagram_too_small_for_labels_is_refused():
    with pytest.raises(InputError, match="needs 2 rows and 24 columns, got 1 and 3"):
        phase_text(phase_diagram("tanh", [0.1, 0.2, 0.3], [1.0]))


def test_layers_to_settle():
    at = {name: edge_points(name, [sigma_b])[0][0] for name, sigma_b in (("relu", 0.0), ("gelu", 0.2), ("silu", 2.0))}
    assert {name: settling(point) for name, point in at.items()} == {
        "relu": "never",
        "gelu": "unstable",
        "silu": f"{at['silu'].variance_scale:,.0f} layers",
    }


def test_points_that_do_not_exist_have_a_reason_and_wrong_ones_are_refused():
    points, lacking = edge_points("relu", [0.0, 0.1, 0.2])
    assert [point.sigma_b for point in points] == [0.0]
    assert [text.split("got ")[1] for text in lacking] == ["sigma_b=0.1", "sigma_b=0.2"]
    with pytest.raises(InputError, match="got -1"):
        edge_points("relu", [0.0, -1.0])
