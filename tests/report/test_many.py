"""The page over many results, as its markup says it."""

import base64
import hashlib
import html
import re

import pytest

from outcomes import outcome
from pruneinit.report import Published, write_results


def page_of(tmp_path, outcomes, **more):
    page = write_results(outcomes, tmp_path / "results.html", "Results", **more).read_text(encoding="utf-8")
    assert "undefined" not in page
    return page


def text(markup):
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", markup)).split())


def rows(page):
    return [text(row) for row in re.findall(r"<tr data-show.*?</tr>", page, re.DOTALL)]


@pytest.fixture
def several():
    """Two data sets and depths, two rows, two criteria, three seeds."""
    return [
        outcome(seed, row=row, test=0.9 + seed / 100, settings={"data": data, "depth": depth, "criterion": criterion})
        for data in ("digits", "mnist") for depth in (10, 30) for seed in range(3)
        for row, criterion in (("one", "snip"), ("two", "grasp"))
    ]  # fmt: skip


def test_each_row_has_its_mean_deviation_and_counts(tmp_path):
    outcomes = [
        outcome(0, test=0.90, empty=("fc1.weight",)),
        outcome(1, test=0.92, diverged=True),
        outcome(2, test=0.94, best_test_accuracy=0.96),
        outcome(3, why="RuntimeError: out of memory"),
    ]
    (row,) = rows(page_of(tmp_path, outcomes))
    assert row == "edge snip, edge init 90 % 92.00 % ± 2.00 3 1 1 0 to 1 of 2 92.67 %"


def test_one_seed_has_no_deviation_and_none_no_accuracy(tmp_path):
    one, none = rows(page_of(tmp_path, [outcome(row="a"), outcome(row="b", why="E: e", densities={})]))
    assert one.startswith("a snip, edge init 90 % 90.00 % 1 0 0 0 of 2")
    assert none.startswith("b snip, edge init 90 % – 0 1 0 –")


def test_published_numbers_are_columns_where_there_are_some(tmp_path):
    paper = Published("Author (2020)", "edge", "digits", "mlp", 0.9, 0.915, "table 1")
    page = page_of(tmp_path, [outcome(test=0.9), outcome(test=0.9, settings={"data": "mnist"})], published=[paper])
    with_paper, without = rows(page)
    assert "90.00 % 91.50 % −1.50 1 0 0" in with_paper
    assert "90.00 % 1 0 0" in without
    assert page.count('<th class="num">published</th>') == 1
    assert 'title="Author (2020), table 1"' in page


def test_a_choice_of_the_learning_rate_is_told(tmp_path):
    rates = [outcome(lr=0.1, validation=0.5, test=0.99), outcome(lr=0.01, validation=0.6, test=0.7)]
    page = page_of(tmp_path, rates)
    assert "best mean validation accuracy over seeds stands for all" in text(page)
    assert "1 of 2 results are shown so" in text(page)
    (row,) = rows(page)
    assert "0.01 of 0.01, 0.1 70.00 %" in row
    assert "validation" not in text(page_of(tmp_path, rates[:1]).split("<form")[0])


def test_bands_and_last_epoch_are_labelled(tmp_path):
    page = text(page_of(tmp_path, [outcome(seed) for seed in range(3)]))
    assert "95 % t-interval of that mean" in page
    assert "after the last epoch" in page
    assert "best epoch, by test data" in page


def test_a_picture_for_each_network_each_depth_and_each_densities(tmp_path, several):
    page = page_of(tmp_path, several)
    titles = re.findall(r"<figure data-frame>\s*<h3>(.*?)</h3>", page)
    assert titles == [
        *(f"{data}: mlp, depth {depth}, width 64" for data in ("digits", "mnist") for depth in (10, 30)),
        *(f"{data}: mlp, width 64, 90 % removed" for data in ("digits", "mnist")),
        *(f"{data}: mlp, depth {depth}, width 64, 90 % removed" for data in ("digits", "mnist") for depth in (10, 30)),
    ]


