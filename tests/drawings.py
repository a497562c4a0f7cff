"""What tests of drawings look at: the elements of an SVG, and whether they are inside of it."""

import math
import re
from xml.etree import ElementTree


def elements(svg, kind):
    return [node for node in ElementTree.fromstring(svg).iter() if node.get("class", "").split(" ")[:1] == [kind]]


def coordinates(svg):
    """Every absolute coordinate of the drawing."""
    for node in ElementTree.fromstring(svg).iter():
        if node.tag in ("text", "rect"):
            yield float(node.get("x")), float(node.get("y"))
        if node.tag == "rect":
            yield float(node.get("x")) + float(node.get("width")), float(node.get("y")) + float(node.get("height"))
        if node.tag == "path":
            for x, y in re.findall(r"[ML](\S+?) ([-\d.]+|nan|inf)", node.get("d")):
                yield float(x), float(y)
            for x in re.findall(r"H([-\d.]+|nan|inf)", node.get("d")):
                yield float(x), 0.0
            for y in re.findall(r"V([-\d.]+|nan|inf)", node.get("d")):
                yield 0.0, float(y)


def assert_inside(svg):
    _, _, width, height = map(float, ElementTree.fromstring(svg).get("viewBox").split())
    for x, y in coordinates(svg):
        assert math.isfinite(x)
        assert math.isfinite(y)
        assert 0 <= x <= width + 0.1
        assert 0 <= y <= height + 0.1
