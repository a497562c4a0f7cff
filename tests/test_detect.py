"""Which activation a model uses."""

import pytest
from torch import nn
from torch.nn import functional as F

from pruneinit.detect import find_activation
from pruneinit.errors import InputError


@pytest.mark.parametrize(
    "modules, name",
    [
        ([nn.ReLU(), nn.ReLU(inplace=True)], "relu"),
        ([nn.LeakyReLU(0.2), nn.LeakyReLU(0.2)], "leaky_relu(0.2)"),
        ([nn.GELU(), nn.Softmax(dim=1)], "gelu"),
        ([nn.Identity(), nn.Mish()], "Mish()"),
        ([nn.TransformerEncoderLayer(4, 2, 8)], "relu"),
        ([nn.TransformerDecoderLayer(4, 2, 8, activation=F.gelu), nn.GELU()], "gelu"),
    ],
    ids=["relu", "leaky", "softmax is none", "identity is none", "transformer", "transformer gelu"],
)
def test_activation_is_read_off_the_modules(modules, name):
    assert find_activation(nn.Sequential(nn.Linear(2, 2), *modules)).name == name


class Own(nn.Module):
    def forward(self, x):
        return x.sigmoid() * x


@pytest.mark.parametrize(
    "modules, message",
    [
        ([], "Sequential has no activation modules: pass the one"),
        ([Own()], "no activation modules"),
        ([nn.Softmax(dim=1), nn.Identity()], "no activation modules"),
        ([nn.ReLU(), nn.Tanh(), nn.ReLU()], r"several activations \(relu, tanh\): pass the one"),
        ([nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)], r"several activations \(leaky_relu\(0.1\), leaky_relu\(0.2\)\)"),
    ],
    ids=["nothing", "a module of one's own", "neither softmax nor identity", "two", "two slopes"],
)
def test_what_cannot_be_told(modules, message):
    with pytest.raises(InputError, match=message):
        find_activation(nn.Sequential(nn.Linear(2, 2), *modules))
