import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawings import assert_inside, elements
from pruneinit.errors import InputError
from pruneinit.report.charts import Series
from pruneinit.report.maps import map_chart
from pruneinit.report.svg import text_width

NUMBER = st.floats(-1e6, 1e6)
VALUE = st.floats() | st.none()
POINTS = st.lists(st.tuples(NUMBER, VALUE), max_size=6)
CURVES = st.lists(
    st.builds(Series, st.text(max_size=20), POINTS, st.sampled_from(["both", "line", "points"])), max_size=3
)


def chart(values, x=None, y=None, **options):
    x, y = x or list(range(len(values[0]))), y or list(range(len(values)))
    labels = {"title": "A title", "x_label": "sigma_b", "y_label": "sigma_w", "value_label": "log chi"}
    return map_chart(values, x=x, y=y, **(labels | options))


def cells(svg):
    """Class to area of the cells, the legend's samples left out."""
    areas = {}
    for node in elements(svg, "cell"):
        if "h-" not in node.get("d"):
            corners = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V", node.get("d"))
            areas[node.get("class")] = sum((float(d) - float(a)) * (float(b) - float(c)) for a, b, c, d in corners)
    return areas


@settings(deadline=None, max_examples=150)
@given(st.data(), CURVES, st.sampled_from([340, 900]), st.text(max_size=60))
def test_any_map_stays_inside_its_drawing(data, curves, width, label):
    x, y = (sorted(data.draw(st.sets(st.integers(-50, 50).map(float), min_size=1, max_size=4))) for _ in "xy")
    values = [[data.draw(VALUE) for _ in x] for _ in y]
    assert_inside(chart(values, x, y, curves=curves, width=width, value_label=label))


def test_colours_part_at_the_centre_and_grow_with_the_distance():
    svg = chart([[-4.0, -0.1, 0.0, 0.1, 4.0]])
    areas = cells(svg)
    assert sorted(areas) == ["cell above s1", "cell above s8", "cell below s1", "cell below s8"]
    assert areas["cell above s1"] == pytest.approx(2 * areas["cell below s1"], rel=0.01)  # the centre and 0.1
    assert sorted(cells(chart([[1.0, 5.0]], center=5.0, span=16.0))) == ["cell above s1", "cell below s3"]


def test_no_value_leaves_its_cell_empty_and_an_infinite_one_is_as_far_as_can_be():
    assert sorted(cells(chart([[None, math.nan, -math.inf, 1.0]]))) == ["cell above s8", "cell below s8"]
    assert cells(chart([[None]])) == {}


def test_the_first_row_is_the_lowest_and_the_cells_fill_the_plot():
    svg = chart([[-1.0, -1.0], [1.0, 1.0]], x=[0.0, 1.0], y=[0.0, 1.0])
    low, high = (
        next(n for n in elements(svg, "cell") if n.get("class") == f"cell {side} s8" and "H" in n.get("d"))
        for side in ("below", "above")
    )
    bottoms = [float(re.match(r"M[\d.]+ ([\d.]+)", node.get("d")).group(1)) for node in (low, high)]
    assert bottoms[0] - bottoms[1] == 210
    axis = elements(svg, "axis")[0].get("d")
    left, floor, right = map(float, re.match(r"M([\d.]+) ([\d.]+)H([\d.]+)", axis).groups())
    assert low.get("d").startswith(f"M{left:g} {floor:g}V")
    assert f"H{right:g}V" in low.get("d")


def test_a_curve_is_cut_off_at_the_edge_and_not_bent_along_it():
    steep = Series("steep", [(0.5, -3.0), (0.5, 9.0)], shown="line")
    away = Series("away", [(-9.0, 0.0), (-8.0, 1.0)], shown="both")
    back = Series("back", [(0.0, 0.0), (9.0, 0.0), (0.0, 1.0)], shown="line")
    svg = chart([[1.0, 1.0], [1.0, 1.0]], curves=[steep, away, back])
    drawn = [line.get("d") for line in elements(svg, "line")[3:]]  # after three samples in the legend
    height = re.findall(r"[ML]([\d.]+) ([\d.]+)", drawn[0])
    assert len(height) == 2
    assert abs(float(height[0][1]) - float(height[1][1])) == 420
    assert drawn[1] == ""
    assert drawn[2].count("M") == 2  # out of the map and in again: two stretches
    assert len(elements(svg, "mark")) == 1  # only the sample of `away`


