import contextlib
import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

import pruneinit as pi
from problems import IDS, PROBLEMS, Attention, TiedWeights
from pruneinit.reparametrize import stored
from pruneinit.weights import prunable, weight


def pruned(problem, sparsity=0.6, dtype=torch.float64):
    model = problem.model(dtype=dtype)
    masks = pi.prune(model, pi.Random(seed=5), sparsity=sparsity)
    return pi.sparsify_(model, masks), masks


def masked(problem, masks, dtype=torch.float64) -> nn.Module:
    """The twin: a dense model whose weights are multiplied by their masks before every step."""
    model = problem.model(dtype=dtype)
    for name, mask in masks.items():
        model.get_parameter(name).data *= mask
        model.get_parameter(name).register_hook(lambda grad, mask=mask: grad * mask)
    return model


def loss_of(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_gives_the_numbers_of_masked_dense_training(problem, optimizer):
    model, masks = pruned(problem)
    twin = masked(problem, masks)
    ours, theirs = (OPTIMIZERS[optimizer](m.parameters()) for m in (model, twin))
    for step in range(4):
        batch = problem.batch(seed=step)
        losses = []
        for net, opt in ((model, ours), (twin, theirs)):
            opt.zero_grad()
            loss = loss_of(net, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            opt.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for name, mask in masks.items():
        ours_dense = weight(model, name).detach()
        torch.testing.assert_close(ours_dense, twin.get_parameter(name).detach(), rtol=1e-8, atol=1e-12)
        assert ours_dense[~mask].count_nonzero() == 0


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_the_parameters_are_the_survivors(problem):
    model, masks = pruned(problem)
    assert sum(stored(model, name).numel() for name in masks) == masks.kept
    prunable_ids = {id(stored(model, name)) for name in masks}
    rest = sum(p.numel() for p in problem.model().parameters()) - masks.total
    assert sum(p.numel() for p in model.parameters() if id(p) in prunable_ids) == masks.kept
    assert sum(p.numel() for p in model.parameters()) == masks.kept + rest


def test_gradients_and_optimizer_state_have_the_size_of_the_survivors():
    model, masks = pruned(PROBLEMS[0])
    optimizer = torch.optim.AdamW(model.parameters())
    loss_of(model, PROBLEMS[0].batch()).backward()
    optimizer.step()
    parameter = stored(model, "0.weight")
    assert parameter.grad.shape == (masks.counts["0.weight"][0],)
    assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_deepcopy_is_independent_in_values_and_in_structure(problem):
    model, masks = pruned(problem)
    x = problem.batch()[0]
    model.eval()
    expected = model(x)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(model(x), expected)
    pi.densify_(other)  # must not take the property away from the class that the copy shares with the original
    assert torch.equal(model(x), expected)
    assert pi.current_masks(model) == masks
    assert len(pi.current_masks(other)) == 0


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_a_state_dict_round_trip(problem):
    model, masks = pruned(problem)
    other = pi.sparsify_(problem.model(seed=9), masks)
    other.load_state_dict(model.state_dict())
    x = problem.batch()[0]
    assert torch.equal(model.eval()(x), other.eval()(x))


@pytest.mark.parametrize("problem", PROBLEMS, ids=IDS)
def test_densify_gives_back_a_plain_model_of_the_same_function(problem):
    model, masks = pruned(problem)
    x = problem.batch()[0]
    expected = model.eval()(x)
    pi.densify_(model)
    torch.testing.assert_close(model.eval()(x), expected)
    assert type(model) is type(problem.model())
    assert [(n, p.shape) for n, p in model.named_parameters()] == [
        (n, p.shape) for n, p in problem.model().named_parameters()
    ]
    assert list(model.state_dict()) == list(problem.model().state_dict())
    assert all(model.get_parameter(n)[~m].count_nonzero() == 0 for n, m in masks.items())
    pickle.loads(pickle.dumps(model))


def test_an_optimizer_of_the_original_model_fits_a_densified_one():
    model, twin = PROBLEMS[0].model(), PROBLEMS[0].model()
    optimizer = torch.optim.Adam(twin.parameters())
    loss_of(twin, PROBLEMS[0].batch()).backward()
    optimizer.step()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    pi.rescale_(pi.sparsify_(pi.rescale_(model, masks=masks), masks))  # chains that come and go
    pi.densify_(copy.deepcopy(model))
    pi.densify_(model)
    other = torch.optim.Adam(model.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert all(other.state[p]["exp_avg"].shape == p.shape for p in model.parameters())


def test_bias_and_weight_of_a_stable_branch_come_back_in_order():
    model = nn.Sequential(*(PROBLEMS[IDS.index("residual")].model()[i] for i in (0, 1)))
    before = list(model.state_dict())
    pi.stabilize_residuals_(model, torch.zeros(1, 6).double())
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))
    assert list(pi.densify_(model).state_dict()) == before


def test_pickling_a_sparsified_model_says_how_to_save_it():
    model, _ = pruned(PROBLEMS[0])
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(model)


def test_tied_weights_stay_tied():
    model = TiedWeights()
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    pi.sparsify_(model, masks)
    assert stored(model, "first.weight") is stored(model, "second.weight")
    assert torch.equal(model.first.weight, model.second.weight)
    assert [n for n, _ in model.named_parameters()].count("second.parametrizations.weight.original") == 0
    pi.densify_(model)
    assert model.first.weight is model.second.weight


def test_torch_compile_gives_the_same_step():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model, _ = pruned(problem, dtype=torch.float32)
    batch = problem.batch(dtype=torch.float32)
    loss_of(model, batch).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    loss_of(torch.compile(model), batch).backward()
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-6)


