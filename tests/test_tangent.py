"""What the tangent kernel says can be learnt, against one made gradient by gradient and descended step by step."""

import pytest
import torch
from torch import nn

import pruneinit as pi
from pruneinit import tangent
from pruneinit.models import build
from pruneinit.tangent import kernel_of, learnable, learnable_share
from pruneinit.trainability import trainability


def network(depth=6, activation="tanh"):
    torch.manual_seed(0)
    model = build("mlp", input_shape=(1, 4, 4), classes=3, depth=depth, width=12, activation=activation)
    return pi.edge_of_chaos_(model, generator=torch.Generator().manual_seed(0)).double()


def batch(size=40, classes=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 1, 4, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(classes, (size,), generator=generator)


def plain(model, x, y, steps=tangent.STEPS):
    """The share learnt, from one gradient an output, and by gradient descent on the linearised outputs."""
    rows = []
    for output in model(x[:16]).flatten():
        found = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in found]))
    kernel = torch.stack(rows) @ torch.stack(rows).T
    targets = (nn.functional.one_hot(y[:16], 3).double() - 1 / 3).flatten()
    outputs, rate = torch.zeros_like(targets), 1 / torch.linalg.eigvalsh(kernel)[-1]
    for _ in range(steps):
        outputs = outputs + rate * kernel @ (targets - outputs)
    return float(1 - (targets - outputs).square().sum() / targets.square().sum())


def test_of_a_dense_network():
    model, data = network(), batch()
    expected = plain(model, *data)
    assert 0.5 < expected < 0.9999
    assert pi.diagnose(model, [data]).learnable["dense"] == pytest.approx(expected)
    assert trainability(model, data)["learnable"] == pytest.approx(expected)


@pytest.mark.parametrize("method", [None, "layer", "neuron"])
def test_of_a_pruned_network_it_is_that_of_the_survivors(method):
    model, data = network(), batch()
    masks = pi.prune(model, pi.Magnitude(), [data], sparsity=0.5, scope="layer")
    sparse = network()
    if method:
        pi.rescale_(sparse, [data], method=method, masks=masks)
    pi.sparsify_(sparse, masks)
    stage = "rescaled" if method else "pruned"
    expected = plain(sparse, *data)
    assert pi.diagnose(sparse, [data]).learnable[stage] == pytest.approx(expected)
    shown = pi.diagnose(model, [data], masks).learnable
    if method != "neuron" and stage in shown:  # by layer is what a dense model with masks is shown with
        assert shown[stage] == pytest.approx(expected)
    if method:
        pi.rescale_(model, [data], method=method, masks=masks)
        assert pi.diagnose(model, [data], masks).learnable["pruned"] == pytest.approx(expected)


def test_a_network_that_sends_all_examples_one_way_learns_little():
    model, data = network(depth=20), batch()
    whole = pi.diagnose(model, [data]).learnable["dense"]
    with torch.no_grad():
        for layer in range(2, 20):
            weight = model.get_submodule(f"fc{layer}").weight
            weight.copy_(weight[:1].expand_as(weight))
    assert pi.diagnose(model, [data]).learnable["dense"] < whole / 2


def test_it_does_not_depend_on_the_scale_of_the_outputs():
    class Times(nn.Module):
        def forward(self, x):
            return 1000 * x

    model, data = network(), batch()
    before = pi.diagnose(model, [data]).learnable["dense"]
    assert pi.diagnose(nn.Sequential(model, Times()), [data]).learnable["dense"] == pytest.approx(before)


def test_a_sample_of_the_entries_tells_much_the_same(monkeypatch):
    torch.manual_seed(0)
    model = build("mlp", input_shape=(1, 4, 4), classes=3, depth=5, width=100, activation="relu").double()
    data = batch()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    before = pi.diagnose(model, [data], masks).learnable["pruned"]
    monkeypatch.setattr(tangent, "SAMPLE", 1_000)
    assert pi.diagnose(model, [data], masks).learnable["pruned"] == pytest.approx(before, abs=0.1)


def test_examples_that_batch_normalisation_couples_are_run_together():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = batch(16)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = {name: model.get_parameter(name).detach() for name in pi.prunable(model)}
    found = learnable_share(model, (x, y), whole, {}, norm="batch")
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    model.train()
    assert found == pytest.approx(plain(model, x, y))


