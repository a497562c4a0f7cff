"""The pages in a real browser: they load nothing, and fit on a phone."""

import html
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from outcomes import outcome
from pruneinit.report import find_edges, write_comparison, write_edges, write_index, write_report, write_results

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
COUNT = "<script>let refused = 0; addEventListener('securitypolicyviolation', () => refused++)</script>"
MEASURE = """<script>addEventListener("load", () => setTimeout(() => {
const root = document.documentElement;
parent.document.title = [root.scrollWidth, root.clientWidth, refused].join(" ");
}, 50))</script>"""
FILTER = """<script>
const seen = () => [...document.querySelectorAll("figure, tr[data-show], g[data-show], li[data-show]")]
  .filter((part) => part.getBoundingClientRect().width > 0).length;
const box = (name) => [...document.querySelectorAll("label")].find((label) => label.textContent.trim() === name);
const counts = [seen()];
for (const name of ["mnist", "snip", "two"]) { box(name).click(); counts.push(seen()); }
document.querySelector("#filters button").click();
setTimeout(() => { document.title = [...counts, seen()].join(" "); }, 20);
</script>"""
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
]


@pytest.fixture
def browse(tmp_path):
    if BROWSER is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI needs Chromium for the tests of the pages")
        pytest.skip("no Chromium or Chrome on the PATH")

    def run(page: Path, *options: str) -> str:
        command = [BROWSER, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return run


def with_scripts(page: str, first: str) -> str:
    """The text of a page whose policy allows any script within it, with one in its head."""
    policy = rf"""content="{POLICY}(; script-src 'sha256-[^']+')?">"""
    copy, count = re.subn(policy, lambda _: f"content=\"{POLICY}; script-src 'unsafe-inline'\">{first}", page)
    assert count == 1
    return copy


def measured_on_a_phone(page: Path, name: str, more: str = "") -> Path:
    """A page with a 400 pixels wide frame that holds a copy of `page`, which measures itself.

    A frame, since browsers do not make their windows that narrow. The copy may run our script; whatever else it tries
    to load, from disk or network, its policy refuses, and each refusal is counted.
    """
    original = page.read_text(encoding="utf-8")
    copy = with_scripts(original, COUNT)
    copy = copy.replace("<details>", "<details open>").replace("</main>", f"{more}</main>{MEASURE}")
    outer = page.with_name(name)
    frame = f'<iframe width="400" height="800" style="border:0" srcdoc="{html.escape(copy)}"></iframe>'
    outer.write_text(f"<!doctype html><title>0 0 0</title>{frame}", encoding="utf-8")
    return outer


def title(dom: str) -> list[int]:
    return [int(number) for number in re.search(r"<title>(.*?)</title>", dom).group(1).split()]


def pages(folder: Path) -> list[Path]:
    long = [("A label that is much longer than a phone is wide, as labels sometimes are", folder), ("B", folder)]
    return [
        write_report(folder),
        write_comparison(long, folder / "c.html", "Compared"),
        write_index(folder.parent),
        write_edges(find_edges(["gelu", "relu", "softplus"], []), folder / "e.html"),
        many_results(folder),
    ]


def many_results(folder: Path) -> Path:
    """A page over results with long names, two data sets, two depths and two criteria."""
    label = "a label that is much longer than a phone is wide, as labels sometimes are, "
    outcomes = [
        outcome(seed, row=label + row, settings={"data": data, "depth": depth, "criterion": criterion})
        for data in ("digits", "mnist")
        for depth in (10, 30)
        for row, criterion in (("one", "snip"), ("two", "grasp"))
        for seed in range(3)
    ]
    return write_results(outcomes, folder / "results.html", "Results " + "x" * 80, sources={"y" * 80: 24})


def test_filters_hide_and_show(browse, tmp_path):
    page = many_results(tmp_path)
    text = page.read_text().replace("a label that is much longer than a phone is wide, as labels sometimes are, ", "")
    page.write_text(with_scripts(text, "").replace("</body>", f"{FILTER}</body>"))
    # Of either data set there are 5 figures of 2 lines each, every line with its legend, and 4 rows of tables.
    whole = 5 + 2 * 5 * 2 + 4
    assert title(browse(page, "--dump-dom")) == [2 * whole, whole, 5 + 5 * 2 + 2, 0, 2 * whole]


def test_the_script_of_the_page_runs_under_its_own_policy(browse, tmp_path):
    assert '<form id="filters">' in browse(many_results(tmp_path), "--dump-dom")


def test_pages_fit_on_a_phone_and_load_nothing(browse, deep_run):
    for number, page in enumerate(pages(deep_run)):
        dom = browse(measured_on_a_phone(page, f"phone{number}.html"), "--dump-dom")
        assert title(dom) == [400, 400, 0], page.name


def test_the_measurement_sees_a_page_that_is_too_wide_and_loads_something(browse, deep_run):
    more = '<div style="width:700px">wide</div><img src="missing.png"><link rel="stylesheet" href="http://a.invalid/x">'
    width, seen, refused = title(browse(measured_on_a_phone(write_report(deep_run), "wide.html", more), "--dump-dom"))
    assert width >= 700
    assert seen == 400
    assert refused == 2


def test_the_report_as_the_browser_sees_it(browse, deep_run, tmp_path):
    picture = tmp_path / "page.png"
    dom = browse(write_report(deep_run), "--dump-dom", f"--screenshot={picture}", "--window-size=1200,1600")
    headings = [re.sub("<.*?>", "", text) for text in re.findall(r"<h[123]>(.*?)</h[123]>", dom)]
    assert headings[0].startswith("97.2 % test accuracy")
    assert {"How much of each layer was kept", "Does the signal get through?", "Accuracy", "Loss", "Recipe"} < set(
        headings
    )
    assert dom.count("<svg") == 8
    assert struct.unpack(">2I", picture.read_bytes()[16:24]) == (1200, 1600)
    assert picture.stat().st_size > 30_000  # a blank page has about a tenth
