import re
from xml.etree import ElementTree

import pytest

from drawings import assert_inside
from pruneinit.errors import InputError
from pruneinit.report.charts import Series, line_chart
from pruneinit.report.montage import montage
from pruneinit.report.standalone import standalone


def chart(width=300, height=100):
    return line_chart(
        [Series("a", [(1, 1.0), (2, 3.0)])], title="t", x_label="x", y_label="y", width=width, height=height
    )


def places(svg):
    return [tuple(map(float, found)) for found in re.findall(r'translate\(([\d.]+) ([\d.]+)\)">', svg)]


def test_drawings_stand_side_by_side_and_below_each_other_and_none_reaches_into_another():
    svg = montage([("one", chart()), ("two", chart(200, 150)), ("three", chart())], columns=2, title="all")
    (x1, y1), (x2, y2), (x3, y3) = places(svg)
    assert (x1, y1) == (0, y2)
    assert x2 >= 300
    assert x3 == 0
    assert y3 >= y1 + 150
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "all"
    assert [node.text for node in root.iter() if node.get("class") == "head"] == ["one", "two", "three"]
    width, height = float(root.get("width")), float(root.get("height"))
    assert width >= x2 + 300
    assert height >= y3 + 100
    assert_inside(svg)


def test_an_empty_drawing_leaves_its_place_free():
    assert places(montage([("one", chart()), ("", ""), ("two", chart())], columns=2, title="all"))[2][0] == 0


def test_a_legend_stands_above_all():
    svg = montage([("one", chart())], columns=2, title="all", head=('<text x="0" y="10">legend</text>', 30.0))
    assert places(svg)[0][1] > 30
    ElementTree.fromstring(standalone(svg))


def test_only_drawings_are_taken():
    with pytest.raises(InputError, match="expected a drawing"):
        montage([("one", "<p>no drawing</p>")], columns=1, title="all")
