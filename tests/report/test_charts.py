import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawings import assert_inside, elements
from pruneinit.report.charts import Bar, Series, bar_chart, line_chart

FINITE = st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.lists(st.tuples(st.integers(0, 300).map(float), FINITE | st.none()), max_size=8)
SHOWN = st.sampled_from(["both", "line", "points"])
SERIES = st.lists(st.builds(Series, st.text(max_size=30), POINTS, SHOWN), max_size=4)
BARS = st.lists(
    st.builds(Bar, st.text(max_size=40), st.floats(0, 100), st.just("1 %"), st.text(max_size=9)), max_size=8
)


def chart(series, **options):
    return line_chart(series, title="A title", x_label="layer", y_label="q", **options)


@settings(deadline=None, max_examples=150)
@given(SERIES, st.booleans(), st.sampled_from([340, 430, 900]), st.booleans())
def test_any_lines_stay_inside_their_drawing(series, log, width, tooltips):
    assert_inside(chart(series, log=log, width=width, tooltips=tooltips))


def test_theory_is_a_line_and_measurement_is_points_of_the_same_look():
    theory = Series("theory", [(x / 10, 2.0 - x / 10) for x in range(100)], shown="line")
    measured = Series("measured", [(x / 2 + 0.07, 1.0) for x in range(40)], shown="points", look=0)
    svg = chart([theory, measured], whole=False)
    (sample, line), (key, marks) = elements(svg, "line"), elements(svg, "mark")
    assert (sample.get("class"), key.get("class")) == ("line c0", "mark c0")
    assert line.get("d").count("L") == 99
    assert len(re.findall(r"M[\d.]+ [\d.]+", marks.get("d"))) == 40  # all of them, not a sample
    titles = [node.text for node in ElementTree.fromstring(svg).iter("title")]
    assert len(titles) == 40
    assert titles[0] == "layer 0.07\nmeasured: 1"


def test_a_theory_of_one_point_is_not_lost():
    svg = chart([Series("a", [(1, 1.0), (2, None), (3, 1.0), (4, 2.0)], shown="line")])
    assert [mark.get("d").count("M") for mark in elements(svg, "mark")] == [1]


def test_ticks_between_whole_numbers_where_x_is_no_count():
    points = [(1.0, 1.0), (2.0, 2.0)]
    assert ">1.5</text>" not in re.sub(r'class="end">1.5<', "", chart([Series("a", points)]))
    assert 'class="mid">1.2</text>' in chart([Series("a", points)], whole=False)


@settings(deadline=None, max_examples=100)
@given(BARS, st.sampled_from([340, 900]), st.booleans())
def test_any_bars_stay_inside_their_drawing(bars, width, tooltips):
    reference = Bar("all layers together:", 50.0, "50 %", "")
    assert_inside(bar_chart(bars, title="t", reference=reference, width=width, tooltips=tooltips))


def test_the_check_of_coordinates_sees_one_that_is_outside():
    svg = chart([Series("a", [(1, 1.0), (2, 2.0)])])
    with pytest.raises(AssertionError):
        assert_inside(svg.replace('<path class="line c0" d="M', '<path class="line c0" d="M-99 5L'))


def test_a_figure_has_a_role_and_a_name():
    root = ElementTree.fromstring(chart([Series("a", [(1, 1.0)])]))
    assert (root.get("role"), root.get("aria-label")) == ("img", "A title")


def test_a_missing_value_leaves_a_gap():
    points = [(1, 1.0), (2, 2.0), (3, None), (4, float("inf")), (5, 1.0), (6, 2.0)]
    line = elements(chart([Series("a", points)]), "line")[1]  # the first is its sample in the legend
    assert [stretch.count("L") for stretch in line.get("d").split("M")[1:]] == [1, 1]


def test_larger_values_are_higher_up():
    line = elements(chart([Series("a", [(1, 1e-9), (2, 1e-3), (3, 10.0)])], log=True), "line")[1]
    heights = [float(y) for _, y in re.findall(r"[ML](\S+) ([\d.]+)", line.get("d"))]
    assert heights == sorted(heights, reverse=True)


def test_a_point_that_stands_alone_is_marked_among_many():
    points = [(float(x), 1.0 if x not in (49, 51) else None) for x in range(101)]
    marks = elements(chart([Series("a", points)]), "mark")[1].get("d")
    inner = re.findall(r"M([\d.]+) [\d.]+", marks)
    start, end = float(inner[0]), max(float(x) for x in inner)
    assert any(abs(float(x) - (start + end) / 2) < (end - start) / 90 for x in inner)
    assert len(inner) < 45


