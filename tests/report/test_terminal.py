import io

import pytest
from rich.console import Console

from pruneinit.report import Layer, Stage, layer_table, moments_table, read_run, result_table


def show(table, width=140):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


LAYERS = [
    Layer("fc1.weight", "linear", (100, 784), 78_400, 784),
    Layer("fc2.weight", "linear", (100, 100), 10_000, 0),
    Layer("fc3.weight", "linear", (10, 100), 1_000, 500),
]


def test_layers_with_counts_bars_and_the_empty_one_marked():
    lines = {line.split("│")[1].strip(): line for line in show(layer_table(LAYERS)).splitlines() if "│" in line}
    assert "100×784" in lines["fc1.weight"]
    assert "78,400" in lines["fc1.weight"]
    assert "1 %" in lines["fc1.weight"]
    assert lines["fc3.weight"].count("█") == 20
    assert 0 < lines["fc1.weight"].count("▍") <= 1
    assert ["empty" in lines[layer.name] for layer in LAYERS] == [False, True, False]
    assert "89,400" in lines["3 layers"]
    assert "1,284" in lines["3 layers"]


@pytest.mark.parametrize("layers", [[], [Layer("a", "linear", (2, 2), 4, 0)]], ids=["none", "all empty"])
def test_nothing_left_is_no_trouble(layers):
    assert f"{len(layers)} layers" in show(layer_table(layers))


def test_results(whole_run, empty_layer_run_of, broken_off):
    runs = [
        ("whole", read_run(whole_run)),
        ("holed", read_run(empty_layer_run_of("holed"))),
        ("cut", read_run(broken_off)),
    ]
    lines = {line.split("│")[1].strip(): line for line in show(result_table(runs)).splitlines() if "│" in line}
    assert all(text in lines["whole"] for text in ("finished", "97.24 %", "98.00 % (2)", "20 %", "0 of 3"))
    assert "1 of 3" in lines["holed"]
    assert all(text in lines["cut"] for text in ("unfinished", "50.00 %"))
    assert "picked on test data" in show(result_table(runs))


def test_a_run_that_has_not_begun(just_begun):
    assert "not trained yet" in show(result_table([("begun", read_run(just_begun))]))


def test_moments_by_layer_and_stage():
    stages = [Stage("dense", (("a", 0.5), ("b", None))), Stage("pruned", (("a", 0.0), ("c", 1e-12)))]
    lines = {line.split("│")[1].strip(): line for line in show(moments_table(stages)).splitlines() if "│" in line}
    assert [cell.strip() for cell in lines["a"].split("│")[2:4]] == ["0.5", "0"]
    assert [cell.strip() for cell in lines["b"].split("│")[2:4]] == ["not finite", "–"]
    assert [cell.strip() for cell in lines["c"].split("│")[2:4]] == ["–", "1e-12"]


def test_names_are_no_markup():
    text = "[red]name[/nothing]"
    assert text in show(layer_table([Layer(text, "linear", (1,), 1, 1)], title=text))
    assert show(layer_table([], title=text)).startswith(text)
    assert show(moments_table([Stage(text, ((text, 1.0),))])).count(text) == 2


def test_nothing_is_printed(capsys, whole_run):
    layer_table(LAYERS)
    result_table([("a", read_run(whole_run))])
    moments_table(read_run(whole_run).stages)
    assert capsys.readouterr() == ("", "")
