"""Means, deviations and intervals, against numpy and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pruneinit.report.spread import spread, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30, 101])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_quantiles_of_t_are_those_of_scipy(freedom, level):
    assert t_quantile(freedom, level) == pytest.approx(stats.t.ppf(0.5 + level / 2, freedom), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_what_values_sum_up_to(values):
    found = spread(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    if len(values) == 1:
        assert found.deviation is None
    else:
        assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if len(values) < 3:
        assert found.interval is None
    else:
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        half = stats.t.ppf(0.975, len(values) - 1) * error
        assert found.interval == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-9)


def test_of_nothing_there_is_nothing_to_say():
    assert spread([]) is None
