import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import pruneinit as pi
from pruneinit.data import load
from pruneinit.errors import InputError
from pruneinit.experiments import Recipe, run
from pruneinit.experiments.lock import alone
from pruneinit.experiments.prepare import network
from pruneinit.train import evaluate
from runs import RECIPE, SHORT, Stop, contents, events, interrupted, timeless

RUN = sys.modules["pruneinit.experiments.run"]  # the module, whose name in the package is that of its function


def test_a_run_leaves_its_four_files_and_a_model_of_the_accuracy_it_says(tmp_path):
    folder = run(RECIPE, tmp_path, device="cpu")
    assert sorted(p.name for p in folder.iterdir()) == [
        "metrics.jsonl",
        "model.safetensors",
        "recipe.yaml",
        "report.html",
    ]
    assert Recipe.from_yaml(folder / "recipe.yaml") == RECIPE
    result = events(folder)[-1]
    data = load("digits")
    model = pi.load(folder / "model.safetensors", into=network(RECIPE, data))
    assert evaluate(model, data.test, data, 64)[1] == result["test_accuracy"] > 0.3
    assert result["survivors"] == pi.current_masks(model).kept


def test_the_record_has_all_stages_in_order(tmp_path):
    found = [(e["event"], e.get("stage")) for e in events(run(RECIPE, tmp_path, device="cpu"))]
    assert found == [
        ("start", None),
        ("moments", "dense"),
        ("prune", None),
        ("moments", "pruned"),
        ("rescale", None),
        ("moments", "rescaled"),
        *[("epoch", None)] * 3,
        ("result", None),
    ]


def test_a_finished_run_is_not_computed_again_unless_forced(tmp_path):
    folder = run(RECIPE, tmp_path, device="cpu")
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    seen = []
    assert run(RECIPE, tmp_path, device="cpu", on_epoch=seen.append) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert not seen
    run(RECIPE, tmp_path, device="cpu", on_epoch=seen.append, force=True)
    assert len(seen) == 3


def test_the_same_recipe_gives_the_same_numbers(tmp_path):
    a, b = (run(RECIPE, tmp_path / name, device="cpu") for name in "ab")
    assert timeless(a) == timeless(b)
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_numbers(tmp_path, after):
    whole = run(RECIPE, tmp_path / "whole", device="cpu")

    def stop(epoch):
        if epoch.epoch == after:
            raise Stop

    with pytest.raises(Stop):
        run(RECIPE, tmp_path / "cut", device="cpu", on_epoch=stop)
    with open(tmp_path / "cut" / RECIPE.name / "metrics.jsonl", "a") as file:
        file.write('{"event": "epo')  # a line that the kill has cut short
    seen = []
    cut = run(RECIPE, tmp_path / "cut", device="cpu", on_epoch=seen.append)
    assert [epoch.epoch for epoch in seen] == list(range(after + 1, 4))
    assert timeless(cut) == timeless(whole)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_run_killed_at_any_moment_ends_with_the_same_numbers(tmp_path):
    training = dataclasses.replace(SHORT, epochs=12)
    recipe = dataclasses.replace(RECIPE, training=training)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    code = (
        "import sys; from pruneinit.experiments import Recipe, run; print('ready', flush=True); "
        "run(Recipe.from_yaml(sys.argv[1]), sys.argv[2], device='cpu')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(tmp_path / "cut")]
    whole = run(recipe, tmp_path / "whole", device="cpu")
    start = time.perf_counter()
    kills = 0
    for wait in (0.05, 0.2, 0.4, 0.6, 0.8, 1.0):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        process.stdout.close()
    cut = run(recipe, tmp_path / "cut", device="cpu")
    assert kills >= 2, f"the run was over after {time.perf_counter() - start:.1f} s, before it could be killed"
    assert timeless(cut) == timeless(whole)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_recipe_of_no_network_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="unknown model"):
        run(dataclasses.replace(RECIPE, model="../escape"), tmp_path / "runs", device="cpu")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "change",
    [
        {"criterion": "none", "rescale": "none"},
        {"criterion": "magnitude", "rescale": "formula"},
        {"criterion": "random", "scope": "erk", "rescale": "layer", "fold": True},
        {"init": "orthogonal", "rounds": 3},
        {"init": "gaussian", "sigma_w": 1.0, "sigma_b": 0.0, "rescale": "none", "validation": 0.1},
        {"model": "resnet20", "depth": None, "width": 4, "activation": None, "residuals": "stable", "rescale": "none"},
        {"model": "vcnn", "depth": 3, "width": 4, "rescale": "tap", "init": "delta_orthogonal"},
    ],
    ids=["dense", "magnitude", "random-erk", "rounds", "ordered", "stable-resnet", "vcnn"],
)
def test_every_kind_of_recipe_runs(tmp_path, change):
    recipe = dataclasses.replace(RECIPE, **change, training=dataclasses.replace(SHORT, epochs=1))
    folder = run(recipe, tmp_path, device="cpu")
    kinds = {e["event"] for e in events(folder)}
    assert "result" in kinds
    assert ("prune" in kinds) == (recipe.criterion != "none")
    assert ("rescale" in kinds) == (recipe.rescale != "none")
    assert ("residuals" in kinds) == (recipe.residuals == "stable")


