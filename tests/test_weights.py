import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as masking

import pruneinit as pi
from problems import PROBLEMS, TiedWeights
from pruneinit.survivors import sparsify_
from pruneinit.weights import owner, plain_name, prunable, weight


def by_name(problem: str) -> nn.Module:
    return next(p for p in PROBLEMS if p.name == problem).model()


def test_every_kind_of_layer_is_found_with_its_fan_in():
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(5, 3),
            "conv1": nn.Conv1d(4, 2, 3),
            "conv2": nn.Conv2d(4, 6, 3, groups=2),
            "conv3": nn.Conv3d(2, 2, (1, 2, 3)),
            "up": nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2),
            "attention": nn.MultiheadAttention(8, 2),
            "cross": nn.MultiheadAttention(8, 2, kdim=5, vdim=6),
            "norm": nn.BatchNorm2d(3),
            "embedding": nn.Embedding(7, 3),
        }
    )
    found = {w.name: (w.kind, w.fan_in, w.out_dim) for w in prunable(model).values()}
    assert found == {
        "linear.weight": ("linear", 5, 0),
        "conv1.weight": ("conv", 12, 0),
        "conv2.weight": ("conv", 18, 0),
        "conv3.weight": ("conv", 12, 0),
        "up.weight": ("conv_transpose", 2 * 16 / 4, 1),
        "attention.in_proj_weight": ("attention", 8, 0),
        "attention.out_proj.weight": ("linear", 8, 0),
        "cross.q_proj_weight": ("attention", 8, 0),
        "cross.k_proj_weight": ("attention", 5, 0),
        "cross.v_proj_weight": ("attention", 6, 0),
        "cross.out_proj.weight": ("linear", 8, 0),
    }


def test_fan_in_of_a_transposed_convolution_is_the_measured_variance_gain():
    generator = torch.Generator().manual_seed(0)
    layer = nn.ConvTranspose1d(40, 200, 4, stride=2, bias=False)
    torch.nn.init.normal_(layer.weight, generator=generator)
    out = layer(torch.randn(4, 40, 400, generator=generator))[..., 10:-10]
    assert out.var().item() == pytest.approx(prunable(layer)["weight"].fan_in, rel=0.05)


def test_tied_weights_are_listed_once_with_their_other_names():
    found = prunable(TiedWeights())
    assert list(found) == ["first.weight", "head.weight"]
    assert found["first.weight"].aliases == ("second.weight",)


def test_a_linear_layer_tied_to_an_embedding_knows_it():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 3), "head": nn.Linear(3, 7)})
    model["head"].weight = model["embed"].weight
    assert prunable(model)["head.weight"].aliases == ("embed.weight",)


@pytest.mark.parametrize(
    "include, exclude, expected",
    [
        (None, None, ["0.weight", "2.weight", "4.weight"]),
        ("0.*", None, ["0.weight"]),
        (["4.*", "0.*"], None, ["0.weight", "4.weight"]),
        (None, "[24].*", ["0.weight"]),
        ("*.weight", ["2.weight"], ["0.weight", "4.weight"]),
    ],
)
def test_include_and_exclude_by_pattern(include, exclude, expected):
    assert list(prunable(by_name("dense"), include, exclude)) == expected


def test_a_pattern_that_matches_nothing_is_named_with_the_nearest_weight():
    with pytest.raises(pi.InputError, match=r"unknown weight pattern '0.weigth'.*did you mean '0.weight'"):
        prunable(by_name("dense"), exclude="0.weigth")


def test_excluding_everything_is_an_error():
    with pytest.raises(pi.InputError, match="leaves nothing to prune"):
        prunable(by_name("dense"), exclude="*")


def test_a_model_without_weights_is_an_error():
    with pytest.raises(pi.InputError, match="ReLU has nothing to prune"):
        prunable(nn.ReLU())


def test_a_lazy_layer_is_an_error_until_it_has_run():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(pi.InputError, match=r"0.weight has no shape yet"):
        prunable(model)
    model(torch.zeros(1, 4))
    assert prunable(model)["0.weight"].shape == (3, 4)


