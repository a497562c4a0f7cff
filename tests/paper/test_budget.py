"""How long a command may work."""

import math

import pytest

from pruneinit.errors import InputError
from pruneinit.paper import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1.5h", 5400),
        ("20 min", 1200),
        ("2h30min", 9000),
        ("1h 15min", 4500),
        ("1d12h", 129_600),
        ("1d 2h 3min 4s", 93_784),
        (" 1d4s ", 86_404),
        ("0", 0),
        ("unlimited", math.inf),
    ],
)
def test_a_budget_is_read_in_seconds(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["min", "-3s", "2 hours", "", " ", "1e3s", "30min2h", "1h1h", "2h30", "1h,15min"])
def test_a_budget_that_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="budget must be a time as 90s, 20min or 2h30min, the larger unit first"):
        parse_budget(text)


def test_a_number_without_a_unit_is_refused_with_the_likely_one():
    with pytest.raises(InputError, match="got '20'; did you mean 20min"):
        parse_budget("20")


def test_a_budget_says_what_is_left_of_it():
    now = [100.0]
    budget = Budget(60, clock=lambda: now[0])
    assert (budget.left(), budget.over()) == (60, False)
    now[0] = 165.0
    assert (budget.left(), budget.over()) == (-5, True)
    assert Budget(math.inf, clock=lambda: now[0]).left() == math.inf