def test_stable_residuals_need_a_residual_network(tmp_path):
    with pytest.raises(InputError, match="mlp has no residual branches"):
        run(dataclasses.replace(RECIPE, residuals="stable"), tmp_path, device="cpu")


REFUSED = {
    "no residual branches": ({"residuals": "stable"}, "has no residual branches"),
    "no network": ({"model": "../escape"}, "unknown model"),
    "too large": ({"width": 10**12}, r"mlp with depth=4, width=1000000000000 cannot be built.*needs \d+ bytes"),
    "far too large": ({"width": 10**30}, "mlp with depth=4, width=1000000000000000000000000000000 cannot be built"),
    "no data": ({"data": "folder:nowhere"}, "no folder"),
    "no Edge of Chaos": ({"activation": "relu", "sigma_b": 0.5}, "only at sigma_b=0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_of_a_run_that_is_refused_nothing_is_left(tmp_path, case):
    change, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        run(dataclasses.replace(RECIPE, **change), tmp_path / "runs", device="cpu")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("force", [False, True], ids=["plain", "forced"])
@pytest.mark.parametrize("step", ["ready", "check_fit"])
def test_a_refused_run_leaves_the_folder_of_an_earlier_one_as_it_was(tmp_path, monkeypatch, step, force):
    folder = interrupted(tmp_path)
    (folder / "initial.safetensors").unlink()  # so that a plain run begins anew too
    before = contents(folder)

    def refuse(*arguments, **settings):
        raise InputError("refused")

    monkeypatch.setattr(RUN, step, refuse)
    with pytest.raises(InputError, match="refused"):
        run(RECIPE, tmp_path, device="cpu", force=force)
    assert contents(folder) == before


def test_a_network_that_was_cut_short_is_refused_with_what_to_do_and_force_begins_anew(tmp_path):
    folder = interrupted(tmp_path)
    file = folder / "initial.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a whole safetensors file.*or begin the run anew with --force"):
        run(RECIPE, tmp_path, device="cpu")
    assert events(run(RECIPE, tmp_path, device="cpu", force=True))[-1]["event"] == "result"


def test_force_in_a_folder_that_cannot_be_written_leaves_the_run_as_it_was(tmp_path, monkeypatch):
    folder = run(RECIPE, tmp_path, device="cpu")
    before = contents(folder)
    open_file = os.open

    def refuse(path, flags, *arguments, **settings):
        if flags & os.O_CREAT and str(tmp_path) in os.fspath(path):
            raise PermissionError(13, "Permission denied", path)
        return open_file(path, flags, *arguments, **settings)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="cannot write .*Permission denied"):
        run(RECIPE, tmp_path, device="cpu", force=True)
    monkeypatch.undo()
    assert contents(folder) == before


@pytest.mark.parametrize("force", [False, True], ids=["plain", "forced"])
def test_two_processes_do_not_work_on_one_run(tmp_path, force):
    def again(epoch):
        run(RECIPE, tmp_path, device="cpu", force=force)

    with pytest.raises(InputError, match="another process is working on .*; wait for it, or choose another folder"):
        run(RECIPE, tmp_path, device="cpu", on_epoch=again)
    ended = run(RECIPE, tmp_path, device="cpu")  # the first one has given the folder back
    assert not (ended / ".lock").exists()