def test_a_curve_inside_is_one_stretch():
    bent = Series("bent", [(i / 300, math.sin(i) ** 2) for i in range(301)], shown="line")
    svg = chart([[1.0, 1.0], [1.0, 1.0]], curves=[bent])
    assert [line.get("d").count("M") for line in elements(svg, "line")] == [1, 1]


def test_a_tooltip_says_where_a_cell_is_and_what_it_holds():
    svg = chart([[0.25, None]], x=[1.0, 2.0], y=[0.5])
    titles = [node.text for node in ElementTree.fromstring(svg).iter("title")]
    assert titles == ["sigma_b 1, sigma_w 0.5\nlog chi: 0.25", "sigma_b 2, sigma_w 0.5\nlog chi: no value"]
    assert "<title>" not in chart([[0.25]], tooltips=False)
    assert "<title>" not in chart([[0.25] * 60] * 60)


def test_names_are_over_the_map_and_inside_of_it():
    svg = chart([[1.0] * 3] * 3, names=[(1.0, 1.0, "middle"), (0.0, 0.0, "a corner"), (2.0, 2.0, "long " * 40)])
    assert_inside(svg)
    middle, corner, long = elements(svg, "name")
    left, _, right = map(float, re.match(r"M([\d.]+) ([\d.]+)H([\d.]+)", elements(svg, "axis")[0].get("d")).groups())
    assert float(middle.get("x")) == pytest.approx((left + right) / 2, abs=0.1)
    assert float(corner.get("x")) - text_width(corner.text, 13.5) / 2 >= left
    assert float(long.get("x")) + text_width(long.text, 13.5) / 2 <= right
    assert long.text.startswith("…")


def test_a_fine_map_is_small():
    values = [[math.log((1 + i) / (1 + j)) for j in range(100)] for i in range(100)]
    assert len(chart(values)) < 80_000


@pytest.mark.parametrize("text", ["</svg><script>", 'a"b', "&amp;", "\x00\ud800", "層" * 90], ids=ascii)
def test_any_text_is_only_text(text):
    svg = chart([[1.0]], title=text, x_label=text, y_label=text, value_label=text, curves=[Series(text, [(0, 0)])])
    assert "script" not in {node.tag for node in ElementTree.fromstring(svg).iter()}


@pytest.mark.parametrize(
    "values, x, y, message",
    [
        ([[1.0]], [0.0, 1.0], [0.0], r"values must be 1 rows of 2, .* got 1 rows of \[1\]"),
        ([[1.0]], [0.0], [0.0, 1.0], "values must be 2 rows of 1"),
        ([[1.0, 2.0]], [1.0, 0.0], [0.0], "x must be rising"),
        ([], [0.0], [], "y must be rising"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(values, x, y, message):
    with pytest.raises(InputError, match=message):
        map_chart(values, x=x, y=y, title="", x_label="", y_label="", value_label="")


def test_rows_and_columns_can_have_names_and_the_key_can_be_left_to_others():
    svg = map_chart(
        [[1.0, 2.0], [3.0, None]], x=[0, 1], y=[0, 1], x_names=["0.1", "0.98"], y_names=["10", "100"], key=False,
        title="t", x_label="sparsity", y_label="depth", value_label="accuracy",
    )  # fmt: skip
    texts = [node.text for node in ElementTree.fromstring(svg).iter() if node.tag == "text"]
    assert texts == ["10", "100", "0.1", "0.98", "depth", "sparsity"]
    assert "sparsity 0.98, depth 10" in svg
    assert_inside(svg)


def test_as_many_names_as_cells_are_needed():
    with pytest.raises(InputError, match="x_names must be 2 names, one for each cell, got 1"):
        map_chart([[1, 2]], x=[0, 1], y=[0], x_names=["a"], title="t", x_label="x", y_label="y", value_label="v")
