import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from pruneinit.errors import InputError
from pruneinit.report import write_comparison, write_index, write_report


class Page(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    @property
    def drawings(self):
        return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", self.html, re.DOTALL)]


RUNS = ["whole_run", "empty_layer_run", "hostile_run", "just_begun", "broken_off"]


@pytest.mark.parametrize("name", RUNS)
def test_a_page_has_no_script_and_loads_nothing(request, name):
    folder = request.getfixturevalue(name)
    written = [
        write_report(folder),
        write_comparison([("<script>", folder)], folder / "c.html", "<script>", "<script>"),
        write_index(folder.parent),
    ]
    for path in written:
        page = Page(path)
        assert not {"script", "iframe", "img", "object", "embed", "form", "base"} & set(page.tags)
        addresses = [(tag, value) for tag, key, value in page.attributes if key in ("src", "href", "srcset", "action")]
        assert all(tag == "a" or value == "data:," for tag, value in addresses)
        assert not any(key.startswith("on") for _, key, _ in page.attributes)
        assert "url(" not in page.html
        assert "@import" not in page.html
        assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes


@pytest.mark.parametrize("name", RUNS)
def test_every_drawing_is_well_formed(request, name):
    page = Page(write_report(request.getfixturevalue(name)))
    assert len(page.drawings) == {"just_begun": 0}.get(name, 8)
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.drawings)


def test_the_report_tells_the_result_first(whole_run):
    path = write_report(whole_run)
    page = Page(path)
    assert path == whole_run / "report.html"
    heading = re.search(r"<h1>(.*?)</h1>", page.html).group(1)
    assert re.sub("<.*?>", "", heading) == "97.2 % test accuracy with 20 % of the weights (6,000 of 30,000)"
    assert page.text.index("last epoch") < page.text.index("97.24 %") < page.text.index("best epoch")
    assert (
        page.text.index("best epoch") < page.text.index("98.00 %") < page.text.index("picked on test data, for orient")
    )
    titles = ["How much of each layer was kept", "Does the signal get through?", "Training", "Recipe", "In numbers"]
    places = [page.text.index(title, page.text.index("Empty layers")) for title in titles]
    assert places == sorted(places)
    assert "1.75" in page.text


def test_the_recipe_is_shown_whole(whole_run):
    page = Page(write_report(whole_run))
    for name, value in [
        ("model.activation", "tanh"),
        ("training.schedule", "[10, 15]"),
        ("seed", "0"),
        ("note", "none"),
    ]:
        assert re.search(rf"{re.escape(name)}\s*{re.escape(value)}", page.text), name


def test_every_text_is_escaped(hostile_run):
    page = Page(write_report(hostile_run))
    assert "<script>alert(1)" in page.text  # as text, not as a tag
    assert "<script>alert(2)" in page.text
    assert "<script>key" in page.text
    assert "<script" not in page.html


def test_halves_of_surrogate_pairs_do_not_stop_a_report(whole_run):
    metrics = whole_run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("fc1.weight", "fc\\ud800"))
    assert "fc?" in Page(write_report(whole_run)).text


def test_an_empty_layer_is_named(empty_layer_run):
    page = Page(write_report(empty_layer_run))
    assert "1 of 3 layers is empty: no signal passes" in page.text
    assert "pruned: zero after 2 layers" in page.text


def test_an_unfinished_run_says_so(broken_off):
    assert "The run is unfinished: 1 epoch so far" in Page(write_report(broken_off)).text


def test_a_run_without_any_event_still_has_its_recipe(just_begun):
    page = Page(write_report(just_begun))
    assert "Not trained yet" in page.text
    assert "model.depth" in page.text


def test_values_that_are_not_finite_are_counted(write_run, finished_events):
    events = [
        e | {"layers": [{"name": "a", "value": None}]} if e.get("stage") == "pruned" else e for e in finished_events
    ]
    events = [e | {"train_loss": None} if e.get("epoch") == 2 else e for e in events]
    page = Page(write_report(write_run(events)))
    assert "pruned: 1 value not finite, left out." in page.text
    assert "The training loss was not finite in 1 epoch, left out here." in page.text


def test_a_dense_run_has_no_densities(write_run, finished_events):
    page = Page(write_report(write_run([e for e in finished_events if e["event"] != "prune"])))
    assert "How much of each layer" not in page.text
    assert "none, dense run" in page.text


def test_a_report_is_written_over_an_older_one_and_leaves_no_other_file(whole_run):
    (whole_run / "report.html").write_text("old")
    write_report(whole_run)
    assert sorted(os.listdir(whole_run)) == ["metrics.jsonl", "recipe.yaml", "report.html"]
    assert "old" not in Page(whole_run / "report.html").html[:100]


