import re
from xml.etree import ElementTree

import pytest

from pruneinit.errors import InputError
from pruneinit.report.charts import Bar, Series, bar_chart, line_chart
from pruneinit.report.maps import map_chart
from pruneinit.report.standalone import standalone

LINES = line_chart([Series("a", [(1, 1.0), (2, 3.0)])], title="Lines", x_label="layer", y_label="q")
BARS = bar_chart([Bar("a", 0.0, "0 %", "")], title="Bars")
MAP = map_chart([[1.0, -1.0]], x=[0, 1], y=[0], title="Map", x_label="x", y_label="y", value_label="v")


@pytest.mark.parametrize("svg", [LINES, BARS, MAP], ids=["lines", "bars", "map"])
def test_a_standalone_drawing_needs_no_page(svg):
    text = standalone(svg)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("aria-label") == ElementTree.fromstring(svg).get("aria-label")
    style = root.find("{*}style").text
    assert "var(" not in style
    used = {name for node in root.iter() for name in node.get("class", "").split()}
    assert used - set(re.findall(r"\.([\w-]+)", style)) <= {"label"}  # which has no look of its own
    x, y, width, height = root.get("viewBox").split()
    ground = root.find("{*}rect")
    assert [ground.get(name) for name in ("x", "y", "width", "height")] == [x, y, width, height]
    assert ground.get("fill") == "#fbfaf7"
    assert "url(" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_what_was_drawn_is_still_there():
    inner = LINES.split(">", 1)[1]
    assert inner.strip() in standalone(LINES)


@pytest.mark.parametrize("text", ["", "<p>no drawing</p>", standalone(BARS)], ids=["nothing", "a page", "twice"])
def test_only_drawings_are_taken(text):
    with pytest.raises(InputError, match="expected a drawing"):
        standalone(text)
