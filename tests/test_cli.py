import dataclasses
import itertools
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from interruptible import interruptible
from pruneinit.cli import main
from pruneinit.experiments import Pace, Recipe
from pruneinit.screen import bar
from pruneinit.train import Training

SMALL = ["--depth", "3", "--width", "16", "--score_images", "32", "--training.augment", "false", "--device", "cpu"]
QUICK = [*SMALL, "--training.epochs", "2"]
HUGE = "1" + "0" * 400


def test_run_ends_by_naming_the_report(tmp_path, capsys):
    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    report = out.strip().splitlines()[-1].removeprefix("report: ")
    assert report.endswith("report.html")
    assert "epoch 2/2" in out
    with open(report) as file:
        assert "<svg" in file.read()


def test_a_recipe_file_and_flags_that_override_it(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: mlp\nsparsity: 0.5\ntraining: {epochs: 7, augment: false}\n")
    assert main(["run", "--config", str(path), *QUICK, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    (saved,) = tmp_path.glob("*/recipe.yaml")
    recipe = yaml.safe_load(saved.read_text())
    assert (recipe["sparsity"], recipe["training"]["epochs"]) == (0.5, 2)


def test_the_printed_configuration_is_a_recipe(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--sparsity", "0.7", "--print_config"])
    path = tmp_path / "recipe.yaml"
    path.write_text(capsys.readouterr().out)
    assert main(["run", "--config", str(path), *QUICK, "--out", str(tmp_path)]) == 0


def test_a_saved_recipe_names_the_same_run(tmp_path, capsys):
    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
    (saved,) = tmp_path.glob("*/recipe.yaml")
    capsys.readouterr()
    assert main(["run", "--config", str(saved), "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert "epoch" not in capsys.readouterr().out.split("Runs")[0]  # found finished, so not a single epoch is trained
    assert len(list(tmp_path.glob("*/recipe.yaml"))) == 1


def test_a_run_says_that_it_was_finished_before(tmp_path, capsys):
    for _ in range(2):
        assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
        out = capsys.readouterr().out
    assert ": finished before, nothing is computed anew\n" in out


def test_a_run_says_after_which_epoch_it_goes_on(tmp_path, capsys, monkeypatch):
    from pruneinit.experiments.folder import RunFolder

    def interrupt(self, recipe):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "end", interrupt)
    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 130
    monkeypatch.undo()
    (folder,) = (path.parent for path in tmp_path.glob("*/recipe.yaml"))
    (folder / "model.safetensors").unlink()
    capsys.readouterr()
    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
    assert ": going on after epoch 2\n" in capsys.readouterr().out


def test_a_run_in_rounds_with_a_check(tmp_path, capsys):
    settings = ["--criterion", "force", "--rounds", "3", "--sanity", "shuffle", "--out", str(tmp_path)]
    assert main(["run", *QUICK, *settings]) == 0
    (report,) = tmp_path.glob("digits-mlp-force-*/report.html")
    assert "shuffle" in report.read_text()
    capsys.readouterr()


def test_a_log_of_a_slow_epoch_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    seconds = itertools.count(0.0, 20.0)
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))  # each look at the clock
    monkeypatch.setattr(Pace.__init__, "__kwdefaults__", {"every": 30.0, "clock": time.monotonic})
    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
    assert re.search(r": epoch 1/2, \d+ % of it done, about \d+ min to the end of the run\n", capsys.readouterr().out)


def test_a_run_whose_reader_is_gone_ends_as_if_it_was_read(tmp_path):
    """`pruneinit run ... | head -1`."""
    arguments = ["run", *SMALL, "--training.epochs", "6", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "pruneinit.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert "epoch 1/6" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    with subprocess.Popen([sys.executable, "-m", "pruneinit.cli", *arguments], stdout=subprocess.PIPE) as again:
        assert again.stdout is not None
        assert b"finished before" in again.stdout.readline()
        again.stdout.close()  # before the table
    assert again.returncode == 0
    (record,) = tmp_path.glob("*/metrics.jsonl")
    assert json.loads(record.read_text().splitlines()[-1])["event"] == "result"
    assert (record.parent / "report.html").is_file()


def test_compare_writes_a_page_of_all_runs(tmp_path, capsys):
    assert main(["compare", *QUICK, "--activation", "tanh", "--out", str(tmp_path)]) == 0
    page = capsys.readouterr().out.strip().splitlines()[-1].removeprefix("report: ")
    with open(page) as file:
        text = file.read()
    for label in ("ordinary initialisation", "Edge of Chaos", "Edge of Chaos + rescaling"):
        assert label in text
    assert len(list(tmp_path.glob("*/report.html"))) == 4


COMPARED = ["--activation", "tanh", "--training.epochs", "1", "--training.augment", "false", "--device", "cpu"]


def test_compare_takes_the_recipe_of_a_stable_network_and_says_what_it_chooses_itself(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: resnet8\nwidth: 4\nresiduals: stable\ninit: edge\n")
    assert main(["compare", "--config", str(recipe), *COMPARED[2:], "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "a comparison chooses for itself what the recipe says of residuals='stable'"
    assert "Edge of Chaos + Stable ResNet" in out
    recipe.write_text("model: resnet8\nwidth: 4\n")
    assert main(["compare", "--config", str(recipe), *COMPARED[2:], "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "chooses for itself" not in out
    assert len(list((tmp_path / "a").glob("*/report.html"))) == 3  # the same runs


def test_compare_refuses_flags_that_it_would_ignore_also_beside_a_recipe(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: mlp\ndepth: 3\ninit: gaussian\nsigma_w: 1.5\nrescale: layer\nfold: true\n")
    assert main(["compare", "--config", str(recipe), "--rescale", "tap", *COMPARED, "--out", str(tmp_path)]) == 2
    assert "does not take rescale='tap'" in capsys.readouterr().err
    assert main(["compare", "--config", str(recipe), *COMPARED, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert all(part in said for part in ("sigma_w=1.5", "init='gaussian'", "rescale='layer'", "fold=True"))


def test_diagnose_shows_layers_facts_a_verdict_and_advice(tmp_path, capsys):
    page = tmp_path / "page.html"
    deep = ["--depth", "24", "--width", "60", "--activation", "tanh", "--sparsity", "0.9"]
    assert main(["diagnose", *deep, "--device", "cpu", "--page", str(page)]) == 0
    out = capsys.readouterr().out
    for words in (
        "fc24",
        "effective sparsity: 0.9",
        "critical sparsity",
        "χ, rescaled",
        "gradient vanishes",
        "Rescale",
    ):
        assert words in out
    assert "<svg" in page.read_text()


def test_the_help_of_diagnose_offers_no_training_and_needs_no_network_of_ones_own(capsys):
    with pytest.raises(SystemExit):
        main(["diagnose", "--help"])
    shown = capsys.readouterr().out
    assert "[NETWORK]" in shown.splitlines()[0]
    assert "--training" not in shown
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "--training.epochs" in capsys.readouterr().out


def test_diagnose_guards_a_pipeline(capsys):
    arguments = ["diagnose", "--depth", "30", "--activation", "tanh", "--device", "cpu"]
    assert main([*arguments, "--init", "default"]) == 0
    assert main([*arguments, "--init", "default", "--fail-on-collapse"]) == 3
    assert main([*arguments, "--init", "edge", "--fail-on-collapse"]) == 0
    capsys.readouterr()


def test_diagnose_refuses_a_page_before_the_work(tmp_path, capsys):
    assert main(["diagnose", "--page", str(tmp_path), "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert "it is a folder" in shown.err
    assert not shown.out


def test_diagnose_takes_a_network_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "ownnet.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", "ownnet:net", "--sparsity", "0.5", "--device", "cpu"]) == 0
    assert "ownnet:net on digits" in capsys.readouterr().out
    assert main(["diagnose", "ownnet:nett", "--device", "cpu"]) == 2
    assert "did you mean 'net'" in capsys.readouterr().err


def test_edge_shows_the_published_point_of_tanh(capsys):
    assert main(["edge", "tanh", "relu"]) == 0
    out = capsys.readouterr().out
    assert "1.3041" in out
    assert "1.41421" in out


@pytest.mark.parametrize("words", [["0.5", "1"], ["[0.5,1]"], ["[0.5,", "1]"], ["0.5,1"]], ids=" ".join)
def test_edge_takes_plain_numbers_and_a_list(words, capsys):
    assert main(["edge", "tanh", "--sigma_b", *words]) == 0
    out = capsys.readouterr().out
    assert "1.54967" in out
    assert "1.85559" in out


def test_edge_shows_a_map_of_a_single_activation_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["edge", "tanh"]) == 0
    out = capsys.readouterr().out
    assert "▓▓▓" in out
    assert "● Edge of Chaos" in out
    assert main(["edge", "tanh", "relu"]) == 0
    assert "▓▓▓" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_edge_writes_a_page_or_a_drawing_where_it_is_told_to(tmp_path, capsys):
    for name in ("new/edge.html", "edge.svg"):
        file = tmp_path / name
        assert main(["edge", "tanh", "--sigma_b", "0.5", "--out", str(file)]) == 0
        assert "<svg" in file.read_text()
        assert capsys.readouterr().out.endswith(f"written: {file}\n")


def test_edge_names_activations_without_an_edge_among_others(capsys):
    assert main(["edge", "softplus", "relu", "tanh", "--sigma_b", "0.5"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"softplus .* no edge", out)
    assert re.search(r"relu .* no edge", out)
    assert "1.54967" in out
    assert "relu is on the Edge of Chaos only at sigma_b=0" in out
    assert main(["edge", "softplus"]) == 2
    assert capsys.readouterr().err.startswith("pruneinit: error: softplus has no Edge of Chaos")


def test_edge_leaves_a_file_as_it_was_when_it_fails(tmp_path, capsys):
    file = tmp_path / "edge.html"
    file.write_text("before")
    for arguments in (["tanh", "--sigma_b", "nan"], ["softplus"], ["tanh", "tnah"]):
        assert main(["edge", *arguments, "--out", str(file)]) == 2
    assert file.read_text() == "before"
    capsys.readouterr()


def test_data_list_and_check(capsys, data_root, tmp_path):
    assert main(["data", "list", "--data_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"digits .*1,438 \+ 359.* present", out)
    assert re.search(r"cifar100 .* missing", out)
    assert "cifar100: pruneinit data download cifar100 (169 MB)" in out
    assert main(["data", "check", "mnist", "--data_dir", str(data_root)]) == 0
    assert "60,000 + 10,000" in capsys.readouterr().out


def test_report_of_a_run_and_of_a_folder_of_runs(tmp_path, capsys):
    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("*/report.html")
    report.unlink()
    assert main(["report", str(report.parent)]) == 0
    assert report.is_file()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").is_file()
    assert not (tmp_path / "results.html").exists()
    capsys.readouterr()


def test_report_of_sweeps_and_runs_below_one_folder(tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "name: small\nrecipe: {model: mlp, depth: 3, width: 16, training: {epochs: 1, augment: false}}\n"
        "rows: {first: {sparsity: 0.5}}\nover: {seed: [0, 1]}\n"
    )
    assert main(["sweep", str(grid), "--out", str(tmp_path / "sweeps"), "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path / "sweeps")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'sweeps' / 'results.html'}\n"
    assert not (tmp_path / "sweeps" / "index.html").exists()

    assert main(["run", *QUICK, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    pages = [tmp_path / "results.html", tmp_path / "index.html"]
    assert capsys.readouterr().out == "".join(f"report: {page}\n" for page in pages)
    page = pages[0].read_text()
    assert "3 results" in page
    assert "sweeps/small" in page


@pytest.mark.parametrize(
    "text, message",
    [("", "there is no result below"), ('{"cell":\n', "cells.jsonl, line 1, is damaged: it is not whole JSON")],
    ids=["empty", "damaged"],
)
def test_results_that_cannot_be_shown_are_one_line(text, message, tmp_path, capsys):
    (tmp_path / "cells.jsonl").write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "results.html").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give a command: one of run, compare"),
        (["rnu"], "unknown command 'rnu'.*did you mean 'run'"),
        (["run", "--sparsity", "98"], r"sparsity must be in \[0, 1\), got 98; did you mean 0.98\?"),
        (["run", "--sparsity", "-0.1"], "got -0.1"),
        (["run", "--sparsity", "nan"], "got nan"),
        (["run", "--sparsity", "much"], "sparsity must be a number, got much"),
        (["run", "--sparsty", "0.9"], "unknown setting 'sparsty'; did you mean 'sparsity'"),
        (
            ["run", "--scope", "erkk"],
            r"unknown scope 'erkk': expected one of ends, erk, erk\+, global, igq, layer, uniform\+;",
        ),
        (["run", "--model", "resnt32"], "unknown model 'resnt32'; did you mean 'resnet32'"),
        (["run", "--model", "resnet33"], "33"),
        (["run", "--criterion", "forse"], "unknown criterion 'forse'.*did you mean 'force'"),
        (["run", "--sanity", "shufle"], "unknown sanity 'shufle'.*did you mean 'shuffle'"),
        (["run", "--sanity", "invert", "--criterion", "none"], "sanity='invert' needs something pruned"),
        (["run", "--rounds", "0"], "rounds must be a whole number, 1 or more, got 0"),
        (["run", "--rounds", "2.5"], "rounds must be a whole number, got 2.5"),
        (["run", "--init", "egde"], "unknown init 'egde'.*did you mean 'edge'"),
        (["run", "--data", "mnits"], "unknown data set 'mnits'.*did you mean 'mnist'"),
        (["run", "--data", "mnist", "--data_dir", "/nowhere"], "no file /nowhere/MNIST.*pruneinit data download mnist"),
        (["run", "--training.lr", "-1"], "lr must be a number above 0, got -1"),
        (["run", "--training.epcohs", "1"], "did you mean 'training.epochs'"),
        (["run", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["run", "--residuals", "stable"], "mlp has no residual branches"),
        (["run", "--device", "cuda:99"], "cuda"),
        (["edge", "tnah"], "unknown activation 'tnah'.*did you mean 'tanh'"),
        (["edge", "relu", "--sigma_b", "[0.5]"], "relu is on the Edge of Chaos only at sigma_b=0"),
        (["edge", "tanh", "--sigma_b", "x"], "sigma_b must be one or more numbers, '--sigma_b 0.5 1', got 'x'"),
        (["edge", "tanh", "--sigma_b", "-1"], "sigma_b must be a finite number >= 0, got -1"),
        (["edge", "tanh", "--sigma_b", "nan"], "sigma_b must be a finite number >= 0, got nan"),
        (["edge", "tanh", "relu", "--sigma_b", "0.2", "-1"], "sigma_b must be a finite number >= 0, got -1"),
        (["edge", "softplus", "--out", "e.html"], "softplus has no Edge of Chaos"),
        (["edge", "tanh", "--out", "."], "cannot write .: it is a folder; give the name of a file in it"),
        (["edge", "tanh", "--out", ""], "cannot write .: it is a folder"),
        (["edge", "tanh", "--out", "e.pdf"], r"out must end in .html \(a page\) or .svg \(a drawing\), got 'e.pdf'"),
        (["edge", "tanh", "relu", "--out", "e.svg"], "e.svg would hold one drawing: name one activation"),
        (["edge", "tanh", "--out", "/proc/e.html"], "cannot write /proc/e.html"),
        (["run", "recipes/x.yaml"], "takes flags only, got 'recipes/x.yaml'; did you mean --config recipes/x.yaml"),
        (["compare", "x.yaml", "--seed", "1"], "did you mean --config x.yaml"),
        (["run", "sparsity", "0.9"], "did you mean --sparsity"),
        (["run", "--spars", "0.9"], "unknown setting 'spars'; did you mean 'sparsity'"),
        (["run", "--training.ep", "3"], "did you mean 'training.epochs'"),
        (["edge", "--sigma", "1"], "unknown setting 'sigma'; did you mean 'sigma_b'"),
        (["diagnose", "--zzz", "1"], "unknown setting 'zzz'; 'pruneinit diagnose --help' lists them"),
        (["run", "--sigma_b", "nan"], "sigma_b must be a number, got nan"),
        (["run", "--sigma_b", "true"], "sigma_b must be a number, got true"),
        (["run", "--sigma_b", HUGE], "sigma_b must be a number, got 1000"),
        (["run", "--sparsity", HUGE], "a whole number is beyond all floats"),
        (["run", "--depth", "2.5"], "depth must be a whole number, got 2.5"),
        (["run", "--fold", "maybe"], "fold must be true or false, got maybe"),
        (["run", "--config", "."], "--config . is a folder"),
        (["run", "--config=."], "--config . is a folder"),
        (["data"], "pruneinit data needs ACTION; 'pruneinit data --help' explains it"),
        (["data", "download"], "name the data sets to download"),
        (["data", "check", "mnits"], "did you mean 'mnist'"),
        (["report", "/nowhere"], "no folder /nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_error_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("pruneinit: error: ")
    assert re.search(message, captured.err), captured.err
    leftovers = [path for path in tmp_path.rglob("*") if path.name not in ("runs", "recipe.yaml") and path.is_file()]
    assert not leftovers


@pytest.mark.parametrize("text", ["sparsty: 0.9", "training: {epcohs: 1}"])
def test_a_misspelt_key_in_a_recipe_is_named(text, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert main(["run", "--config", str(path)]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    "contents, message",
    [
        (bytes(range(256)), "is not YAML text"),
        (b"model: mlp\nsparsity: [", r"is not YAML text \(line 2\)"),
        (b"- mlp", "is no recipe: .* got list"),
        (b"", "is no recipe: .* got nothing"),
        (b"data: 2026-99-99", "is not YAML text"),
        (b"[" * 5000, "is not YAML text"),
        (b"training: &a [*a]", "is no recipe: a setting holds itself"),
    ],
    ids=["binary", "broken", "list", "empty", "impossible date", "bottomless", "circular"],
)
def test_a_file_that_is_no_recipe_is_named_in_one_line(contents, message, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(contents)
    assert main(["run", "--config", str(path)]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"pruneinit: error: --config \S+recipe.yaml {message}.*\n", err), err


def test_a_folder_of_no_runs_is_no_place_for_an_index(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_time_left_is_known_though_steps_take_long():
    now = [0.0]
    shown = bar(disable=True, get_time=lambda: now[0])
    task = shown.add_task("", total=10, note="")
    for step in (1, 2, 3):
        now[0] += 100.0
        shown.update(task, completed=step)
    assert shown.tasks[0].time_remaining == pytest.approx(700, abs=100)


def test_ctrl_c_ends_with_130_and_the_run_goes_on_later(tmp_path):
    arguments = ["run", *SMALL, "--training.epochs", "400", "--out", str(tmp_path)]
    command, pipe = [sys.executable, "-m", "pruneinit.cli", *arguments], subprocess.PIPE
    with interruptible(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert "epoch 1/400" in process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("pruneinit: interrupted; the same command goes on")
    (folder,) = (path.parent for path in tmp_path.glob("*/recipe.yaml"))
    done = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 0 < sum(event["event"] == "epoch" for event in done) < 400
    assert (folder / "checkpoint.safetensors").is_file()


INTERRUPTED_AT = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from pruneinit.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["pruneinit.cli", "jsonargparse", "torch", "rich.console"])
def test_ctrl_c_during_an_import_is_one_line_and_130(module, tmp_path):
    script = INTERRUPTED_AT.replace("MODULE", repr(module))
    command = [sys.executable, "-c", script, "diagnose", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stderr) == (130, "pruneinit: interrupted\n")


def test_the_way_in_is_light():
    code = "import sys, pruneinit.__main__, pruneinit.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jsonargparse", "rich", "torch", "numpy"} & {name.split(".")[0] for name in done.stdout.split()}


def test_help_needs_no_torch():
    code = "import atexit, sys\nfrom pruneinit.cli import main\natexit.register(lambda: print('torch' in sys.modules))"
    code += "\nmain(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "diagnose" in done.stdout


def test_the_help_of_a_recipe_is_short_and_names_every_setting_once(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100
    flags = [line.split()[0] for line in lines if line.startswith("  --")]
    settings = [f.name for f in dataclasses.fields(Recipe) if f.name != "training"]
    settings += [f"training.{f.name}" for f in dataclasses.fields(Training)]
    assert sorted(flags) == sorted(
        f"--{name}" for name in [*settings, "config", "print_config", "data_dir", "device", "out", "force"]
    )
    text = "\n".join(lines)
    assert "(type:" not in text
    assert [line for line in lines if line.endswith(":")] == [
        "data:",
        "network:",
        "pruning:",
        "training:",
        "this command:",
    ]
    for shown in ("[0.9]", "[snip]", "[0.0005]", "[0.5,0.75]", "[unset]", "[false]", "[runs]"):
        assert shown in text


def test_help_and_version_exit_with_0(capsys):
    for arguments in (["--help"], ["--version"], ["run", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    assert "pruneinit 0.1.0" in capsys.readouterr().out