def test_a_comparison_shows_every_run(tmp_path, whole_run, broken_off, just_begun, empty_layer_run_of):
    write_report(whole_run)
    runs = [("Whole", whole_run), ("Cut", broken_off), ("Begun", just_begun), ("Holed", empty_layer_run_of("a b#c"))]
    path = write_comparison(runs, tmp_path / "pages" / "all.html", "Four runs", "First.\n\nSecond.")
    page = Page(path)
    assert [page.html.count(f">{part}</p>") for part in ("First.", "Second.")] == [1, 1]
    assert [value for tag, key, value in page.attributes if (tag, key) == ("a", "href")] == ["../run/report.html"]
    table = page.text[page.text.index("What came out") : page.text.index("Which of them learn?")]
    rows = re.split(r"Whole|Cut|Begun|Holed", table)[1:]
    assert all(text in rows[0] for text in ("97.24 %", "6,000 of 30,000", "0 of 3", "finished"))
    assert all(text in rows[1] for text in ("50.00 %", "unfinished"))
    assert "not trained yet" in rows[2]
    assert "1 of 3" in rows[3]
    assert len(page.drawings) == 6
    legend = [node.text for node in page.drawings[0].iter("text") if node.get("class") == "key"]
    assert legend == ["Whole", "Cut", "Begun", "Holed"]


def test_a_comparison_uses_each_runs_last_stage(tmp_path, whole_run, empty_layer_run_of):
    runs = [("rescaled", whole_run), ("pruned", empty_layer_run_of("holed"))]
    titles = [
        t.text for svg in Page(write_comparison(runs, tmp_path / "c.html", "t")).drawings for t in svg.iter("title")
    ]
    assert "layer 3: fc3\nrescaled: 0.49\npruned: 0" in titles


def test_an_index_lists_runs_at_any_depth_and_links_to_reports(tmp_path, whole_run, write_run, finished_events):
    write_report(whole_run)
    write_report(write_run(finished_events, name="sweep/seed=1 #2"))
    write_run([], name="waiting")
    (write_run([], name="broken") / "recipe.yaml").write_text("[")
    page = Page(write_index(tmp_path))
    links = [value for tag, key, value in page.attributes if (tag, key) == ("a", "href")]
    assert links == ["run/report.html", "sweep/seed%3D1%20%232/report.html"]
    assert "4 runs" in page.text
    assert re.search(r"waiting\s+\(no report yet\)", page.text)
    assert "not valid YAML" in page.text


def rows_of(page):
    body = page.html[page.html.index("<tbody>") : page.html.index("</tbody>")]
    return [" ".join(re.sub("<.*?>", " ", row).split()) for row in body.split("<tr>")[1:]]


def test_an_index_tells_runs_apart(tmp_path, write_run, finished_events):
    flat = {"data": "digits", "model": "mlp", "criterion": "snip", "sparsity": 0.9, "seed": 0, "training": {"lr": 0.1}}
    write_run(finished_events, recipe=flat | {"training": {"lr": 0.2}}, name="b")
    write_run(finished_events, recipe=flat, name="a")
    first, second = rows_of(Page(write_index(tmp_path)))
    assert first.startswith("a (no report yet) training.lr 0.1 digits mlp snip 80 % 0 of 3 97.24 %")
    assert first.endswith("finished, 3 epochs")
    assert "training.lr 0.2" in second
    assert "seed" not in first + second


def test_an_index_puts_like_runs_together_and_the_better_ones_first(tmp_path, write_run, finished_events):
    def run(name, accuracy, kept, **recipe):
        events = [e | {"test_accuracy": accuracy} if e["event"] == "result" else e for e in finished_events]
        layers = [one | {"kept": kept} for one in next(e for e in events if e["event"] == "prune")["layers"]]
        events = [e | {"layers": layers} if e["event"] == "prune" else e for e in events]
        write_run(events, recipe={"data": "digits", "model": "mlp"} | recipe, name=name)

    run("worse", 0.5, 100)
    run("other-network", 0.9, 100, model="vcnn")
    run("better", 0.6, 100)
    run("dense", 0.4, 10_000)
    run("other-data", 0.4, 100, data="cifar10")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.yaml").write_text("[")
    order = [row.split()[0] for row in rows_of(Page(write_index(tmp_path)))]
    assert order == ["other-data", "dense", "better", "worse", "other-network", "broken"]


def test_an_index_of_equal_recipes_lists_no_differences(tmp_path, whole_run):
    assert "differs" not in re.sub("<style>.*?</style>", "", Page(write_index(tmp_path)).html, flags=re.DOTALL)


def test_a_comparison_says_what_each_way_does(tmp_path, write_run, finished_events):
    ways = {"plain": {"init": "default"}, "edge": {"init": "edge"}, "cured": {"init": "edge", "rescale": "layer"}}
    runs = [(name, write_run(finished_events, recipe=recipe, name=name)) for name, recipe in ways.items()]
    text = " ".join(Page(write_comparison(runs, tmp_path / "c.html", "t")).text.split())
    assert "plainThe weights are drawn as PyTorch draws them when a layer is made (Kaiming-uniform with a = √5)" in text
    assert "edgeThe weights are drawn from a normal distribution with the one spread" in text
    assert "curedThe same, and after pruning, what is left of each layer is multiplied by one number" in text


def test_a_comparison_of_recipes_that_do_not_say_has_no_empty_list(tmp_path, whole_run):
    assert "What was compared" not in Page(write_comparison([("a", whole_run)], tmp_path / "c.html", "t")).text


def test_an_index_of_nothing(tmp_path):
    assert "There is no run in this folder yet." in Page(write_index(tmp_path)).text


@pytest.mark.parametrize("write", [write_report, write_index])
def test_no_such_folder(tmp_path, write):
    with pytest.raises(InputError, match="no folder"):
        write(tmp_path / "nowhere")