def test_torch_export_gives_the_same_output():
    problem = PROBLEMS[0]
    model, _ = pruned(problem, dtype=torch.float32)
    x = problem.batch(dtype=torch.float32)[0]
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def test_bfloat16_autocast_trains_and_keeps_zeros():
    problem = PROBLEMS[IDS.index("conv-and-groups")]
    model, masks = pruned(problem, dtype=torch.float32)
    batch = problem.batch(dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(20):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(weight(model, n)[~m].count_nonzero() == 0 for n, m in masks.items())
    assert stored(model, "0.weight").dtype == torch.float32


def test_an_ema_copy_averages_the_survivors():
    model, _ = pruned(PROBLEMS[0])
    ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    before = stored(model, "0.weight").detach().clone()
    ema.update_parameters(model)
    with torch.no_grad():
        stored(model, "0.weight").add_(1)
    ema.update_parameters(model)
    torch.testing.assert_close(stored(ema.module, "0.weight").detach(), before + 0.5)
    assert pi.current_masks(ema.module) == pi.current_masks(model)


def test_a_layer_pruned_whole_still_runs_and_trains_its_bias():
    model = PROBLEMS[0].model()
    masks = pi.prune(model, pi.Magnitude(), sparsity=None, scope={"0.weight": 0.5, "2.weight": 0.0, "4.weight": 0.5})
    pi.sparsify_(model, masks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loss_of(model, PROBLEMS[0].batch()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    assert model[2].weight.shape == (6, 7)
    assert model[2].weight.count_nonzero() == 0


def test_attention_works_in_training_and_on_the_inference_fast_path():
    model = Attention()
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    twin = copy.deepcopy(model)
    for name, mask in masks.items():
        twin.get_parameter(name).data *= mask
    pi.sparsify_(model, masks)
    x = torch.randn(3, 4, 6)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            torch.testing.assert_close(model.train(mode)(x), twin.train(mode)(x))


def test_the_model_can_move_to_another_dtype():
    model, masks = pruned(PROBLEMS[0])
    model.to(torch.bfloat16)
    assert model(PROBLEMS[0].batch(dtype=torch.bfloat16)[0]).dtype == torch.bfloat16
    assert pi.current_masks(model) == masks


@pytest.mark.parametrize(
    "masks, message",
    [
        ({"0.weigth": torch.ones(7, 5).bool()}, "unknown weight in the masks '0.weigth'.*did you mean '0.weight'"),
        ({"0.weight": torch.ones(5, 7).bool()}, r"has shape \(5, 7\), the weight has \(7, 5\)"),
    ],
    ids=["name", "shape"],
)
def test_masks_of_another_model_are_refused_and_nothing_changes(masks, message):
    model = PROBLEMS[0].model()
    good = {"2.weight": torch.ones(6, 7).bool()}
    with pytest.raises(pi.InputError, match=message):
        pi.sparsify_(model, pi.Masks(good | masks))
    assert len(pi.current_masks(model)) == 0


def test_pruned_weights_cannot_come_back():
    model, _ = pruned(PROBLEMS[0])
    everything = pi.Masks({n: torch.ones(w.shape).bool() for n, w in prunable(model).items()})
    with pytest.raises(pi.InputError, match="cannot come back"):
        pi.sparsify_(model, everything)


def test_a_parametrisation_of_another_library_is_named():
    model = nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    with pytest.raises(pi.InputError, match=r"0.weight is already parametrised by _WeightNorm"):
        pi.sparsify_(model, pi.Masks({"0.weight": torch.ones(4, 4).bool()}))


@pytest.mark.parametrize("on", ["first", "second"])
def test_a_parametrisation_of_another_library_is_found_on_every_name_of_a_tied_weight(on):
    model = TiedWeights()
    torch.nn.utils.parametrizations.spectral_norm(model.get_submodule(on))
    x = torch.randn(4, 6)
    model.eval()
    before = model(x)
    masks = pi.Masks({"first.weight": torch.ones(6, 6).tril().bool()})
    for use in (
        lambda: pi.sparsify_(model, masks),
        lambda: pi.rescale_(model, masks=masks),
        lambda: pi.score(model, pi.Magnitude()),
        lambda: pi.second_moments(model, [(x, torch.zeros(4).long())]),
    ):
        with pytest.raises(pi.InputError, match=r"first.weight .*parametrised by _SpectralNorm"):
            use()
    assert torch.equal(model(x), before)


def test_a_layer_with_spectral_norm_that_has_two_names_can_be_scored():
    model = TiedWeights()
    model.second = torch.nn.utils.parametrizations.spectral_norm(model.first)
    assert pi.score(model, pi.Magnitude()).keys() == {"first.weight", "head.weight"}


def test_all_works_the_same_within_the_cache_of_parametrisations():
    problem = PROBLEMS[IDS.index("tied-weights")]
    batch, found = problem.batch(), []
    for cached in (False, True):
        model, _ = pruned(problem)
        with parametrize.cached() if cached else contextlib.nullcontext():
            model(batch[0])  # fills the cache
            scores = pi.score(model, pi.Snip(), [batch])
            fresh = pi.Magnitude()(model)
            masks = pi.select(scores, 0.8, within=pi.current_masks(model))
            moments = pi.second_moments(model, [batch], masks=masks)
            loss_of(model, batch).backward()  # what was read without gradients must not be in the cache
            gradient = stored(model, "first.weight").grad.clone()
            output = pi.rescale_(pi.sparsify_(model, masks))(batch[0])
            found.append([*scores.values(), *fresh.values(), torch.tensor(list(moments.values())), gradient, output])
    assert found[0][0].any()
    for plain, within in zip(*found, strict=True):
        torch.testing.assert_close(plain, within)


def test_a_model_that_caches_parametrisations_in_its_forward_pass_is_scored_with_the_overrides():
    class Caches(TiedWeights):
        def forward(self, x):
            with parametrize.cached():
                return super().forward(x)

    batch = PROBLEMS[0].batch(dtype=torch.float32)
    batch = (torch.randn(len(batch[1]), 6), batch[1])
    model, twin = Caches(), TiedWeights()
    twin.load_state_dict(model.state_dict())
    masks = pi.prune(model, pi.Random(), sparsity=0.5)
    for net in (model, twin):
        pi.sparsify_(net, masks)
    with parametrize.cached():
        model(batch[0])
        scores = pi.score(model, pi.Snip(), [batch])
    assert all(torch.equal(scores[n], s) for n, s in pi.score(twin, pi.Snip(), [batch]).items())


def test_a_weight_tied_to_an_embedding_keeps_its_own_name():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 3), "head": nn.Linear(3, 7)})
    model["head"].weight = model["embed"].weight
    masks = pi.prune(model, pi.Magnitude(), sparsity=0.5)
    pi.sparsify_(model, masks)
    assert pi.current_masks(model) == masks
    again = pi.prune(model, pi.Magnitude(), sparsity=0.7)
    assert (again & masks) == again
    pi.rescale_(pi.sparsify_(model, again))
    assert model["embed"].weight.shape == (7, 3)
    assert torch.equal(model["embed"].weight, model["head"].weight)