def test_the_start_says_where_the_run_stands(tmp_path):
    seen = []

    def stop(epoch):
        if epoch.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        run(RECIPE, tmp_path, device="cpu", on_start=seen.append, on_epoch=stop)
    for force in (False, False, True):
        run(RECIPE, tmp_path, device="cpu", on_start=seen.append, force=force)
    assert [(start.state, start.epoch) for start in seen] == [("new", 0), ("resumed", 2), ("finished", 3), ("new", 0)]
    assert {start.version for start in seen} == {pi.__version__}


def test_a_finished_run_of_another_version_is_told_of(tmp_path, monkeypatch):
    run(RECIPE, tmp_path, device="cpu")
    monkeypatch.setattr(pi, "__version__", "99.0")
    seen = []
    run(RECIPE, tmp_path, device="cpu", on_start=seen.append)
    assert "begun by pruneinit 0.1.0, this is 99.0" in str(seen[0])


def test_a_finished_run_needs_neither_data_nor_a_folder_to_write(tmp_path, monkeypatch):
    folder = run(RECIPE, tmp_path, device="cpu")

    def refuse(*arguments, **settings):
        raise AssertionError("not needed")

    monkeypatch.setattr(RUN, "load", refuse)
    monkeypatch.setattr(RUN, "alone", refuse)
    assert run(RECIPE, tmp_path, device="cpu") == folder


def test_a_diverging_run_ends_with_a_record_and_a_report(tmp_path):
    recipe = dataclasses.replace(RECIPE, activation="relu", training=dataclasses.replace(SHORT, lr=1e12))
    result = events(run(recipe, tmp_path, device="cpu"))[-1]
    assert result["diverged"]
    assert result["epochs"] < 3


@pytest.mark.parametrize("stable", [True, False], ids=["stable", "plain"])
def test_the_paper_resnet32_on_real_cifar10_at_98_percent(tmp_path, data_root, stable):
    """One epoch on a part of CIFAR-10; saved, loaded into a fresh model, it has the same accuracy."""
    from pruneinit.experiments.prepare import prepare_
    from pruneinit.train import train

    recipe = Recipe(data="cifar10", model="resnet32", width=32, sparsity=0.98,
                    residuals="stable" if stable else "plain", score_images=100)  # fmt: skip
    whole = load("cifar10", data_root)
    data = dataclasses.replace(
        whole, train=whole.train.take(torch.arange(256)), test=whole.test.take(torch.arange(200))
    )
    model = prepare_(network(recipe, data), recipe, data, lambda event: None)
    masks = pi.current_masks(model)
    assert masks.kept == round((1 - 0.98) * masks.total)
    assert masks.total == sum(w.numel for w in pi.prunable(network(recipe, data)).values()) > 1_850_000
    last = train(model, data, dataclasses.replace(SHORT, epochs=1, augment=True), seed=0, device="cpu")[-1]
    pi.save(model, tmp_path / "net.safetensors")
    fresh = pi.load(tmp_path / "net.safetensors", into=network(recipe, data))
    assert evaluate(fresh, data.test, data, 64) == (last.test_loss, last.test_accuracy)


def test_two_processes_give_the_run_of_one(tmp_path):
    recipe = dataclasses.replace(RECIPE, training=dataclasses.replace(SHORT, epochs=2))
    one = run(recipe, tmp_path / "one", device="cpu")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "pruneinit.cli"),
        *("run", "--config", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "two"), "--device", "cpu"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    two = tmp_path / "two" / recipe.name
    data = load("digits")
    models = [pi.load(f / "model.safetensors", into=network(recipe, data)) for f in (one, two)]
    assert pi.current_masks(models[0]) == pi.current_masks(models[1])
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_several_processes_of_one_run_are_kept_out_together(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE.to_yaml())
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "pruneinit.cli"),
        *("run", "--config", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "runs"), "--device", "cpu"),
    ]
    with alone(tmp_path / "runs" / RECIPE.name):
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode != 0
    assert "pruneinit: error: another process is working on" in done.stderr
    assert not (tmp_path / "runs").exists()
