import dataclasses
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


def rows(table, width=140):
    lines = [line for line in show(table, width).splitlines() if "│" in line]
    return {line.split("│")[1].strip(): line for line in lines}


def test_layers_with_counts_bars_and_the_empty_one_marked():
    lines = rows(layer_table(LAYERS))
    assert "100×784" in lines["fc1"]
    assert "78,400" in lines["fc1"]
    assert "1 %" in lines["fc1"]
    assert lines["fc3"].count("█") == 20
    assert lines["fc1"].count("▍") == 1
    assert ["empty" in lines[name] for name in ("fc1", "fc2", "fc3")] == [False, True, False]
    assert "89,400" in lines["3 layers"]
    assert "1,284" in lines["3 layers"]


def test_a_trace_of_a_layer_does_not_look_empty():
    table = layer_table([Layer("a" * 20, "linear", (1000, 1000), 10**6, 1), Layer("b", "linear", (1, 1), 1, 1)])
    for width in (140, 80):
        assert any(block in rows(table, width)["a" * 20] for block in "▏▎▍")


RESNET = [
    Layer(f"stage3.{block}.{part}.weight", "conv", (640, 640, 3, 3), 3_686_400, 25_779)
    for block in range(4)
    for part in ("conv1", "conv2", "shortcut.0")
]


@pytest.mark.parametrize(
    "width, columns",
    [(140, {"kind", "shape", "total"}), (80, {"kind", "total"}), (69, {"total"})],
    ids=["wide", "80 columns", "narrow"],
)
def test_names_are_whole_and_shapes_give_way(width, columns):
    table = layer_table(RESNET)
    assert {layer.name.removesuffix(".weight") for layer in RESNET} < set(rows(table, width))
    header = next(line for line in show(table, width).splitlines() if "layer" in line and "┃" in line)
    assert {"kind", "shape", "total"} & {cell.strip() for cell in header.split("┃")} == columns
    assert max(map(len, show(table, width).splitlines())) <= width
    assert "███" in show(table, width)


def test_a_name_that_fits_no_terminal_is_folded_and_not_cut():
    shown = show(layer_table([Layer("a" * 99, "linear", (1, 1), 1, 1)]), 60)
    assert shown.count("a") >= 99


def test_an_ending_that_not_all_names_have_is_kept():
    lines = rows(layer_table([*LAYERS, Layer("mask.weights", "linear", (1, 1), 1, 1)]))
    assert "fc1.weight" in lines
    assert "a" in rows(moments_table([Stage("dense", (("a.weight", 0.5),))]))


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


def test_the_labels_of_a_long_comparison_are_whole_on_80_columns(whole_run):
    record = read_run(whole_run)
    long = dataclasses.replace(record.result, best_epoch=160)
    record = dataclasses.replace(record, result=long, layers=record.layers * 11)  # 33 layers
    labels = ["ordinary initialisation", "Edge of Chaos", "Edge of Chaos + Stable ResNet"]
    shown = rows(result_table([(label, record) for label in labels]), 80)
    assert list(shown) == labels
    assert all("98.00 % (160)" in line for line in shown.values())


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
