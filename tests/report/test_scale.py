import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneinit.report.scale import linear_scale, log_scale

FINITE = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=5e-324, allow_infinity=False)


@settings(deadline=None, max_examples=200)
@given(st.lists(FINITE, max_size=6), st.booleans())
def test_linear_places_and_ticks_are_on_the_axis(values, whole):
    scale = linear_scale(values, whole=whole)
    places = [scale.place(value) for value in values] + [place for place, _ in scale.ticks]
    assert all(0 <= place <= 1 for place in places)
    assert len(scale.ticks) <= 12
    assert [scale.place(value) for value in sorted(values)] == sorted(scale.place(value) for value in values)


@settings(deadline=None, max_examples=200)
@given(st.lists(POSITIVE, max_size=6))
def test_log_places_and_ticks_are_on_the_axis(values):
    scale = log_scale(values)
    assert all(0 <= scale.place(value) <= 1 for value in values)
    assert all(0 <= place <= 1 for place, _ in scale.ticks)
    assert 1 <= len(scale.ticks) <= 8


@pytest.mark.parametrize(
    "values, labels",
    [
        ([0, 100], ["0", "20", "40", "60", "80", "100"]),
        ([0.0, 0.3], ["0", "0.1", "0.2", "0.3"]),
        ([-1, 1], ["-1", "-0.5", "0", "0.5", "1"]),
        ([7, 7], ["6.5", "7", "7.5"]),
    ],
    ids=["percent", "tenths", "both signs", "constant"],
)
def test_linear_ticks(values, labels):
    assert [label for _, label in linear_scale(values).ticks] == labels


def test_whole_ticks_never_split_an_epoch():
    assert [label for _, label in linear_scale([1, 3], whole=True, about=10).ticks] == ["1", "2", "3"]


def test_equal_decades_have_equal_lengths():
    scale = log_scale([1e-6, 1.0])
    assert scale.place(1e-4) - scale.place(1e-6) == pytest.approx(scale.place(1.0) - scale.place(1e-2))
    assert math.isclose(scale.place(1e-3), 0.5)


def test_nearly_equal_values_look_nearly_equal():
    scale = log_scale([0.50, 0.51])
    assert scale.place(0.51) - scale.place(0.50) < 0.02


@pytest.mark.parametrize(
    "values, labels",
    [
        ([0.01, 1], ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]),
        ([1e-12, 1e-10], ["10⁻¹²", "2·10⁻¹²", "5·10⁻¹²", "10⁻¹¹", "2·10⁻¹¹", "5·10⁻¹¹", "10⁻¹⁰"]),
        ([1, 1e17], ["1", "1000", "10⁶", "10⁹", "10¹²", "10¹⁵"]),
    ],
    ids=["two decades", "small", "blown up"],
)
def test_log_ticks(values, labels):
    shown = [label for _, label in log_scale(values).ticks]
    assert shown == labels
