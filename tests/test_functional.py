"""Compiled models: known by the names of the plain ones, and run eagerly while weights are replaced."""

import pytest
import torch
from torch import nn

import pruneinit as pi


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.inner(torch.tanh(x))


def plain():
    torch.manual_seed(0)
    return nn.Sequential(Block(), Block(), nn.Linear(4, 3))


def compiled(how, batch):
    model, options = plain(), {"backend": "aot_eager"}  # traces like the default, and needs no compiler
    if how == "in-place":
        model.compile(**options)
    elif how == "inside":
        model[0] = torch.compile(model[0], **options)
    else:
        model = torch.compile(model, **options)
    model(batch[0]).sum().backward()
    model.zero_grad()
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch's own, where a compiled graph breaks
@pytest.mark.parametrize("how", ["around", "in-place", "inside"])
def test_a_compiled_model_is_what_the_plain_one_is(how, batch):
    results = []
    for model in (plain(), compiled(how, batch)):
        masks = pi.prune(model, pi.Snip(), [batch], sparsity=0.5)
        values = [*pi.score(model, pi.Snip(), [batch]).values()]
        values += [torch.tensor(list(pi.second_moments(model, [batch], masks=masks).values()))]
        assert len(pi.stabilize_residuals_(model, batch[0])) == 2
        assert pi.sparsify_(pi.rescale_(model, [batch], masks=masks), masks) is model
        values += [*pi.current_masks(model).values(), model(batch[0])]
        assert pi.densify_(model) is model
        results.append([*values, model(batch[0])])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)


def test_masks_and_files_of_a_compiled_model_fit_the_plain_one_and_back(batch, tmp_path):
    model, other = compiled("around", batch), plain()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    assert list(masks) == ["0.inner.weight", "1.inner.weight", "2.weight"]
    pi.sparsify_(other, masks)
    pi.save(pi.sparsify_(model, masks), tmp_path / "a")
    assert torch.equal(pi.load(tmp_path / "a", into=plain())(batch[0]), other(batch[0]))
    pi.save(other, tmp_path / "b")
    fresh = torch.compile(plain(), backend="aot_eager")
    assert pi.load(tmp_path / "b", into=fresh) is fresh
    assert torch.equal(fresh(batch[0]), other(batch[0]))


@pytest.mark.parametrize("initialize", [pi.edge_of_chaos_, pi.orthogonal_, pi.delta_orthogonal_])
def test_a_compiled_model_is_initialised_like_the_plain_one(initialize):
    weights = []
    for model in (plain(), torch.compile(plain(), backend="aot_eager")):
        assert initialize(model, "tanh", generator=torch.Generator().manual_seed(1)) is model
        weights.append([p.clone() for p in model.parameters()])
    assert all(map(torch.equal, *weights))


def test_scores_within_inference_mode_are_those_outside(batch):
    model = plain()
    expected = pi.score(model, pi.Snip(), [batch])
    with torch.inference_mode():
        found = pi.score(model, pi.Snip(), [batch])
    assert all(torch.equal(found[name], score) for name, score in expected.items())
