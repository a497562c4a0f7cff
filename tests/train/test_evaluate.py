from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pruneinit.data import normalize
from pruneinit.errors import InputError
from pruneinit.train import evaluate


def twin(model, split, dataset):
    """One image at a time, summed in Python."""
    loss, hits = 0.0, 0
    for image, label in zip(split.images, split.labels.tolist(), strict=True):
        scores = model(normalize(image[None], dataset))[0].detach().double()
        loss -= torch.log_softmax(scores, 0)[label].item()
        hits += int(scores.argmax()) == label
    return loss / len(split), hits / len(split)


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_every_batch_size_gives_the_plain_sums(toy, mlp, batch_size):
    dataset, model = toy(), mlp()
    loss, accuracy = evaluate(model, dataset.test, dataset, batch_size)
    expected = twin(model, dataset.test, dataset)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert accuracy == expected[1]


def test_the_model_is_left_as_it_was(toy):
    dataset = toy()
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(8, 4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = evaluate(model, dataset.test, dataset)
    assert evaluate(model, dataset.test, dataset) == first, "dropout must be off"
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_empty_split_is_refused(toy, mlp):
    dataset = toy()
    empty = dataset.test.take(torch.tensor([], dtype=torch.int64))
    with pytest.raises(InputError, match="split to evaluate on is empty"):
        evaluate(mlp(), empty, dataset)


def test_a_diverged_model_gives_nan_and_no_error(toy, mlp):
    dataset, model = toy(), mlp()
    nn.init.constant_(model[1].weight, float("nan"))
    loss, accuracy = evaluate(model, dataset.test, replace(dataset, name="nan"))
    assert loss != loss
    assert 0 <= accuracy <= 1
