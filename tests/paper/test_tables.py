"""Tables of entries some of which have no number yet."""

from pruneinit.paper.entries import Entry, Spread
from pruneinit.paper.published import published
from pruneinit.paper.tables import entry_table, pivot

REPORTED = next(one for one in published("cifar") if one.row == "SNIP")


def entry(row, depth, sparsity, accuracy, reported=None):
    last = None if accuracy is None else Spread(accuracy, None)
    axes = {"depth": depth, "sparsity": sparsity}
    return Entry(row, axes, "mnist", "vcnn", 3, int(last is not None), None, last, last, reported)


def test_entries_without_any_number_are_counted_and_not_listed():
    found = [entry("edge", 10, 0.9, 95.0), entry("edge", 50, 0.9, None), entry("edge", 100, 0.9, None, REPORTED)]
    table = entry_table(found)
    assert [line.split(" | ")[1] for line in table.splitlines() if line.startswith("| edge")] == ["10", "100"]
    assert table.endswith("\n\nNot computed yet: 1 line.")
    assert "Not computed yet" not in entry_table(found[:1])


def test_without_any_number_there_is_no_table():
    assert entry_table([entry("edge", 10, 0.9, None)]) == "vcnn on mnist:\n\nNot computed yet: 1 line."


def test_a_line_of_a_pivot_with_one_number_stays():
    found = [entry("edge", 10, 0.9, 95.0), entry("edge", 10, 0.95, None)]
    found += [entry(row, 50, sparsity, None) for row in ("edge", "SBP") for sparsity in (0.9, 0.95)]
    table = pivot(found, "sparsity", "depth")
    assert "| edge | 10 | 95.00 | – |" in table.splitlines()
    assert table.endswith("\n\nNot computed yet: 2 lines.")
    assert "SBP" not in table
