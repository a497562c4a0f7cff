"""The factor on the parameters against the factor on the branch itself, put there by a hook."""

import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pruneinit as pi
from pruneinit.models import build


class Block(nn.Module):
    """x + branch(x), with the shortcut projected where a layer is given for it."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


class Of(nn.Module):
    """A branch that is a function of its layers."""

    def __init__(self, function, *layers: nn.Module, **parameters: Tensor) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)
        for name, value in parameters.items():
            setattr(self, name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x, *self.layers)


def blocks(make) -> nn.Module:
    return nn.Sequential(*(make() for _ in range(3)), nn.Linear(4, 3))


def of(function, layers: int = 2, **parameters) -> nn.Module:
    return blocks(lambda: Block(Of(function, *(nn.Linear(4, 4) for _ in range(layers)), **parameters)))


def image_blocks(*tail) -> nn.Module:
    def block():
        return Block(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.ReLU(), *(make() for make in tail)))

    return nn.Sequential(block(), block(), nn.Flatten(), nn.Linear(75, 3))


def transformer(norm_first: bool, decoder: bool = False) -> nn.Module:
    kind = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    layers = [kind(8, 2, 16, batch_first=True, norm_first=norm_first) for _ in range(3)]
    return layers if decoder else nn.Sequential(*layers)


class Decoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(transformer(norm_first, decoder=True))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.layers:
            out = layer(out, x)
        return out


VECTOR, IMAGE, TEXT, PIXELS = (2, 4), (2, 3, 5, 5), (2, 5, 8), (2, 3, 8, 8)
BRANCH = r"\d+\.branch"

EXACT = {
    "resnet-projection": (lambda: build("resnet20", input_shape=PIXELS[1:], classes=4), PIXELS, r".*bn2"),
    "resnet-padding": (
        lambda: build("resnet20", input_shape=PIXELS[1:], classes=4, shortcut="padding"), PIXELS, r".*bn2"),
    "pre-activation": (lambda: build("preact_resnet20", input_shape=PIXELS[1:], classes=4), PIXELS, r".*\d\.conv2"),
    "wide": (lambda: build("wrn-16-2", input_shape=PIXELS[1:], classes=4), PIXELS, r".*\d\.conv2"),
    "encoder-pre-norm": (lambda: transformer(True), TEXT, r".*(self_attn|linear2)"),
    "encoder-post-norm": (lambda: transformer(False), TEXT, r".*(self_attn|linear2)"),
    "decoder-pre-norm": (lambda: Decoder(True), TEXT, r".*(self_attn|multihead_attn|linear2)"),
    "decoder-post-norm": (lambda: Decoder(False), TEXT, r".*(self_attn|multihead_attn|linear2)"),
    "linear": (lambda: of(lambda _, x, a, b: b(torch.tanh(a(x)))), VECTOR, BRANCH),
    "relu-at-the-end": (lambda: of(lambda _, x, a, b: torch.relu(b(torch.tanh(a(x))))), VECTOR, BRANCH),
    "depthwise-conv": (lambda: image_blocks(lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3)), IMAGE, BRANCH),
    "conv-without-bias": (lambda: image_blocks(lambda: nn.Conv2d(3, 3, 1, bias=False)), IMAGE, BRANCH),
    "group-norm": (lambda: image_blocks(lambda: nn.GroupNorm(3, 3)), IMAGE, BRANCH),
    "pooled": (lambda: image_blocks(lambda: nn.Conv2d(3, 3, 1), lambda: nn.MaxPool2d(3, 1, 1)), IMAGE, BRANCH),
    "layer-norm": (lambda: blocks(lambda: Block(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))), VECTOR, BRANCH),
    "rms-norm": (lambda: blocks(lambda: Block(nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4)))), VECTOR, BRANCH),
    "narrow-beside-a-projection": (
        lambda: blocks(lambda: Block(nn.Sequential(nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 4)), nn.Linear(4, 4))),
        VECTOR, BRANCH),
    "layer-scale": (lambda: of(lambda m, x, a: m.gamma * torch.tanh(a(x)), 1, gamma=torch.randn(4)), VECTOR, BRANCH),
    "added-bias": (lambda: of(lambda m, x, a, b: b(torch.tanh(a(x))) + m.shift, shift=torch.randn(4)), VECTOR, BRANCH),
    "sum-of-two": (
        lambda: of(lambda _, x, a, b, c, d: b(torch.tanh(a(x))) + d(torch.relu(c(x))), 4), VECTOR, BRANCH),
    "sum-that-begins-with-0": (
        lambda: of(lambda _, x, a, b: sum(layer(torch.tanh(x)) for layer in (a, b))), VECTOR, BRANCH),
    "halves": (lambda: of(lambda _, x, a, b: torch.cat([a(x.tanh())[:, :2], b(x.tanh())[:, 2:]], 1)), VECTOR, BRANCH),
    "learned-half": (
        lambda: of(lambda m, x, a: torch.cat([a(x.tanh())[:, :3], m.rest.expand(2, 1)], 1), 1, rest=torch.randn(1)),
        VECTOR, BRANCH),
    "gate-from-the-input": (lambda: of(lambda _, x, a, b: a(x.tanh()) * torch.sigmoid(b(x))), VECTOR, BRANCH),
    "gate-that-ends-in-a-layer": (
        lambda: of(lambda _, x, a, b, c: (h := torch.tanh(a(x))) * b(torch.relu(c(h))), 3), VECTOR, BRANCH),
    "own-gate-that-ends-in-a-layer": (
        lambda: of(lambda _, x, a, b: (h := a(x.tanh())) * b(torch.tanh(h))), VECTOR, BRANCH),
    "diamond": (lambda: of(lambda _, x, a: (h := a(x.tanh())) + torch.relu(h), 1), VECTOR, BRANCH),
    "divided-by-data": (
        lambda: of(lambda _, x, a, b: a(x.tanh()) / (1 + torch.exp(b(x)))), VECTOR, BRANCH),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_the_branch_is_multiplied_by_the_factor_and_nothing_else_is(name):
    make, shape, branches = EXACT[name]
    torch.manual_seed(0)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x = torch.randn(shape, dtype=torch.float64)
    twin = copy.deepcopy(model)
    found = pi.stabilize_residuals_(model, x)
    hooked = [module for path, module in twin.named_modules() if re.fullmatch(branches, path)]
    assert len(hooked) == len(found) > 1

    def multiply(module, inputs, output):
        return (found.factor * output[0], *output[1:]) if isinstance(output, tuple) else found.factor * output

    assert not torch.allclose(model(x), twin(x))
    for module in hooked:
        module.register_forward_hook(multiply)
    torch.testing.assert_close(model(x), twin(x), rtol=1e-9, atol=1e-11)


def squeeze_excite(_, x, conv, gate):
    out = conv(x)
    return out * torch.sigmoid(gate(out.mean((2, 3))))[:, :, None, None]


def use_of_branch(use):
    return lambda: Of(lambda _, x, a: use(x + (h := a(torch.tanh(x))), h), nn.Linear(4, 4))


REFUSED = {
    "squeeze-excite": (
        lambda: Block(Of(squeeze_excite, nn.Conv2d(3, 3, 1), nn.Linear(3, 3))), IMAGE,
        "ends in Mul, and Convolution in it feeds Mean too, which would see the factor.*multiply it in forward"),
    "inner-residual": (
        lambda: of(lambda _, x, a, b: (h := a(x.tanh())) + torch.tanh(b(h))), VECTOR, "Tanh.*hand a factor"),
    "inner-residual-of-a-layer": (
        lambda: of(lambda _, x, a, b: (h := a(x.tanh())) + b(torch.relu(h))), VECTOR,
        "ends in Add, and Addmm in it feeds Relu too"),
    "glu": (
        lambda: of(lambda _, x, a, b: (h := torch.cat([a(x), b(x)], 1).chunk(2, 1))[0] * torch.sigmoid(h[1])), VECTOR,
        "Split in it feeds Sigmoid too"),
    "square": (lambda: of(lambda _, x, a: (h := a(x)) * h, 1), VECTOR, "Addmm in it feeds Mul too"),
    "returned-as-well": (use_of_branch(lambda y, h: (y, h)), VECTOR, "its result feeds the model's output too"),
    "used-later": (use_of_branch(lambda y, h: y + torch.tanh(h)), VECTOR, "its result feeds Tanh too"),
    "input-in-the-sum": (
        lambda: of(lambda _, x, a: a(x) + x[:, :1] * 0.5, 1), VECTOR, "it takes the branch's own input"),
    "one-in-the-other": (
        lambda: blocks(lambda: Block(Block(nn.Linear(4, 4), nn.Linear(4, 4, bias=False)))), VECTOR,
        "branch.branch.(weight|bias) ends two residual branches, one inside the other"),
    "constant-bias": (lambda: of(lambda _, x, a: a(x.tanh()) + 1, 1), VECTOR, "ends in Add, and it takes a constant"),
    "constant-bias-of-a-layer": (
        lambda: of(lambda _, x, a: functional.linear(x.tanh(), a.weight, torch.ones(4)), 1), VECTOR,
        "ends in Addmm, and what it adds is no parameter"),
    "constant-numerator": (lambda: of(lambda _, x, a: torch.ones(4) / a(x).exp(), 1), VECTOR, "divides no data"),
    "factored-weight": (
        lambda: of(lambda _, x, a, b: functional.linear(x.tanh(), a.weight @ b.weight, a.bias)), VECTOR,
        "ends in Addmm, and it has no parameters of its own"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_branch_that_no_parameters_scale_exactly_is_refused(name):
    make, shape, message = REFUSED[name]
    model = make()
    with pytest.raises(pi.InputError, match=message):
        pi.stabilize_residuals_(model, torch.randn(shape))
    assert not any("parametrizations" in key for key in model.state_dict())
