"""Numbers of papers beside the results that repeat them."""

import pytest

from outcomes import outcome
from pruneinit.report import Published
from pruneinit.report.collect import collect
from pruneinit.report.published import beside

PAPER = Published("Author (2020)", "edge", "digits", "mlp, depth 10, width 64", 0.9, 0.93, "table 1")


def found(**changes):
    (network,) = collect([outcome()])
    (line,) = network.lines
    return beside([Published(**{**vars(PAPER), **changes})], network, line, line.points[0])


def test_a_number_stands_beside_the_result_of_its_row_data_network_and_sparsity():
    assert found() == [PAPER]
    assert found(network="mlp")
    assert found(sparsity=0.9 + 1e-12)


@pytest.mark.parametrize("change", [
    {"row": "other"}, {"data": "mnist"}, {"network": "mlp, depth 20, width 64"}, {"sparsity": 0.91},
])  # fmt: skip
def test_and_beside_no_other(change):
    assert not found(**change)