LAZY = {
    "linear": lambda: nn.LazyLinear(3),
    "batch-norm": lambda: nn.LazyBatchNorm1d(),
    "batch-norm-without-parameters": lambda: nn.LazyBatchNorm1d(affine=False),
}


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_modules_are_named_wherever_a_model_goes(kind, tmp_path):
    masks, batches = pi.Masks({"0.weight": torch.eye(4).bool()}), [(torch.zeros(2, 4), torch.zeros(2).long())]
    pi.save(nn.Linear(2, 2), tmp_path / "a")
    for use in (
        lambda m: pi.prune(m, pi.Magnitude(), sparsity=0.5),
        lambda m: pi.prune(m, pi.Snip(norm="batch"), batches, sparsity=0.5),
        lambda m: pi.edge_of_chaos_(m, "relu"),
        lambda m: pi.rescale_(m, masks=masks),
        lambda m: pi.rescale_(m, batches, masks=masks, norm="batch"),
        lambda m: pi.diagnose(m, batches, masks, norm="batch"),
        lambda m: pi.stabilize_residuals_(m, batches[0][0]),
        lambda m: pi.sparsify_(m, masks),
        lambda m: pi.save(m, tmp_path / "b"),
        lambda m: pi.load(tmp_path / "a", into=m),
    ):
        with pytest.raises(pi.InputError, match=r"1\.(weight|running_mean) has no shape yet: run the model once"):
            use(nn.Sequential(nn.Linear(4, 4), LAZY[kind](), nn.Linear(4, 3)))


class Empty(nn.Module):
    """A model with layers of no outputs and no inputs."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch has nothing to initialise there and says so
            self.into, self.out_of, self.head = nn.Linear(4, 0), nn.Linear(0, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.out_of(self.into(x)) + 1))


@pytest.mark.parametrize("initialize", [pi.edge_of_chaos_, pi.orthogonal_, pi.delta_orthogonal_])
@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_layers_of_no_size_are_passed_over(initialize, scope, tmp_path):
    model, batch = Empty(), (torch.randn(2, 4), torch.zeros(2).long())
    assert list(prunable(model)) == ["head.weight"]
    initialize(model, "tanh", generator=torch.Generator().manual_seed(0))
    masks = pi.prune(model, pi.Snip(), [batch], sparsity=0.6, scope=scope)
    assert dict(masks.counts) == {"head.weight": (6, 15)}
    assert pi.diagnose(model, [batch], masks).sparsity == pytest.approx(0.6)
    pi.sparsify_(pi.rescale_(model, [batch], masks=masks), masks)
    pi.save(model, tmp_path / "a")
    assert torch.equal(pi.load(tmp_path / "a", into=Empty())(batch[0]), model(batch[0]))
    assert pi.densify_(model).out_of.weight.shape == (5, 0)


def test_a_model_of_nothing_but_layers_of_no_size_has_nothing_to_prune():
    with pytest.raises(pi.InputError, match="ModuleList has nothing to prune"):
        prunable(nn.ModuleList([Empty().into]))


def test_names_survive_a_parametrisation():
    model = nn.Sequential(nn.Linear(3, 3))
    masks = pi.Masks({"0.weight": torch.eye(3, dtype=torch.bool)})
    sparsify_(model, masks)
    assert list(prunable(model)) == ["0.weight"]
    assert prunable(model)["0.weight"].shape == (3, 3)
    assert weight(model, "0.weight").shape == (3, 3)
    assert owner(model, "0.weight")[1] == "weight"
    assert [plain_name(n) for n, _ in model.named_parameters()] == ["0.bias", "0.weight"]


HOOKS = {
    "torch.nn.utils.prune": lambda layer: masking.random_unstructured(layer, "weight", amount=0.5),
    "weight_norm": lambda layer: torch.nn.utils.weight_norm(layer),
    "spectral_norm": lambda layer: torch.nn.utils.spectral_norm(layer),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_weight_that_a_hook_computes_is_refused_with_the_call_that_frees_it(hook):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    hook(model[0])
    with pytest.raises(pi.InputError, match=r"0\.weight is computed by a hook") as refused:
        prunable(model)
    assert "\n" not in str(refused.value)
    call = str(refused.value).split("with ")[1].split(", or leave")[0]
    eval(call, {"torch": torch, "model": model})
    assert list(prunable(model)) == ["0.weight", "1.weight"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_weight_that_a_hook_computes_can_be_left_out_and_the_rest_pruned(hook):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    hook(model[0])
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 0])
    for criterion in (pi.Snip(), pi.Magnitude(), pi.Random()):
        masks = pi.prune(model, criterion, [(x, y)], sparsity=0.5, exclude="0.*")
        assert (list(masks), masks.kept) == (["1.weight"], 4)
    assert [layer.name for layer in pi.forecast(model, [(x, y)], exclude="0.*").layers] == ["1.weight"]
    masks = pi.prune(model, pi.Snip(), [(x, y)], sparsity=0.5, include="1.*", effective=True)
    pi.sparsify_(pi.rescale_(model, [(x, y)], masks=masks), masks)
    assert pi.current_masks(model) == masks
    with pytest.raises(pi.InputError, match=r"0\.weight is computed by a hook"):
        pi.prune(model, pi.Random(), sparsity=0.5, include="0.*")


def test_a_hook_on_a_bias_changes_nothing():
    layer = masking.random_unstructured(nn.Linear(3, 4), "bias", amount=0.5)
    assert list(prunable(layer)) == ["weight"]
