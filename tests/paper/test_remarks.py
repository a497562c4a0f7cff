from dataclasses import replace

from pruneinit.paper.cifar import sanity
from pruneinit.paper.densities import Curve, remarks_of, table_of
from pruneinit.paper.entries import Entry, Spread
from pruneinit.paper.ffnn_grid import remarks, summary
from pruneinit.paper.published import Reported
from pruneinit.paper.remarks import agreement, best_rows, differences


def entry(row, sparsity, mean, paper=None, **axes):
    reported = Reported(row, "cifar10", "resnet32", "sparsity", sparsity, paper, None, "made up") if paper else None
    last = Spread(mean, None)
    return Entry(row, {"sparsity": sparsity, **axes}, "cifar10", "resnet32", 3, 3, None, last, last, reported)


FOUND = [
    entry("SNIP", 0.9, 90.0, 92.0), entry("GraSP", 0.9, 91.0, 91.0), entry("SynFlow", 0.9, 89.0, 90.0),
    entry("SNIP", 0.98, 80.0, 88.0), entry("GraSP", 0.98, 85.0, 89.0),
]  # fmt: skip


def test_the_median_and_the_largest_difference_are_told():
    (said,) = differences(FOUND)
    assert said == (
        "Of 5 entries with a published number, ours differ by -2.00 in the median; most at SNIP, sparsity 0.98, "
        "resnet32 on cifar10: -8.00."
    )
    assert differences([entry("SNIP", 0.9, 90.0)]) == ["The paper's numbers of this table are not known to us."]


def test_published_numbers_beside_which_ours_are_missing_are_not_called_unknown():
    (said,) = differences([replace(entry("SNIP", 0.9, 90.0, 92.0), last=None, best=None)])
    assert said.startswith("Nothing of ours beside a published number yet")


def test_pairs_of_rows_are_compared_at_the_same_place_alone():
    # At 0.9: SNIP over GraSP in the paper, not here; the other two pairs as in the paper. At 0.98: GraSP over SNIP.
    assert agreement(FOUND) == ["Of 4 pairs of rows at the same place, 3 are in the order that the paper has them in."]
    assert agreement(FOUND[:1]) == []


def test_the_best_row_of_each_place_is_named():
    assert best_rows(FOUND) == [
        "Best of resnet32 on cifar10: GraSP at sparsity 0.9 (91.00 %), GraSP at sparsity 0.98 (85.00 %)."
    ]


def test_no_row_is_called_best_where_several_have_the_highest_accuracy():
    (said,) = best_rows([entry("SNIP", 0.9, 10.0), entry("GraSP", 0.9, 9.0), entry("SynFlow", 0.9, 10.0)])
    assert said == "Best of resnet32 on cifar10: no single row at sparsity 0.9 (10.00 %)."


def test_what_spoiling_the_masks_costs_is_a_mean_over_places():
    found = [*FOUND, entry("SNIP, shuffled", 0.9, 88.0), entry("SNIP, shuffled", 0.98, 81.0)]
    assert sanity(found) == ["SNIP shuffled is -0.50 from SNIP itself, the mean over 2 places."]


def test_places_that_learn_are_counted_where_all_rows_were_measured():
    rows = [f"{way}, SBP{end}" for way, end in
            (("ordered", ""), ("edge", ""), ("edge", ", rescaled"), ("edge", ", calibrated"))]  # fmt: skip
    found = [entry(row, s, 97.0 if at + (s < 0.9) > 1 else 10.0, depth=10, activation="tanh")
             for at, row in enumerate(rows) for s in (0.5, 0.9)]  # fmt: skip
    found.append(entry("ordered, SBP", 0.98, 97.0, depth=10, activation="tanh"))  # the others are not there yet
    (said,) = remarks(found)
    assert said.endswith(
        "of 2 places that all rows have, these learn: 0 'ordered, SBP', 1 'edge, SBP', 2 'edge, SBP, rescaled', "
        "2 'edge, SBP, calibrated'."
    )
    assert "| edge, SBP | tanh | 1 of 2 | 53.5 | depth 10, sparsity 0.5 |" in summary(found)


def test_moments_are_compared_among_layers_of_equal_size():
    curve = Curve("a", 2, ["in", "b", "c", "d", "out"], [5, 9, 9, 9, 2], [[0.5, 1], [0, 0.5], [1, 1], [1, 1], [1, 1]],
                  [1e9, 2.0, 8.0, 4.0, 1e-9])  # fmt: skip
    assert curve.spread == 4.0
    assert curve.empty == 0.5
    assert curve.means == [0.75, 0.25, 1.0, 1.0, 1.0]
    assert "| a | 5 | 0.5 | 25 % (b) | 100 % (c) | 4 | 2 |" in table_of([curve])
    assert remarks_of([curve]) == []
    (said,) = remarks_of([replace(curve, row="ResNet32"), replace(curve, row="Stable ResNet32")])
    assert said == (
        "The largest m^l over the smallest, among layers of equal size: 4 in 'ResNet32', 4 in 'Stable ResNet32'. "
        "Layers that SBP leaves nothing of: 0.5, 0.5."
    )
    assert Curve("a", 1, ["b"] * 3, [9] * 3, [[1]] * 3, [1.0, None, 2.0]).spread is None
