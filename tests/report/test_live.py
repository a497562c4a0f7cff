import io

from rich.console import Console

from pruneinit.experiments.progress import Progress, RowProgress
from pruneinit.report.live import sweep_progress


def drawn(rows, whole, *, left="about 3 min left", failures=(), width=80):
    progress = Progress(tuple(rows), whole, "validation accuracy", 180.0, tuple(failures))
    console = Console(file=io.StringIO(), record=True, width=width)
    console.print(sweep_progress("depths", progress, left))
    return console.export_text().splitlines()


def row(name, done=2, failed=0, elsewhere=0, missing=1, accuracy=0.9125, seconds=12.34):
    return RowProgress(name, done, failed, elsewhere, missing, accuracy, seconds)


def test_a_line_for_each_row_one_for_all_and_a_bar():
    lines = drawn([row("ordinary"), row("edge", done=0, accuracy=None, seconds=None)], row(None, done=2, missing=2))
    found = [line.split() for line in lines]
    assert ["ordinary", "2", "1", "91.25", "%", "12.3"] in found
    assert ["edge", "0", "1", "–", "–"] in found
    assert found[-2][:3] == ["all", "2", "2"]
    assert lines[-1].startswith("depths ")
    assert lines[-1].rstrip().endswith("2 of 4, about 3 min left")


def test_failures_and_cells_elsewhere_have_columns_only_where_there_are_any():
    assert "failed" not in "\n".join(drawn([row("a")], row(None)))
    lines = drawn([row("a", failed=1, elsewhere=3)], row(None, failed=1, elsewhere=3), failures=["seed=0: OSError: x"])
    assert "failed  elsewhere  missing" in lines[1]
    assert lines[2].split() == ["a", "2", "1", "3", "1", "91.25", "%", "12.3"]
    assert lines[-1].rstrip() == "seed=0: OSError: x"


def test_every_line_fits_a_terminal_of_80_columns():
    whole = row(None, done=10**5, failed=10**5, elsewhere=10**5, missing=10**5)
    lines = drawn([row("a [red] row of a very long name " * 3), whole], whole, failures=["seed=0: " + "x" * 200])
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("…")
    assert any(line.startswith("a [red] row of a very long") for line in lines)


def test_of_very_many_rows_those_that_are_not_over_are_drawn():
    lines = drawn([*(row(f"over{n}", missing=0) for n in range(30)), *(row(f"open{n}") for n in range(30))], row(None))
    assert sum(line.startswith("open") for line in lines) == 20
    assert not any(line.startswith("over") for line in lines)
    assert any(line.startswith("all 60 rows") for line in lines)


def test_before_the_first_cell_is_over_nothing_is_said_of_the_time():
    assert drawn([row(None)], row(None), left="")[-1].rstrip().endswith("2 of 3")
