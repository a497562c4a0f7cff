"""Effective masks against brute force, and what holds for all networks."""

import pytest
import torch
from torch import nn

import pruneinit as pi
from networks import Net
from problems import IDS, PROBLEMS
from pruneinit.functional import call, effective_weights
from pruneinit.reach import reacher


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def by_force(net, masks):
    """A weight is alive if the twin's output changes when it is removed."""
    generator = torch.Generator().manual_seed(0)
    weights = {n: (torch.rand(m.shape, generator=generator, dtype=torch.float64) + 0.5) * m for n, m in masks.items()}
    x = torch.rand(1, *net.shape, generator=generator, dtype=torch.float64) + 0.5
    before = net.twin(x, weights)
    alive = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        for index in mask.nonzero().tolist():
            without = weights[name].clone()
            without[tuple(index)] = 0
            after = net.twin(x, weights | {name: without})
            alive[name][tuple(index)] = bool((before - after > 1e-9 * before).any())
    return pi.Masks(alive)


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_the_live_weights_of_generated_networks_are_those_whose_removal_changes_the_output(start):
    some_died = 0
    for seed in range(start, start + 20):
        net = Net(seed)
        masks = pi.prune(net, pi.Random(seed), sparsity=(0.3, 0.6, 0.8, 0.9)[seed % 4], allow_empty=True)
        batch = torch.randn(2, *net.shape), torch.zeros(2, dtype=torch.long)
        found = pi.effective_masks(net, [batch], masks)
        assert found == by_force(net, masks), f"seed {seed}"
        some_died += found.kept < masks.kept
    assert some_died > 5


