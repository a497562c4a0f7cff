import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.files import write_tensors
from pruneinit.models import build
from pruneinit.reparametrize import factor
from pruneinit.weights import prunable


def finished(problem):
    """A pruned, rescaled, sparsified model with values that no initialisation would give."""
    model = problem.model()
    masks = pi.prune(model, pi.Random(seed=4), sparsity=0.6, scope="layer")
    pi.sparsify_(pi.rescale_(model, masks=masks, method="tap"), masks)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.mul_(1.25)
    return model, masks


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("target", ["fresh", "sparsified-otherwise"])
def test_a_saved_model_loads_into_a_fresh_one(problem, target, tmp_path):
    model, masks = finished(problem)
    path = tmp_path / "net.safetensors"
    pi.save(model, path)
    other = problem.model(seed=8)
    if target == "sparsified-otherwise":
        pi.sparsify_(other, pi.prune(other, pi.Random(seed=9), sparsity=0.3))
    assert pi.load(path, into=other) is other
    x = problem.batch()[0]
    assert torch.equal(other.eval()(x), model.eval()(x))
    assert pi.current_masks(other) == masks
    assert {k: v.shape for k, v in other.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    for name in masks:
        assert torch.equal(factor(other, name), factor(model, name))


def test_a_dense_model_is_saved_too(tmp_path):
    model = PROBLEMS[0].model()
    pi.save(model, tmp_path / "a")
    x = PROBLEMS[0].batch()[0]
    assert torch.equal(pi.load(tmp_path / "a", into=PROBLEMS[0].model(seed=3))(x), model(x))


def test_a_dense_file_makes_a_sparsified_model_dense_again(tmp_path):
    dense = PROBLEMS[0].model()
    pi.save(dense, tmp_path / "a")
    model, _ = finished(PROBLEMS[0])
    pi.load(tmp_path / "a", into=model)
    assert len(pi.current_masks(model)) == 0
    assert type(model[0]) is nn.Linear


def test_the_file_is_as_small_as_the_survivors(tmp_path):
    model = build("resnet32", input_shape=(3, 32, 32), classes=10, width=32)
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.98, scope="layer"))
    pi.save(model, tmp_path / "net.safetensors")
    total = sum(w.numel for w in prunable(model).values())
    # 2 % of the weights, an eighth of a byte each for the masks, and the normalisation layers
    assert (tmp_path / "net.safetensors").stat().st_size < 4 * total * 0.02 + total / 8 + 120_000


def test_nothing_is_pickled(tmp_path):
    model, _ = finished(PROBLEMS[0])
    pi.save(model, tmp_path / "a")
    data = (tmp_path / "a").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(json.loads(header["__metadata__"]["pruneinit"])["metadata"])["kind"] == "model"


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: nn.Sequential(nn.Linear(5, 7)), r"the model has no 2\.(weight|bias); the model has no 2"),
        (lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).double(),
         r"0.bias is float64 \(7,\) in the file, float64 \(8,\) in the model"),
        (lambda: PROBLEMS[0].model().float(), r"0.bias is float64 \(7,\) in the file, float32 \(7,\) in the model"),
    ],
    ids=["fewer-layers", "other-width", "other-dtype"],
)  # fmt: skip
def test_a_file_of_another_model_is_refused_and_the_model_left_alone(other, message, tmp_path):
    model, _ = finished(PROBLEMS[0])
    pi.save(model, tmp_path / "a")
    target = other()
    before = state(target)
    with pytest.raises(pi.InputError, match=message):
        pi.load(tmp_path / "a", into=target)
    after = state(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "masks", "missing"])