def test_without_several_depths_there_is_no_picture_of_them(tmp_path):
    assert "How deep" not in page_of(tmp_path, [outcome(), outcome(row="b", settings={"depth": 30})])


def test_all_that_is_shown_is_tagged_with_what_filters_offer(tmp_path, several):
    page = page_of(tmp_path, several)
    offered = dict(re.findall(r'<input type="checkbox" value="(\w+)" checked autocomplete="off"> (.*?)</label>', page))
    assert offered == {
        "d0": "digits", "d1": "mnist", "n0": "mlp, depth 10, width 64", "n1": "mlp, depth 30, width 64",
        "c0": "grasp", "c1": "snip", "l0": "one", "l1": "two",
    }  # fmt: skip
    shown = re.findall(r'<(\w+) data-show="(.*?)"', page)
    tags = {tuple(sorted(words.split())) for _, words in shown}
    one = {("c1", f"d{d}", "l0", n) for d in (0, 1) for n in ("n0", "n1", "n0|n1")}
    two = {("c0", f"d{d}", "l1", n) for d in (0, 1) for n in ("n0", "n1", "n0|n1")}
    assert tags == one | two
    kinds = [kind for kind, _ in shown]
    assert (kinds.count("g"), kinds.count("li"), kinds.count("tr")) == (20, 20, 8)


def test_what_leaves_no_choice_is_not_offered(tmp_path):
    assert 'type="checkbox"' not in page_of(tmp_path, [outcome()])


def test_without_javascript_nothing_but_the_filters_is_hidden(tmp_path, several):
    page = page_of(tmp_path, several).split("<script>")[0].split("<body>")[1]
    assert re.findall(r"<[^>]*\shidden[^>]*>", page) == ['<form id="filters" hidden>']
    assert "<details" not in page


def test_the_policy_of_the_page_allows_its_script_and_nothing_else(tmp_path):
    page = page_of(tmp_path, [outcome()])
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'\"" in page
    assert not re.search(r"https?://|@import|url\(", page)


def test_failures_versions_and_what_is_left_out_are_told(tmp_path):
    outcomes = [*(outcome(seed, why="OSError: full") for seed in range(5)), outcome(5), outcome(6, version="old")]
    page = text(page_of(tmp_path, outcomes, sources={"a": 3, "b": 4}, left_out={"b": 2}, unread=["begun"]))
    assert "5 of 7 results failed" in page
    assert "OSError: full 5 results edge on digits, mlp of depth 10, 90 %, seed 0" in page
    assert "and 2 more" in page
    assert "2 results of another version of pruneinit, or altered, left out : 2 in b" in page
    assert "Several versions of the code" in page
    assert "pruneinit 1 (abc), torch 2 6 old 1" in page
    assert "not shown: begun" in page


def test_what_is_undecided_is_told(tmp_path):
    page = text(page_of(tmp_path, [outcome(0, lr=0.1), outcome(1, lr=0.01)]))
    assert "Not shown yet : digits, mlp, depth 10, width 64, edge, 90 % removed" in page


def test_names_that_are_markup_stay_text(tmp_path):
    bad = "</svg><script>alert(1)</script>"
    outcomes = [
        outcome(row=bad, settings={"data": f"folder:{bad}"}, densities={bad: 0.5}),
        outcome(1, row=bad, why=bad),
    ]
    page = page_of(tmp_path, outcomes, sources={bad: 1}, left_out={bad: 1}, unread=[bad])
    assert "alert(1)</script>" not in page


def test_a_thousand_results_are_less_than_two_megabytes(tmp_path):
    densities = {f"stages.{i // 18}.blocks.{i}.conv.weight": 0.123456 / (i + 1) for i in range(54)}
    outcomes = [
        outcome(seed, row=f"row {row}", settings={"data": data, "sparsity": sparsity}, densities=densities)
        for data in ("digits", "mnist") for row in range(10) for sparsity in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995,
        0.998, 0.999, 0.9995) for seed in range(5)
    ]  # fmt: skip
    assert len(outcomes) == 1000
    assert len(page_of(tmp_path, outcomes).encode()) < 2_000_000
