from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pruneinit as pi
from problems import IDS, PROBLEMS, Problem
from pruneinit.processes import agreed, gathered, groups_of, mean_over_processes, together
from pruneinit.weights import uncompiled
from worker import FAULTS, RIVAL_NETWORKS, RIVALS, RIVALS_WITH_DATA, rival_batches

WORKER = Path(__file__).with_name("worker.py")
NETWORKS = ["dense", "running-norm", "tied-weights", "layer-run-twice", "attention"]


@pytest.fixture(scope="session")
def torchrun(environment):
    def run(script: Path, *arguments: object) -> subprocess.CompletedProcess:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [*launcher, str(script), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def folder(torchrun, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("two-processes")
    done = torchrun(WORKER, "cases", place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="session")
def found(folder) -> list[dict[str, Any]]:
    """What each of two processes found."""
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def problem(name: str) -> Problem:
    return PROBLEMS[IDS.index(name)]


def short_cut(net, batch):
    """A loss that sees nothing but the first layer where it is told to."""
    x, y, whole = batch
    return nn.functional.cross_entropy(net(x), y) if whole.any() else net[0](x).square().mean()


def alone(name: str, criterion=None, **options) -> dict[str, torch.Tensor]:
    """Scores, or with options masks, in one process that has all examples."""
    here = problem(name)
    criterion = criterion or pi.Snip(norm=here.norm)
    if options:
        return dict(pi.prune(here.model(), criterion, [here.batch()], **options))
    return pi.score(here.model(), criterion, [here.batch()])


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert (one[name] - other[name]).abs().max() <= 1e-9 * other[name].abs().max(), name


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("way", ["ddp scores", "fsdp scores"])
@pytest.mark.parametrize("name", NETWORKS)
def test_two_processes_score_as_one_does(way, name, found):
    assert_equal(*(each[f"{way} {name}"] for each in found))
    assert_close(found[0][f"{way} {name}"], alone(name))


@pytest.mark.parametrize("name", ["dense", "running-norm"])
def test_layers_sharded_one_by_one_score_as_one_process_does(name, found):
    assert_close(found[0][f"fsdp layers {name}"], alone(name))


@pytest.mark.parametrize("case", ["ddp_masks", "fsdp_masks"])
def test_two_processes_prune_in_rounds_as_one_does(case, found):
    assert_equal(*(each[case] for each in found))
    assert_equal(found[0][case], alone("dense", sparsity=0.8, rounds=3))


def test_a_criterion_that_knows_nothing_of_processes_needs_the_same_batches_in_all(found):
    assert_equal(*(each["ddp_unaware_of_the_same"] for each in found))
    assert_equal(found[0]["ddp_unaware_of_the_same"], alone("dense", sparsity=0.5))


def test_two_processes_prune_to_an_effective_sparsity_as_one_does(found):
    assert_equal(*(each["ddp_effective_masks"] for each in found))
    assert_equal(found[0]["ddp_effective_masks"], alone("dense", sparsity=0.9, effective=True))


def test_a_sparsified_model_is_wrapped_and_scored_again(found):
    model, batch = problem("dense").model(), problem("dense").batch()
    pi.sparsify_(model, pi.prune(model, pi.Snip(), [batch], sparsity=0.5))
    assert_equal(*(each["ddp_sparsified"] for each in found))
    assert_equal(found[0]["ddp_sparsified"], dict(pi.prune(model, pi.Snip(), [batch], sparsity=0.8)))


def test_batch_statistics_are_those_of_each_process(found):
    x, y = problem("batch-norm").batch()
    halves = [(x[:4], y[:4]), (x[4:], y[4:])]
    expected = pi.score(problem("batch-norm").model(), pi.Snip(norm="batch"), halves)
    assert_close(found[0]["fsdp_batch_norm"], expected)


def test_processes_in_groups_of_their_own_do_not_wait_for_one_another(found):
    x, y = problem("dense").batch()
    for rank, part in enumerate([slice(0, 5), slice(5, 8)]):
        expected = pi.score(problem("dense").model(), pi.Snip(), [(x[part], y[part])])
        assert_close(found[rank]["ddp_part_of_the_world"], expected)


def test_a_weight_that_one_process_alone_reaches_is_scored_without_a_warning(found):
    (x, y), flags = problem("dense").batch(), torch.tensor([True, False])
    batches = [(x[:5], y[:5], flags[:1]), (x[5:], y[5:], flags[1:])]
    expected = pi.score(problem("dense").model(), pi.Snip(loss=short_cut), batches)
    assert_close(found[0]["ddp_partly_unreached"], expected)


@pytest.mark.parametrize("case", ["fsdp_frozen", "fsdp_after_an_evaluation", "fsdp_replicas"])
def test_frozen_models_left_whole_by_an_evaluation_and_replicated_ones_score_as_ever(case, found):
    assert_close(found[0][case], alone("dense"))


def test_magnitudes_and_random_numbers_do_not_depend_on_the_number_of_processes(found):
    expected = [alone("dense", pi.Magnitude()), alone("dense", pi.Random(seed=3))]
    assert_equal(*(each["fsdp_without_data"] for each in found))
    named = {f"{i} {name}": score for i, scores in enumerate(expected) for name, score in scores.items()}
    assert_equal(found[0]["fsdp_without_data"], named)


def test_masks_that_are_whole_fit_a_sharded_model(found):
    model = problem("dense").model()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    assert_close(found[0]["fsdp_within_whole_masks"], pi.Snip()(model, [problem("dense").batch()], masks))


def test_a_sharded_model_trains_on_after_a_scoring_and_after_one_that_failed(found):
    model, (x, y) = problem("dense").model(), problem("dense").batch()
    nn.functional.cross_entropy(model(x), y).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert_close(found[0]["fsdp_trains_on"], {name: p.detach() for name, p in model.named_parameters()})


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("name", RIVAL_NETWORKS)
def test_two_processes_score_by_every_criterion_as_one_does(name, rival, found):
    (scores, masks), (others, theirs) = (each[f"ddp rival {name} {rival}"] for each in found)
    assert_equal(scores, others)
    assert_equal(masks, theirs)
    here, criterion, batches = problem(name), RIVALS[rival](problem(name).norm), rival_batches(name, rival)
    assert_close(scores, pi.score(here.model(), criterion, batches))
    assert_equal(masks, dict(pi.prune(here.model(), criterion, batches, sparsity=0.6, allow_empty=True)))


def test_second_derivatives_of_a_weight_that_one_process_alone_reaches_are_averaged_without_a_warning(found):
    (x, y), flags = problem("dense").batch(), torch.tensor([True, False])
    batches = [(x[:5], y[:5], flags[:1]), (x[5:], y[5:], flags[1:])]
    expected = pi.score(problem("dense").model(), pi.Grasp(temperature=1, loss=short_cut), batches)
    assert_close(found[0]["ddp_rival_partly_unreached"], expected)


@pytest.mark.parametrize("bad", FAULTS)
@pytest.mark.parametrize("rival", RIVALS_WITH_DATA)
def test_bad_batches_of_one_process_are_refused_on_all(rival, bad, found):
    text = {"no batches": "there are no batches", "an empty batch": "a batch is empty"}[bad]
    for each in found:
        assert each[f"ddp {rival} {bad}"].startswith("InputError: ")
        assert text in each[f"ddp {rival} {bad}"]
        assert each[f"ddp {rival} {bad}"].endswith("(process 1 of 2)")


@pytest.mark.parametrize("rival", ["IterativeSnip", "Force", "Lamp", "SmartRatio"])
def test_sharded_models_are_scored_and_pruned_in_rounds_as_whole_ones(rival, found):
    (scores, masks), (others, theirs) = (each[f"fsdp rival {rival}"] for each in found)
    assert_equal(scores, others)
    assert_equal(masks, theirs)
    model, batch, criterion = problem("dense").model(), problem("dense").batch(), RIVALS[rival](None)
    assert_close(scores, pi.score(model, criterion, [batch]))
    assert_equal(masks, dict(pi.prune(model, criterion, [batch], sparsity=0.6, rounds=2, allow_empty=True)))


@pytest.mark.parametrize("rival", sorted(RIVALS.keys() - {"IterativeSnip", "Force", "Lamp", "SmartRatio"}))
def test_criteria_that_replace_weights_refuse_a_sharded_model(rival, found):
    for each in found:
        assert "is a DTensor, and a sharded model can only be scored, with Snip," in each[f"fsdp rival {rival}"]


OF_ONE = [
    ("not a number", "holds NaN or inf: 40 of the 40 values of its tensor 1"),
    ("no batches", "there are no batches"),
    ("an empty batch", "a batch is empty"),
    ("a label too large", "Target 9 is out of bounds"),
]
EVERY = list(itertools.product(("ddp", "fsdp"), (1, 2), OF_ONE))


@pytest.mark.parametrize(
    "case, message",
    [
        *((f"{way} {bad} {rounds}", f"{text}.*(process 1 of 2)") for way, rounds, (bad, text) in EVERY),
        ("ddp_wrong_shape", "(float64 8x4, int64 8): mat1 and mat2.*(process 1 of 2)"),
        ("ddp_diverged", "0.weight differs between this process and process.*: initialize alike in all processes"),
        ("ddp_unaware True", "0.weight differs between.*: the criterion does not average over processes; give"),
        ("ddp_unaware False", "0.weight differs between.*: the criterion does not average over processes; give"),
        ("ddp_sparsify_outside", "sparsify model.module, and wrap that anew"),
        ("fsdp_all_wrong", "(float64 8x4, int64 8): mat1 and mat2"),
        ("fsdp_half", "2.weight is not sharded while others are: shard the whole model"),
        ("fsdp_sparsify", "cannot sparsify a sharded model (0.weight is a DTensor)"),
        ("fsdp_moments", "0.weight is a DTensor, and a sharded model can only be scored, with Snip,"),
        ("fsdp_forecast", "0.weight is a DTensor, and a sharded model can only be scored, with Snip,"),
        ("fsdp_save", "0.weight is a DTensor, and a sharded model can only be scored, with Snip,"),
        ("fsdp_rescale", "cannot rescale a sharded model (0.weight is a DTensor)"),
        ("fsdp_effective", "0.weight is a DTensor, and a sharded model can only be scored, with Snip,"),
        ("sharded_masks_of_a_whole_model", "the mask of 0.weight is sharded and the model is not"),
        ("save_sharded", "the mask of 0.weight is sharded: bring the masks together"),
        ("not_finite", "scores of b are NaN or infinite"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_on_all_processes(case, message, found):
    for each in found:
        assert each[case].startswith("InputError: ")
        position = 0
        for piece in message.split(".*"):
            assert piece in each[case][position:], each[case]
            position = each[case].index(piece, position)


def test_an_error_of_the_users_code_is_raised_where_it_happened_and_reported_elsewhere(found):
    assert found[0]["ddp_broken_loader"] == "InputError: OSError: the disk is gone (process 1 of 2)"
    assert found[1]["ddp_broken_loader"] == "its own the disk is gone"


def test_a_failure_inside_of_a_sharded_model_ends_the_job(torchrun):
    done = torchrun(WORKER, "stuck")
    assert done.returncode != 0
    assert "InputError: the model cannot be run on the batch given, (float64 8x4, int64 8)" in done.stderr


@pytest.mark.parametrize("dimension", [0, 1, 2])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_sharded_scores_select_what_whole_ones_do(dimension, scope, found):
    assert [each[f"select {dimension} {scope}"] for each in found] == ["[]", "[]"]


def test_sharded_masks_count_compare_and_combine(found):
    assert [each["masks_compare"] for each in found] == ["compared", "compared"]


def test_a_whole_tensor_is_cut_like_a_sharded_one(found):
    assert torch.equal(found[0]["cut_without_talking"]["a"], torch.arange(35).reshape(7, 5))


def test_masks_of_a_sharded_model_are_saved_whole(folder, found):
    expected = alone("dense", pi.Magnitude(), sparsity=0.5)
    for rank in (0, 1):
        assert_equal(dict(pi.Masks.load(folder / f"masks-{rank}.safetensors")), expected)
    assert not (folder / "never.safetensors").exists()


def test_the_example_writes_the_same_masks_both_ways(torchrun, tmp_path):
    done = torchrun(WORKER.parents[1] / "examples" / "distributed.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    replicated, sharded = (pi.Masks.load(tmp_path / f"{way}.safetensors") for way in ("replicated", "sharded"))
    assert replicated.sparsity == pytest.approx(0.9, abs=1e-4)
    assert replicated.iou(sharded) > 0.999  # rounding can exchange two weights


def test_alone_there_is_nothing_to_share():
    mean = {"a": torch.ones(2)}
    assert groups_of(nn.Linear(2, 2)) == ()
    assert mean_over_processes(mean, 3, ()) is mean
    assert gathered(5, ()) == [5]
    assert agreed(len, ()) is len
    with pytest.raises(KeyError):
        together(lambda: {}["no"], ())


def test_a_wrapped_model_is_known_by_the_names_of_the_one_inside():
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        model = DistributedDataParallel(inner)
        for wrapped in (model, torch.compile(model, backend="eager")):
            assert uncompiled(wrapped) is inner
            assert list(pi.prunable(wrapped)) == ["0.weight"]
            assert groups_of(wrapped) == (model.process_group,)
        masks = pi.prune(inner, pi.Magnitude(), sparsity=0.5)
        with pytest.raises(pi.InputError, match="cannot rescale a model inside of DistributedDataParallel"):
            pi.rescale_(model, masks=masks)
        with pytest.raises(pi.InputError, match="cannot densify a model inside of DistributedDataParallel"):
            pi.densify_(model)
        with pytest.raises(pi.InputError, match="cannot load into a model inside of DistributedDataParallel"):
            pi.load("nowhere.safetensors", into=model)
    finally:
        dist.destroy_process_group()