def test_a_damaged_file_leaves_the_model_alone(damage, tmp_path):
    model, masks = finished(PROBLEMS[0])
    path = tmp_path / "a"
    pi.save(model, path)
    data = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(data[:-9])
    elif damage == "flip":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif damage == "foreign":
        path.write_bytes(b"not a model" * 100)
    elif damage == "masks":
        masks.save(path)
    else:
        os.unlink(path)
    target, _ = finished(PROBLEMS[0])
    before = state(target)
    with pytest.raises(pi.InputError):
        pi.load(path, into=target)
    after = state(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_training_goes_on_after_loading(tmp_path):
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model, _ = finished(problem)
    pi.save(model, tmp_path / "a")
    other = pi.load(tmp_path / "a", into=problem.model(seed=8))
    for net in (model, other):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(3):
            x, y = problem.batch(seed=step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    x = problem.batch()[0]
    assert torch.equal(model(x), other(x))


class MaybeTied(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        if tied:
            self.b.weight = self.a.weight


@pytest.mark.parametrize("tied", [True, False], ids=["tied-file", "untied-file"])
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_a_file_with_other_tied_weights_is_refused_and_the_model_left_alone(tied, sparse, tmp_path):
    model, target = MaybeTied(tied), MaybeTied(not tied)
    if sparse:
        pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))
    pi.save(model, tmp_path / "a")
    before = state(target)
    with pytest.raises(pi.InputError, match="ties"):
        pi.load(tmp_path / "a", into=target)
    after = state(target)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_file_with_another_librarys_parametrisation_needs_it_in_the_model(tmp_path):
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    pi.save(model, tmp_path / "a")
    target = nn.Sequential(nn.Linear(4, 4))
    before = state(target)
    with pytest.raises(pi.InputError, match="the model has no 0.parametrizations.weight.original0"):
        pi.load(tmp_path / "a", into=target)
    assert all(torch.equal(v, before[k]) for k, v in state(target).items())
    same = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    x = torch.randn(2, 4)
    assert torch.equal(pi.load(tmp_path / "a", into=same)(x), model(x))


def test_a_folder_is_no_file_to_save_to(tmp_path):
    with pytest.raises(pi.InputError, match="it is a folder"):
        pi.save(nn.Linear(2, 2), tmp_path)


class Positions(nn.Module):
    """Adds a table that is a buffer, not persistent, of random values, and one that is made on the first run."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(4), persistent=False)
        self.register_buffer("made", None, persistent=False)
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        if self.made is None:
            self.made = torch.randn(len(x), 1)
        return self.layer(x + self.table) * self.made[: len(x)]


@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "fresh-but-run"])
def test_buffers_that_are_not_persistent_come_back(ran, tmp_path):
    model, x = nn.Sequential(Positions(), Positions()), torch.randn(3, 4)
    model[1].table = model[0].table
    expected = model(x)
    pi.save(model, tmp_path / "a")
    other = nn.Sequential(Positions(), Positions())
    if ran:
        other(torch.randn(5, 4))
    keys = list(other.state_dict())
    pi.load(tmp_path / "a", into=other)
    assert torch.equal(other(x), expected)
    assert other[0].table is other[1].table
    assert list(other.state_dict()) == keys


@pytest.mark.parametrize("before", [True, False])
def test_frozen_parameters_are_frozen_after_loading_and_others_are_not(before, tmp_path):
    model, _ = finished(PROBLEMS[0])
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    pi.save(model, tmp_path / "a")
    other = PROBLEMS[0].model(seed=8).requires_grad_(before)
    pi.load(tmp_path / "a", into=other)
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [p.requires_grad for p in pi.densify_(other)[0].parameters()] == [False, False]


def test_a_file_of_the_first_version_still_loads():
    layers = nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 3)
    layers[1].weight.requires_grad_(False)
    model = pi.load(Path(__file__).parent / "files" / "model-0.1.0.safetensors", into=nn.Sequential(*layers)).eval()
    output = model(torch.linspace(-1, 1, 20).view(2, 2, 5))
    expected = [[-0.182405651, 0.06848985, 0.294743359], [-0.386951327, 0.070540167, 0.650593042]]
    torch.testing.assert_close(output, torch.tensor(expected))
    assert dict(pi.current_masks(model).counts) == {"0.weight": (9, 18), "3.weight": (13, 27)}
    assert not layers[1].weight.requires_grad  # the file does not say


class Tied(nn.Module):
    """An embedding, and a layer whose weight it is: the name that comes first is not that of the layer."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.embed(tokens).mean(1))


TOKENS = torch.arange(6).view(2, 3)


@pytest.mark.parametrize("target", ["fresh", "sparsified-otherwise"])
def test_a_layer_tied_to_an_embedding_is_saved_and_loaded(target, tmp_path):
    model, other = Tied(), Tied()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    pi.rescale_(pi.sparsify_(model, masks))
    pi.save(model, tmp_path / "a")
    if target != "fresh":
        pi.sparsify_(other, pi.prune(other, pi.Random(), sparsity=0.3))
    pi.load(tmp_path / "a", into=other)
    assert torch.equal(other(TOKENS), model(TOKENS))
    assert pi.current_masks(other) == masks
    assert torch.equal(other.embed.weight, other.head.weight)


def test_a_file_of_a_tied_model_that_the_first_version_wrote_and_could_not_read_loads():
    model = pi.load(Path(__file__).parent / "files" / "tied-0.1.0.safetensors", into=Tied())
    expected = [
        [1.134770036, 1.321297765, 0.725863993, -0.50238651, 0.056680653, 1.910845637, -0.45530811],
        [-0.002585963, 1.835937977, -0.368212312, 0.254847854, 0.218119651, 2.16285944, 0.23096621],
    ]
    torch.testing.assert_close(model(TOKENS), torch.tensor(expected))
    assert dict(pi.current_masks(model).counts) == {"head.weight": (14, 28)}


def test_a_file_that_lacks_what_is_known_of_a_model_is_refused(tmp_path):
    write_tensors(tmp_path / "a", {"0.weight": torch.ones(1)}, {"kind": "model", "tied": []})
    with pytest.raises(pi.InputError, match="says nothing of chains, shared, signature: another version"):
        pi.load(tmp_path / "a", into=nn.Linear(2, 2))
