import io
import re

import pytest
import torch
from rich.console import Console
from torch import nn

import pruneinit as pi
from pruneinit.diagnosis import Diagnosis
from pruneinit.findings import Layer
from pruneinit.propagation import Signal
from pruneinit.report import check_diagnosis, diagnosis_table, facts, write_diagnosis
from wide import batch, mlp


@pytest.fixture(scope="module")
def found():
    model, data = mlp([64] + [60] * 11 + [10], "tanh", 1.3041, 0.2, 0), batch(64, 64, 10, 0)
    return pi.diagnose(model, [data], pi.prune(model, pi.Snip(), [data], sparsity=0.9))


def test_the_page_shows_verdict_advice_figures_and_layers(found, tmp_path):
    text = write_diagnosis(found, tmp_path / "page.html", "A <network>").read_text()
    assert "A &lt;network&gt;" in text
    assert found.advice[0].split("(")[0] in text
    for title in (
        "signal get through",
        "gradient come back",
        "tell examples apart",
        "left of each layer",
        "layer lost",
    ):
        assert title in text
    assert text.count("<svg") == 10  # each figure wide and narrow
    assert "theory, dense" in text
    assert not re.search(r"(src|href)=\"http", text)


def test_without_batches_the_page_has_what_there_is(tmp_path):
    masks = pi.Masks({"weight": torch.tensor([[True, False], [False, True]])})
    text = write_diagnosis(pi.diagnose(nn.Linear(2, 2), masks=masks), tmp_path / "page.html", "small").read_text()
    assert "pass batches" in text
    assert "left of each layer" in text


def test_the_facts_sum_it_up(found):
    rows = dict(facts(found))
    assert rows["sparsity"] == "0.9"
    assert float(rows["χ, dense"]) == pytest.approx(1, abs=0.1)
    assert "is lost" in rows["critical sparsity"]
    assert "e+" not in rows["conditioning"]


def test_the_table_fits_80_columns(found):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(diagnosis_table(found))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(bool(re.match(r"\S+ +[\d,]+ ", line)) for line in lines) == len(found.layers)


def test_the_names_of_a_resnets_layers_stay_whole_in_80_columns():
    names = [f"stage{stage}.{block}.shortcut.0.weight" for stage in range(1, 4) for block in range(5)]
    kept = [0, 1, 5, 1_133, 9_216]
    layers = tuple(Layer(name, "conv", (64, 64, 3, 3), 36_864, kept[i % 5], 0, 1e-7) for i, name in enumerate(names))
    stages = {stage: {name: Signal(0.00064, 0.5, 1.0) for name in names} for stage in ("dense", "pruned", "rescaled")}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(diagnosis_table(Diagnosis(layers, stages)))
    text = console.export_text()
    assert all(re.search(rf"^{re.escape(name.removesuffix('.weight'))} ", text, re.M) for name in names)
    assert "<0.001" in text
    assert re.search(r"stage1.0.shortcut.0 +0 +0 +0 ", text)


def test_the_page_says_what_each_stage_and_each_number_is(found, tmp_path):
    text = write_diagnosis(found, tmp_path / "page.html", "small").read_text()
    for explained in ("before pruning", "nothing else changed", "on no path", "1 is the Edge of Chaos"):
        assert explained in text
    assert "runs' folders" not in text  # there are none behind this page


def test_an_unbounded_conditioning_is_said_in_words():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(x)

    rows = dict(facts(pi.diagnose(Unused(), [batch(8, 16, 3, 0)])))
    assert rows["conditioning"] == "without bound"


@pytest.mark.parametrize("name, message", [("", "it is a folder"), ("file/page.html", "no folder you may write to")])
def test_a_page_that_cannot_be_written_is_refused(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(pi.InputError, match=message):
        check_diagnosis(name)
    check_diagnosis("new/page.html")
    check_diagnosis("file")
