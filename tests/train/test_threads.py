"""How loops are shared."""

import threading

import pytest
import torch

from pruneinit.train.threads import each, shares


@pytest.mark.parametrize(
    ("threads", "rows", "products", "expected"),
    [
        (1, 8, 10**9, [0, 8]),
        (2, 8, 10**9, [0, 4, 8]),
        (2, 8, 10**6, [0, 8]),
        (4, 3, 10**9, [0, 1, 2, 3]),
        (3, 8, 10**9, [0, 2, 5, 8]),
        (2, 0, 0, [0, 0]),
    ],
)
def test_shares_are_as_many_as_threads_where_it_is_worth_it(monkeypatch, threads, rows, products, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert shares(rows, products) == expected


def test_each_share_is_computed_once_and_at_the_same_time():
    seen, all_here = [], threading.Barrier(3, timeout=10)

    def compute(first, last, number):
        all_here.wait()
        seen.append((first, last, number))

    each([0, 2, 5, 8], compute)
    assert sorted(seen) == [(0, 2, 0), (2, 5, 1), (5, 8, 2)]


def test_what_one_share_raises_is_raised():
    def compute(first, last, number):
        raise ZeroDivisionError

    for found in ([0, 4], [0, 4, 8]):
        with pytest.raises(ZeroDivisionError):
            each(found, compute)
