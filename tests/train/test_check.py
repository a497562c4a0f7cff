from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pruneinit.data import Dataset, Split
from pruneinit.errors import InputError
from pruneinit.train import Training, World, train
from pruneinit.train.check import check_fit


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x[:, 0, 0]), None


def flat(inputs=16, classes=4):
    return nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), nn.Flatten(), nn.Linear(inputs, classes))


WRONG = {
    "other input size": (
        lambda: flat(inputs=10),
        r"cannot take images of shape \[2, 1, 4, 4\] of 'toy': mat1 and mat2",
    ),
    "other channels": (lambda: nn.Conv2d(3, 4, 3), r"cannot take images of shape \[2, 1, 4, 4\]"),
    "too few classes": (lambda: flat(classes=3), r"gives 3 scores.*train labels of 'toy' go from 0 to 3"),
    "no flattening": (lambda: nn.Conv2d(1, 4, 3), r"gives torch.float32 of shape \[2, 4, 2, 2\] for 2 images"),
    "a tuple": (Tuple, "gives a tuple: expected a tensor of class scores"),
    "nothing to train": (lambda: flat().requires_grad_(False), "nothing to train"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "1.weight has no shape yet"),
    "no parameters": (lambda: nn.Flatten(), "nothing to train"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_model_that_does_not_fit_is_told_so_in_one_line_and_left_alone(case, toy):
    make, message = WRONG[case]
    model = make().eval()
    lazy = case == "lazy"
    before = {} if lazy else {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=message) as caught:
        train(model, toy(), Training(epochs=1, batch_size=8), seed=0, device="cpu")
    assert "\n" not in str(caught.value)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_labels_that_only_the_test_split_has(toy, mlp):
    dataset = toy()
    test = replace(dataset.test, labels=dataset.test.labels + 1)
    dataset = replace(dataset, test=test, classes=tuple("abcde"))
    with pytest.raises(InputError, match="gives 4 scores an image, but the test labels of 'toy' go from 1 to 4"):
        train(mlp(), dataset, Training(epochs=1), seed=0, device="cpu")


def test_a_model_that_fits_is_left_alone(toy):
    model = flat().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    check_fit(model, toy(), Training(batch_size=8), World())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))


@pytest.mark.parametrize(
    "images, batch_size, size, fits",
    [
        (41, 8, 1, False),
        (42, 8, 1, True),
        (40, 8, 1, True),
        (40, 1, 1, False),
        (42, 8, 2, False),
        (43, 8, 2, False),
        (41, 8, 2, False),
        (44, 8, 2, True),
        (40, 3, 2, False),
    ],
)
def test_a_batch_of_one_image_is_found_before_training_where_the_model_cannot_take_it(
    images, batch_size, size, fits, toy, mlp
):
    training, world = Training(batch_size=batch_size), World(size=size)
    dataset = toy(images=images)
    if batch_size >= size:
        check_fit(mlp(), dataset, training, world)
    if fits:
        check_fit(normalised(), dataset, training, world)
    else:
        with pytest.raises(InputError, match=r"more than 1 value.*batch_size=\d+ leaves a batch of one image"):
            check_fit(normalised(), dataset, training, world)


def test_fewer_images_in_a_batch_than_processes(toy, mlp):
    with pytest.raises(InputError, match="batch_size=2 is smaller than the number of processes, 3"):
        check_fit(mlp(), toy(), Training(batch_size=2), World(size=3))


def test_a_data_set_of_one_image(mlp):
    split = Split(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.tensor([2]))
    data = Dataset("one", split, split, tuple("abcd"), (0.5,), (0.5,))
    (record,) = train(mlp(), data, Training(epochs=1), seed=0, device="cpu")
    assert record.test_accuracy in (0.0, 1.0)
