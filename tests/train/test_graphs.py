"""Steps that are recorded once and replayed. What a GPU records is the last test; the others stand in for one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from pruneinit import Masks, sparsify_
from pruneinit.errors import InputError
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

    def __init__(self) -> None:
        self.started, self.rehearsed, self.recorded, self.replayed = 0, 0, 0, 0

    def start(self, run):
        self.started += 1
        run()

    def rehearse(self, run):
        self.rehearsed += 1
        run()

    def record(self, run):
        self.recorded += 1

        def replay():
            self.replayed += 1
            run()

        return replay

    @property
    def counts(self):
        return self.started, self.rehearsed, self.recorded, self.replayed


def nowhere():
    return {}


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
    monkeypatch.setattr(loop, "_updates", lambda job: Repeated(partial(loop._update, job), graph, nowhere))
    records, values = trained(dataset, SETTINGS[settings])
    assert records == expected[0]
    assert all(torch.equal(values[name], tensor) for name, tensor in expected[1].items())
    # Two whole batches and a smaller one an epoch, which is never recorded.
    assert graph.counts == (2, 1, 1, 3)


def test_batches_are_copied_to_where_they_were_recorded():
    places, seen = set(), []

    def step(x, y, size):
        places.add(x.data_ptr())
        seen.append((x.tolist(), y.tolist(), size))

    repeated = Repeated(step, Remembered(), nowhere)
    for i in range(6):
        repeated(torch.full((2,), float(i)), torch.tensor([i, i]), 2)
        if i == 2:
            places.clear()
    assert len(places) == 1
    assert seen == [([i, i], [i, i], 2) for i in range(6)]


def test_other_shapes_are_stepped_as_they_are():
    graph, sizes = Remembered(), []
    repeated = Repeated(lambda x, y, size: sizes.append(len(x)), graph, nowhere)
    for size in (4, 4, 1, 4, 4, 3, 4):
        repeated(torch.zeros(size), torch.zeros(size), size)
    assert sizes == [4, 4, 1, 4, 4, 3, 4]
    assert graph.counts == (2, 1, 1, 2)


def test_a_step_that_moves_a_tensor_is_refused():
    state = {"mean": torch.zeros(1), "steps": torch.zeros(1)}

    def step(x, y, size):
        state["mean"] = 0.9 * state["mean"] + x.mean()
        state["steps"] += 1

    repeated = Repeated(step, Remembered(), lambda: {name: tensor.data_ptr() for name, tensor in state.items()})
    repeated(torch.ones(2), torch.ones(2), 2)
    repeated(torch.ones(2), torch.ones(2), 2)
    with pytest.raises(InputError, match=r"new tensors in the place of mean, and .* change them in place"):
        repeated(torch.ones(2), torch.ones(2), 2)


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


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ON_GPU = {
    # Learning rates that are the same in both precisions.
    name: replace(one, lr=0.0625, gamma=0.5, warmup_epochs=0.0)
    for name, one in (SETTINGS | {"bf16": replace(SETTINGS["plain"], amp="bf16", channels_last=True)}).items()
}


class Dropping(nn.Module):
    """With dropout; and, where told so, a step that waits for the GPU."""

    def __init__(self, waits: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.waits, self.first, self.last = waits, nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        hidden = nn.functional.dropout(torch.relu(self.first(x.flatten(1))), training=self.training)
        return self.last(hidden * (2.0 if self.waits and hidden.sum().item() > 1e9 else 1.0))


@pytest.fixture
def exactly():
    """The same kernels each time, and float32 that is float32."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = before


@gpu
@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("settings", ON_GPU)
def test_a_gpu_learns_the_same_from_a_graph(settings, toy):
    dataset = toy(images=165)
    records, values = trained(dataset, ON_GPU[settings], "cuda")
    found, learnt = trained(dataset, replace(ON_GPU[settings], cuda_graph=True), "cuda")
    for name, tensor in values.items():
        torch.testing.assert_close(learnt[name], tensor, rtol=1e-4, atol=1e-5)
    assert found[-1].test_loss == pytest.approx(records[-1].test_loss, rel=1e-3)


@gpu
@pytest.mark.usefixtures("exactly")
def test_a_graph_draws_the_random_numbers_of_the_steps(toy):
    results = []
    for recorded in (False, True):
        model = Dropping(waits=False)
        train(model, toy(images=165), replace(ON_GPU["plain"], cuda_graph=recorded), seed=3, device="cuda")
        results.append(model.last.weight.detach())
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@gpu
def test_a_step_that_waits_for_the_gpu_is_refused_and_others_go_on(toy):
    training, stream = replace(ON_GPU["plain"], cuda_graph=True), torch.cuda.current_stream()
    with pytest.raises(InputError, match="waits for the GPU"):
        train(Dropping(waits=True), toy(images=165), training, seed=3, device="cuda")
    assert torch.cuda.current_stream() == stream
    assert len(train(Dropping(waits=False), toy(images=165), training, seed=3, device="cuda")) == training.epochs


@gpu
def test_a_recorded_training_goes_on_from_its_checkpoint(toy, tmp_path):
    training, dataset = replace(ON_GPU["plain"], cuda_graph=True), toy(images=165)
    expected = trained(dataset, training, "cuda")[0]

    class Killed(Exception):
        pass

    def kill(epoch):
        raise Killed

    with pytest.raises(Killed):
        train(pruned(), dataset, training, seed=3, device="cuda", checkpoint=tmp_path / "c", on_epoch=kill)
    found = train(pruned(), dataset, training, seed=3, device="cuda", checkpoint=tmp_path / "c")
    assert [one.test_loss for one in found] == pytest.approx([one.test_loss for one in expected], rel=1e-3)