def without_constants(model):
    """Biases and running means set to zero, so that a dead weight can change nothing at all."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model.double().eval()


NETWORKS = [
    ("resnet20", {"width": 4}, (3, 8, 8)),
    ("preact_resnet20", {"width": 4}, (3, 8, 8)),
    ("wrn-10-1", {}, (3, 8, 8)),
    ("vgg16", {"width": 4}, (3, 32, 32)),
    ("vcnn", {"depth": 6, "width": 8}, (1, 8, 8)),
    ("mlp", {"depth": 5, "width": 20}, (1, 4, 4)),
]


@pytest.mark.parametrize("name, options, shape", NETWORKS, ids=[name for name, _, _ in NETWORKS])
@pytest.mark.parametrize("sparsity", [0.8, 0.95])
def test_without_its_dead_weights_a_network_computes_the_same(name, options, shape, sparsity):
    torch.manual_seed(0)
    model = without_constants(pi.models.build(name, input_shape=shape, classes=10, **options))
    x, y = torch.randn(2, *shape, dtype=torch.float64), torch.tensor([1, 2])
    masks = pi.prune(model, pi.Random(), sparsity=sparsity)
    found = pi.effective_masks(model, [(x, y)], masks)
    assert 0 < found.kept < masks.kept
    assert torch.allclose(output(model, x, masks), output(model, x, found), rtol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_alive_or_dead_is_what_the_removal_of_a_single_weight_says(problem):
    torch.manual_seed(0)
    model = without_constants(problem.model())
    masks = pi.prune(model, pi.Random(3), sparsity=0.75)
    x, y = problem.batch(64)
    found = pi.effective_masks(model, [(x, y)], masks)
    before = output(model, x, masks)
    for name, mask in masks.items():
        for index in mask.nonzero().tolist():
            less = mask.clone()
            less[tuple(index)] = False
            changed = not torch.allclose(before, output(model, x, pi.Masks({**masks, name: less})), rtol=1e-13, atol=0)
            alive = bool(found[name][tuple(index)])
            # Attention counts queries and keys as paths also where there are no values to weigh.
            assert alive == changed or (alive and problem.name == "attention"), (name, index)


def output(model, x, masks):
    with torch.no_grad():
        return call(model, x, lambda net, inputs: net(inputs), effective_weights(model, masks))


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_effective_masks_are_smaller_stay_so_and_grow_with_the_masks(problem):
    model, batch = problem.model(), problem.batch()
    before = None
    for sparsity in (0.95, 0.8, 0.5, 0.0):
        masks = pi.prune(model, pi.Random(1), sparsity=sparsity, allow_empty=True)
        found = pi.effective_masks(model, [batch], masks)
        assert (found & masks) == found
        assert pi.effective_masks(model, [batch], found) == found
        assert before is None or (found & before) == before
        before = found


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_model_is_left_as_it_was(problem):
    model, batch = problem.model().train(), problem.batch()
    next(iter(model.parameters())).grad = torch.ones_like(next(iter(model.parameters())))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    x, random = batch[0].clone(), torch.get_rng_state()
    pi.effective_masks(model, [batch], pi.prune(model, pi.Random(), sparsity=0.5))
    pi.prune(model, pi.Random(), [batch], sparsity=0.8, effective=True)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(batch[0], x)
    assert [p.grad is None for p in model.parameters()] == [False] + [True] * (len(list(model.parameters())) - 1)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_sparsified_and_rescaled_model_has_the_masks_of_the_dense_one(problem):
    model, batch = problem.model(), problem.batch()
    masks = pi.prune(model, pi.Random(2), sparsity=0.6)
    expected = pi.effective_masks(model, [batch], masks)
    pi.sparsify_(pi.rescale_(model, masks=masks), masks)
    assert pi.effective_masks(model, [batch]) == expected
    # What is gone does not come back by masks that ask for it.
    assert pi.effective_masks(model, [batch], pi.Masks({n: torch.ones_like(m) for n, m in masks.items()})) == expected


def test_a_stabilised_network():
    model = pi.models.build("resnet20", input_shape=(3, 8, 8), classes=10, width=4)
    batch = torch.randn(2, 3, 8, 8), torch.tensor([1, 2])
    masks = pi.prune(model, pi.Random(2), sparsity=0.9)
    expected = pi.effective_masks(model, [batch], masks)
    pi.stabilize_residuals_(model, batch[0])
    assert pi.effective_masks(model, [batch], masks) == expected


def test_masks_of_some_weights_leave_the_others_whole():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    some = pi.Masks({"1.weight": torch.tensor([[True, False, False], [True, False, False]])})
    assert pi.effective_masks(model, [(torch.randn(2, 3), torch.tensor([0, 1]))], some) == some


def test_a_reacher_serves_many_masks():
    problem = PROBLEMS[1]
    model, batch = problem.model(), problem.batch()
    alive = reacher(model, iter([batch]))
    for sparsity in (0.9, 0.3, 0.7):
        masks = pi.prune(model, pi.Random(), sparsity=sparsity)
        assert alive(masks) == pi.effective_masks(model, [batch], masks)
    everything = pi.prune(model, pi.Random(), sparsity=0.0)
    assert alive(None) == pi.effective_masks(model, [batch], everything)


KEPT = {"weight": torch.ones(2, 3).bool()}


@pytest.mark.parametrize(
    "batches, masks, loss, message",
    [
        ([(torch.zeros(1, 3), torch.zeros(1).long())], None, None, "the model is dense: pass the masks"),
        ([], KEPT, None, "there are no batches"),
        ([(torch.zeros(1, 7), torch.zeros(1).long())], KEPT, None, "cannot be run on the batch given"),
        ([(torch.zeros(1, 3), torch.zeros(1).long())], {"weight": torch.ones(3, 2).bool()}, None, "the weight has"),
        ([(torch.zeros(1, 3), None)], KEPT, lambda net, batch: net(batch[0]).sum().item(), "cannot be followed back"),
        ([(torch.zeros(1, 3), None)], KEPT, lambda net, batch: net(torch.zeros(1, 3)), "cannot be followed back"),
    ],
)
def test_impossible_requests(batches, masks, loss, message):
    kwargs = {} if loss is None else {"loss": loss}
    with pytest.raises(pi.InputError, match=message):
        pi.effective_masks(nn.Linear(3, 2), batches, None if masks is None else pi.Masks(masks), **kwargs)