def test_zeros_on_a_logarithmic_axis_lie_on_a_line_of_their_own():
    svg = chart([Series("a", [(1, 1.0), (2, 0.01), (3, 0.0), (4, -1.0)])], log=True)
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)m", elements(svg, "mark")[1].get("d"))]
    assert len(heights) == 3  # the negative value has no place
    assert heights[2] > heights[1] + 20
    assert ">0</text>" in svg
    assert ">0</text>" not in chart([Series("a", [(1, 1.0), (2, 0.01)])], log=True)


def test_series_differ_without_colour():
    many = [Series(str(i), [(1, 1.0), (2, 2.0)]) for i in range(12)]
    svg = chart(many)
    lines, marks = elements(svg, "line")[:12], elements(svg, "mark")[:12]
    looks = {
        (line.get("stroke-dasharray"), re.sub(r"M[\d.]+ [\d.]+", "", mark.get("d")))
        for line, mark in zip(lines, marks, strict=True)
    }
    assert len(looks) == 12


def test_a_tooltip_names_the_layer_and_every_value_there():
    series = [Series("dense", [(1, 0.5), (2, 0.25)]), Series("pruned", [(1, None)])]
    titles = [node.text for node in ElementTree.fromstring(chart(series, names={1.0: "fc1"})).iter("title")]
    assert titles == ["layer 1: fc1\ndense: 0.5\npruned: no value", "layer 2\ndense: 0.25"]
    assert "<title>" not in chart(series, tooltips=False)


@pytest.mark.parametrize("layers", [1, 30, 110])
def test_bars_do_not_touch_and_their_names_can_be_read(layers):
    bars = [Bar(f"stages.{i}.conv", float(i % 7), f"{i % 7} %", "") for i in range(layers)]
    root = ElementTree.fromstring(bar_chart(bars, title="t", width=340))
    group = next(node for node in root.iter("g") if node.get("class") == "bars")
    bases = [float(row.find("text").get("y")) for row in group]
    pitch = min((b - a for a, b in pairwise(bases)), default=20)
    assert float(group.get("font-size")) >= 10
    assert pitch >= float(group.get("font-size")) * 1.15
    assert float(group.get("stroke-width")) < pitch - 3


def test_bars_are_as_long_as_their_values():
    bars = [Bar("a", 10.0, "10 %", ""), Bar("b", 20.0, "20 %", ""), Bar("c", 1e-9, "0 %", "")]
    spans = [
        float(end) - float(start)
        for start, end in re.findall(r'<path d="M([\d.]+) [\d.]+H([\d.]+)"/>', bar_chart(bars, title="t"))
    ]
    assert spans[1] == pytest.approx(2 * spans[0], abs=0.2)
    assert spans[2] == pytest.approx(1.5, abs=0.11)  # a trace, so that it does not look empty


def test_only_empty_layers_are_marked_as_empty():
    svg = bar_chart([Bar("a", 0.0, "0 %", ""), Bar("b", 1e-9, "under 0.001 %", "")], title="t")
    rows = [node for node in ElementTree.fromstring(svg).iter("g") if node.get("class") != "bars"]
    assert [row.get("class") for row in rows] == ["warn", None]
    assert ["empty" in ElementTree.tostring(row, "unicode") for row in rows] == [True, False]


@pytest.mark.parametrize("text", ["</svg><script>", 'a"b', "&amp;", "\x00\x1b\ud800\uffff", "層" * 90], ids=ascii)
def test_any_text_is_only_text(text):
    lines = chart([Series(text, [(1, 1.0)])], names={1.0: text})
    bars = bar_chart([Bar(text, 1.0, "1 %", text)], title=text)
    for svg in (lines, bars):
        assert "script" not in {node.tag for node in ElementTree.fromstring(svg).iter()}
        assert "<script>" not in svg


def test_a_figure_is_small():
    points = [(float(i), 0.5 + i / 1000) for i in range(1, 31)]
    three = [Series(name, points) for name in ("dense", "pruned", "rescaled")]
    assert len(chart(three, log=True)) < 13_000
    assert len(bar_chart([Bar(f"fc{i}", 2.0, "2 %", "200 of 10,000 weights") for i in range(60)], title="t")) < 13_000
