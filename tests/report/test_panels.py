"""The small pictures: where points, bands and ticks lie."""

import re
import xml.etree.ElementTree as ET

import pytest

from pruneinit.report.panels import HEIGHT, WIDTH, Axes, Curve, Mark, at_depth, at_sparsity, panel, sample

ACCURACY = Axes("removed", "accuracy", at_sparsity)


def drawn(*curves, of=ACCURACY):
    return ET.fromstring(panel(curves, of, "a picture"))


def path(group, kind):
    return next((one.get("d") for one in group.iter("path") if kind in one.get("class").split()), None)


def numbers(text):
    return [float(number) for number in re.findall(r"-?[\d.]+", text)]


def test_a_curve_is_a_group_with_its_tags_band_line_and_hints():
    marks = [Mark(0.9, 90, (80, 100), "first"), Mark(0.99, 80, (70, 90), "second")]
    (group,) = drawn(Curve("a & b", 1, "d0 l1", marks)).iter("g")
    assert group.get("data-show") == "d0 l1"
    assert [title.text for title in group.iter("title")] == ["first", "second"]
    x, y, x2, y2 = numbers(path(group, "line"))
    assert x < x2 <= WIDTH
    assert y2 - y == pytest.approx(HEIGHT / 3, abs=0.2)  # from 70 to 100 %
    band = numbers(path(group, "band"))
    assert band[::2] == [x, x2, x2, x]
    third = HEIGHT / 3
    assert band[1::2] == pytest.approx([y - third, y2 - third, y2 + third, y + third], abs=0.3)


def test_a_single_interval_is_a_stroke():
    (group,) = drawn(Curve("a", 0, "l0", [Mark(0.9, 90, (85, 95))])).iter("g")
    assert path(group, "band") is None
    assert re.fullmatch(r"M[\d.]+ [\d.]+V[\d.]+", path(group, "line"))


def test_points_without_an_interval_have_no_band():
    (group,) = drawn(Curve("a", 0, "l0", [Mark(0.5, 90), Mark(0.9, 80)])).iter("g")
    assert path(group, "band") is None


def test_a_level_curve_runs_across_the_others():
    curves = Curve("a", 0, "l0", [Mark(0.9, 90), Mark(0.99, 80)]), Curve("dense", 1, "l1", [Mark(0, 95)], level=True)
    pruned, dense = drawn(*curves).iter("g")
    (x, _, x2, _), (left, y, right, y2) = (numbers(path(group, "line")) for group in (pruned, dense))
    assert (left, right) == (x, x2)
    assert y == y2


def test_equal_steps_divide_what_is_left_by_equal_factors():
    places = [at_sparsity(sparsity)[0] for sparsity in (0, 0.9, 0.99, 0.999)]
    assert places == pytest.approx([0, 1, 2, 3])


def test_each_value_has_a_tick_and_labels_keep_apart():
    marks = [Mark(sparsity, 90) for sparsity in (0.5, 0.9, 0.9001, 0.99)]
    texts = [text.text for text in drawn(Curve("a", 0, "l0", marks)).iter("text")]
    assert {"50", "90", "99"} < set(texts)
    assert "90.01" not in texts


def test_an_empty_layer_is_a_marker_on_a_line_of_its_own():
    marks = [Mark(1, 10), Mark(2, 0), Mark(3, 20)]
    axes = Axes("layer", "kept", names=("first", "<second>", "third"), log=True)
    picture = drawn(Curve("a", 0, "l0", marks), of=axes)
    (group,) = picture.iter("g")
    marked = numbers(path(group, "mark").split("M")[2].split("m")[0])
    assert marked[1] == 26 + HEIGHT
    assert [title.text for title in picture.iter("title")] == ["layer 1: first", "layer 2: <second>", "layer 3: third"]


@pytest.mark.parametrize("values", [[(0.9, 50.0)], [(0.0, 0.0)], [(0.5, 100.0), (0.9999, 0.0)]])
def test_whatever_there_is_is_drawn_within_the_picture(values):
    (group,) = drawn(Curve("a", 0, "l0", [Mark(x, y) for x, y in values])).iter("g")
    for place in path(group, "mark").split("M")[1:]:
        x, y = numbers(place.split("m")[0])
        assert 0 < x < WIDTH
        assert 0 < y <= 26 + HEIGHT


def test_depths_lie_evenly():
    assert at_depth(30) == (30, "30")


def test_a_sample_for_the_legend():
    assert ET.fromstring(sample(3)).find("path").get("class") == "line c3"
