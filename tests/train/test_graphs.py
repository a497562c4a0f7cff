"""Steps that are recorded once and replayed. What a GPU records is the last test; the others stand in for one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from pruneinit import Masks, sparsify_
from pruneinit.train import Training, loop, train
from pruneinit.train.forward import set_rate_
from pruneinit.train.graphs import Repeated

SETTINGS = {
    "plain": Training(epochs=3, batch_size=16, lr=0.05),
    "with everything": Training(
        epochs=3, batch_size=16, lr=0.05, nesterov=True, warmup_epochs=1, label_smoothing=0.1, clip_norm=0.5
    ),
}


class Remembered:
    """Stands in for a graph: what is recorded is done again, on the memory that it was recorded with."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.started, self.recorded, self.replayed = refuses, 0, 0, 0

    def start(self, run):
        self.started += 1
        run()

    def record(self, run):
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.recorded += 1

        def replay():
            self.replayed += 1
            run()

        return replay


def pruned() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))
    return sparsify_(model, Masks({"0.weight": torch.rand(4, 1, 3, 3) < 0.4}))


def trained(dataset, training, device="cpu"):
    model = pruned()
    records = train(model, dataset, training, seed=3, device=device)
    return [replace(record, seconds=0.0) for record in records], model.state_dict()


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_recorded_training_is_the_training(settings, toy, monkeypatch):
    dataset, graph = toy(images=45), Remembered()
    expected = trained(dataset, SETTINGS[settings])
    monkeypatch.setattr(loop, "_updates", lambda job: Repeated(partial(loop._update, job), graph))
    records, values = trained(dataset, SETTINGS[settings])
    assert records == expected[0]
    assert all(torch.equal(values[name], tensor) for name, tensor in expected[1].items())
    # Two whole batches and a smaller one an epoch, which is never recorded.
    assert (graph.started, graph.recorded, graph.replayed) == (3, 1, 3)


def test_batches_are_copied_to_where_they_were_recorded():
    places, seen = set(), []

    def step(x, y, size):
        places.add(x.data_ptr())
        seen.append((x.tolist(), y.tolist(), size))

    repeated = Repeated(step, Remembered())
    for i in range(6):
        repeated(torch.full((2,), float(i)), torch.tensor([i, i]), 2)
        if i == 2:
            places.clear()
    assert len(places) == 1
    assert seen == [([i, i], [i, i], 2) for i in range(6)]


def test_other_shapes_are_stepped_as_they_are():
    graph, sizes = Remembered(), []
    repeated = Repeated(lambda x, y, size: sizes.append(len(x)), graph)
    for size in (4, 4, 1, 4, 4, 3, 4):
        repeated(torch.zeros(size), torch.zeros(size), size)
    assert sizes == [4, 4, 1, 4, 4, 3, 4]
    assert (graph.started, graph.recorded, graph.replayed) == (3, 1, 2)


def test_a_step_that_cannot_be_recorded_is_stepped_with_one_warning(toy, monkeypatch):
    expected = trained(toy(images=45), SETTINGS["plain"])
    graph = Remembered(refuses=True)
    monkeypatch.setattr(loop, "_updates", lambda job: Repeated(partial(loop._update, job), graph))
    with pytest.warns(UserWarning, match=r"cannot be recorded as a CUDA graph \(operation not") as warned:
        records, values = trained(toy(images=45), SETTINGS["plain"])
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)
    assert records == expected[0]
    assert all(torch.equal(values[name], tensor) for name, tensor in expected[1].items())


def test_the_setting_is_ignored_on_a_cpu(toy):
    expected = trained(toy(images=45), SETTINGS["plain"])
    assert trained(toy(images=45), replace(SETTINGS["plain"], cuda_graph=True))[0] == expected[0]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_learning_rate_in_memory_steps_as_a_number(settings):
    training, results = SETTINGS[settings], []
    for lr in (0.5, torch.tensor(0.5)):
        weight = nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = torch.optim.SGD(
            [weight], lr, momentum=0.9, nesterov=training.nesterov, weight_decay=training.weight_decay, fused=True
        )
        for rate in (0.5, 0.25, 0.125):
            set_rate_(optimizer, rate)
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
        results.append(weight.detach().clone())
    assert torch.equal(*results)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_gpu_learns_the_same_from_a_graph(settings, toy, recwarn):
    dataset = toy(images=165)
    records, values = trained(dataset, SETTINGS[settings], "cuda")
    found, learnt = trained(dataset, replace(SETTINGS[settings], cuda_graph=True), "cuda")
    assert not recwarn.list
    for name, tensor in values.items():
        torch.testing.assert_close(learnt[name], tensor, rtol=1e-4, atol=1e-5)
    assert found[-1].test_loss == pytest.approx(records[-1].test_loss, rel=1e-3)