def test_gradients_that_are_too_large_to_be_held_together_are_gone_through_one_by_one(monkeypatch):
    model, data = network(depth=3), batch()
    before = pi.diagnose(model, [data]).learnable["dense"]
    monkeypatch.setattr(tangent, "AT_ONCE", 0)
    assert pi.diagnose(model, [data]).learnable["dense"] == pytest.approx(before)


def test_an_operation_that_cannot_be_batched_is_gone_through_one_by_one():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * float(gradient.numpy().size > 0)

    class Layer(nn.Module):
        def forward(self, x):
            return Odd.apply(x)

    model, data = network(depth=3), batch()
    before = pi.diagnose(model, [data]).learnable["dense"]
    assert pi.diagnose(nn.Sequential(model, Layer()), [data]).learnable["dense"] == pytest.approx(before)


def test_of_many_classes_those_that_occur_are_looked_at():
    model, x = nn.Linear(5, 1000).double(), torch.randn(4, 5, dtype=torch.float64)
    kernel, targets = kernel_of(model, x, torch.tensor([3, 999, 3, 500]), list(model.parameters()))
    assert kernel.shape == (40, 40)
    assert targets.view(4, 10).argmax(1).tolist() == [0, 2, 0, 1]  # of the classes 3, 500, 999, and 0 to 7 but for 3
    assert targets.view(4, 10)[0, 0] == pytest.approx(0.999)


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return {"logits": self.layer(x)}


def test_what_rescaling_would_do_is_looked_at_where_the_network_is_not_expected_to_learn_without():
    model, data = network(depth=30), batch()
    masks = pi.prune(model, pi.Magnitude(), [data], sparsity=0.8, scope="layer")
    poor = pi.diagnose(model, [data], masks).learnable
    assert list(poor) == ["pruned", "rescaled", "by neuron"]
    assert max(poor["pruned"], poor["rescaled"]) < 0.5
    assert list(
        pi.diagnose(network(depth=4), [data], pi.prune(network(depth=4), pi.Magnitude(), sparsity=0.1)).learnable
    ) == ["pruned"]


@pytest.mark.parametrize("kind", ["normalised", "with shortcuts"])
def test_of_networks_that_are_not_plain_nothing_is_said(kind):
    name, width = ("vgg11_bn", 2) if kind == "normalised" else ("preact_resnet20", 2)
    model = build(name, input_shape=(3, 32, 32), classes=10, width=width)
    found = pi.diagnose(model, [(torch.randn(4, 3, 32, 32), torch.arange(4))], norm="batch")
    assert found.learnable == {}
    assert found.trains is None


@pytest.mark.parametrize(
    "model, y",
    [
        (Both(), torch.zeros(6).long()),
        (nn.Sequential(nn.Linear(4, 2), nn.Unflatten(1, (2, 1))), torch.zeros(6).long()),
        (nn.Sequential(nn.Linear(4, 2)), torch.rand(6)),
        (nn.Sequential(nn.Linear(4, 2)), torch.zeros(6, 2).long()),
        (nn.Sequential(nn.Linear(4, 2)), torch.full((6,), 7)),
        (nn.Sequential(nn.Linear(4, 1)), torch.zeros(6).long()),
    ],
    ids=["dictionary", "three dimensions", "numbers to fit", "many labels", "no such class", "one class"],
)
def test_of_what_is_no_classifier_nothing_is_said(model, y):
    (name, *_) = pi.prunable(model)
    whole = {name: model.get_parameter(name).detach()}
    assert learnable_share(model, (torch.randn(6, 4), y), whole, {}) is None


def test_of_a_loss_of_ones_own_nothing_is_said():
    found = pi.diagnose(network(), [batch()], loss=lambda net, part: nn.functional.cross_entropy(net(part[0]), part[1]))
    assert found.learnable == {}


@pytest.mark.parametrize("kernel", [torch.zeros(2, 2), torch.full((2, 2), torch.nan)], ids=["zero", "not finite"])
def test_from_a_kernel_that_is_none_nothing_is_learnt(kernel):
    assert learnable(kernel, torch.ones(2)) == 0
