from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pruneinit.errors import InputError
from pruneinit.files import read_tensors
from pruneinit.train import World, distributed
from pruneinit.train.distributed import is_index, parallel, sync_buffers, together, total

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(scope="module")
def folders(run_worker, tmp_path_factory) -> dict[int, Path]:
    """The worker's cases, by one process and by two."""
    found = {size: tmp_path_factory.mktemp(f"processes{size}") for size in (1, 2)}
    run_worker("cases", found[1])
    run_worker("cases", found[2], processes=2)
    return found


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


@pytest.mark.parametrize("case", ["digits", "empty-share"])
def test_two_processes_learn_what_one_does(case, folders):
    alone, of_alone = read_tensors(folders[1] / f"{case}-0.safetensors")
    first, of_first = read_tensors(folders[2] / f"{case}-0.safetensors")
    assert close(alone, first) < 1e-5
    for one, two in zip(of_alone["records"], of_first["records"], strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-5)
        assert (two["train_accuracy"], two["test_accuracy"]) == (one["train_accuracy"], one["test_accuracy"])


@pytest.mark.parametrize("case", ["digits", "empty-share", "pruned", "resumed"])
def test_all_processes_end_with_the_same_model_and_records(case, folders):
    first, of_first = read_tensors(folders[2] / f"{case}-0.safetensors")
    second, of_second = read_tensors(folders[2] / f"{case}-1.safetensors")
    assert close(first, second) == 0
    assert of_first == of_second


def test_only_the_first_process_writes_and_calls_back(folders):
    assert (folders[2] / "written-0.safetensors").exists()
    assert not (folders[2] / "written-1.safetensors").exists()
    calls = (folders[2] / "calls-0.txt").read_text().splitlines()
    assert calls == (folders[1] / "calls-0.txt").read_text().splitlines()
    assert calls.count("epoch 2") == calls.count("step 2 12/12") == 1
    assert (folders[2] / "calls-1.txt").read_text() == ""


@pytest.mark.parametrize("size", [1, 2], ids=["one process", "two processes"])
def test_a_resumed_training_ends_with_the_same_bits(size, folders):
    whole, of_whole = read_tensors(folders[size] / "pruned-0.safetensors")
    resumed, of_resumed = read_tensors(folders[size] / "resumed-0.safetensors")
    assert close(whole, resumed) == 0
    assert of_whole == of_resumed


@pytest.mark.parametrize(
    "case, message",
    [
        ("damaged", r"not a whole safetensors file.*\(process 0 of 2\)$"),
        ("other-masks", "cannot train together: process 0 has settings, data and masks .*, process 1 has"),
    ],
)
def test_what_is_wrong_with_one_process_stops_all_with_the_same_words(case, message, folders):
    errors = [(folders[2] / f"{case}-{rank}.txt").read_text() for rank in (0, 1)]
    assert errors[0] == errors[1]
    assert re.search(message, errors[0])


def test_without_torchrun_nothing_is_set_up(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    with distributed("cpu") as world:
        assert world == World(0, 1, torch.device("cpu"))
        assert not dist.is_initialized()


def test_a_gpu_is_taken_where_there_is_one():
    with distributed() as world:
        assert world.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_one_process_under_torchrun_needs_no_group(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.setenv(name, "1" if name == "WORLD_SIZE" else "0")
    with distributed("cpu") as world:
        assert world.size == 1
        assert not dist.is_initialized()


def test_half_an_environment_is_named(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match=r"LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"), distributed("cpu"):
        pass


def test_an_environment_that_is_no_number(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(InputError, match="WORLD_SIZE must be a whole number, got 'two'"), distributed("cpu"):
        pass


@pytest.mark.parametrize(
    "device, message",
    [
        ("gpu", "unknown device 'gpu'"),
        ("cuda:99", "cuda:99 does not exist"),
        ("meta", "device 'meta' cannot be used on this machine: expected 'cpu'"),
        ("vulkan", "device 'vulkan' cannot be used on this machine: expected 'cpu'"),
        ("hpu", "device 'hpu' cannot be used on this machine: expected 'cpu'"),
    ],
)
def test_a_device_that_is_not_there(device, message):
    with pytest.raises(InputError, match=message), distributed(device):
        pass


def test_alone_there_is_nothing_to_share():
    model, tensor = nn.BatchNorm1d(2), torch.ones(2)
    world = World()
    assert parallel(model, world) is model
    assert total(tensor, world) is tensor
    sync_buffers(model, world)
    with pytest.raises(InputError, match="stop"):
        together(lambda: (_ for _ in ()).throw(InputError("stop")), world)


@pytest.mark.parametrize(
    "buffer, expected",
    [
        (torch.tensor([1, 2]), True),
        (torch.tensor([True]), True),
        (torch.zeros(0, dtype=torch.int64), True),
        (torch.tensor(3), False),
        (torch.tensor([1.0]), False),
        (torch.tensor([1j]), False),
    ],
    ids=["indices", "mask", "nothing kept", "counter", "running mean", "complex"],
)
def test_which_buffers_are_indices(buffer, expected):
    assert is_index(buffer) is expected
