"""Each operation against a slow twin: which elements of the real result change when one element of the input does."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruneinit.reach.trace import Tracer

MAP = (1, 2, 5, 5)  # a map with two channels
SQUARE = (3, 3)
LINE = (2, 6)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2 + x.flip(-1)

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError


def fixed(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def sparse_factor(*shape):
    factor = fixed(*shape)
    return factor * (factor > 0)


def written(x):
    out = torch.zeros(3, 6)
    out[1:, ::2] = x[:, :3]
    return out


def written_through_a_view(x):
    out = torch.zeros(3, 6)
    out[1:].copy_(x)
    out.t()[2:4].mul_(3)
    out[:, 5] = 7.0
    return out * 1


def added_in_place(x):
    y = x.clone()
    y[0] += x[1].flip(0)
    y.t()[3] = 0
    return y


def rotary(x):
    pairs = torch.view_as_complex(x.reshape(2, 3, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones(3), torch.arange(3.0))).flatten(1)


# Exact for these: a name, the shape of the input, the operation.
EXACT = [
    ("relu", LINE, F.relu),
    ("relu in place", LINE, lambda x: F.relu(x.clone(), inplace=True)),
    ("relu_", LINE, lambda x: x.clone().relu_()),
    ("gelu", LINE, F.gelu),
    ("softsign", LINE, F.softsign),
    ("hardswish", LINE, F.hardswish),
    ("prelu", LINE, lambda x: F.prelu(x, torch.tensor([0.2]))),
    ("logsigmoid", LINE, F.logsigmoid),
    ("clamp", LINE, lambda x: x.clamp(-1, 1)),
    ("compare", LINE, lambda x: x > 0),
    ("not", LINE, lambda x: ~(x > 0)),
    ("and", LINE, lambda x: (x > 0) & (x < 1)),
    ("dropout", LINE, lambda x: F.dropout(x, 0.5, training=False)),
    ("cast", LINE, lambda x: x.double().to(torch.float32).contiguous()),
    ("detach", LINE, lambda x: x.detach() + x.data),
    ("add constant", LINE, lambda x: 3 + x - fixed(2, 6)),
    ("constant minus", LINE, lambda x: 1 - x),
    ("times sparse constant", LINE, lambda x: x * sparse_factor(6)),
    ("times zero", LINE, lambda x: x * 0),
    ("constant over", LINE, lambda x: 2 / (x.abs() + 1)),
    ("over itself", LINE, lambda x: x[:1] / (x[1:].abs() + 1)),
    ("iadd", LINE, lambda x: x.clone().__iadd__(x.flip(0))),
    ("custom function", LINE, Doubled.apply),
    ("flip", LINE, lambda x: x.flip(1)),
    ("roll", LINE, lambda x: x.roll(2, 1)),
    ("transpose", SQUARE, lambda x: x.t()),
    ("copied transpose", SQUARE, lambda x: x.t().contiguous()),
    ("transposed reshape", LINE, lambda x: x.t().reshape(3, 4)),
    ("rot90", SQUARE, lambda x: x.rot90()),
    ("tril", SQUARE, lambda x: x.tril()),
    ("diagonal", SQUARE, lambda x: x.diagonal() * 2),
    ("diag_embed", LINE, torch.diag_embed),
    ("expand", LINE, lambda x: x[:, None].expand(2, 3, 6) + 0),
    ("repeat", LINE, lambda x: x.repeat(2, 1)),
    ("repeat_interleave", LINE, lambda x: x.repeat_interleave(torch.tensor([1, 3]), 0)),
    ("unfold", LINE, lambda x: x.unfold(1, 3, 2).sum(1)),
    ("window views", MAP, lambda x: x.unfold(2, 3, 1).unfold(3, 3, 1).amax((-1, -2))),
    ("split and cat", LINE, lambda x: torch.cat([part + i for i, part in enumerate(x.split([1, 2, 3], 1))][::-1], 1)),
    ("cat with constants", LINE, lambda x: torch.cat([torch.ones(2, 2), x, fixed(2, 1)], 1)),
    ("stack", LINE, lambda x: torch.stack([x[0], torch.ones(6), x[1]])),
    ("pad", LINE, lambda x: F.pad(x, (1, 2), value=3.0)),
    ("pad reflect", MAP, lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect")),
    ("written", LINE, written),
    ("written through a view", LINE, written_through_a_view),
    ("added in place", LINE, added_in_place),
    ("out=", LINE, lambda x: torch.add(x, x.flip(1), out=torch.empty(2, 6))),
    ("zeroed", LINE, lambda x: x.clone().zero_()),
    ("zeros_like", LINE, lambda x: torch.zeros_like(x) + x.new_ones(6)),
    ("filled", LINE, lambda x: x.clone().masked_fill_(fixed(2, 6) > 0, -math.inf)),
    ("where constant", LINE, lambda x: torch.where(fixed(2, 6) > 0, x, 3.0)),
    ("where both", LINE, lambda x: torch.where(fixed(6) > 0, x[0], x[1])),
    ("where condition", LINE, lambda x: torch.where(x > 0, 1.0, 2.0)),
    ("gather", LINE, lambda x: x.gather(1, torch.tensor([[0, 3, 3], [5, 1, 0]]))),
    ("index", LINE, lambda x: x[torch.tensor([1, 0, 1]), torch.tensor([2, 2, 4])]),
    ("mask", LINE, lambda x: x[fixed(2, 6) > 0]),
    ("index_select", LINE, lambda x: x.index_select(1, torch.tensor([5, 0]))),
    ("scatter", LINE, lambda x: torch.zeros(2, 6).scatter(1, torch.tensor([[0, 3, 5], [5, 1, 0]]), x[:, :3])),
    ("scatter_add_", LINE, lambda x: x.clone().scatter_add_(1, torch.tensor([[0, 0], [5, 5]]), x[:, 3:5])),
    ("scatter_reduce", LINE, lambda x: torch.zeros(2, 2).scatter_reduce(
        1, torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 0]]), x, "sum")),
    ("index_add", LINE, lambda x: torch.zeros(2, 3).index_add(1, torch.tensor([0, 2, 0, 2, 2, 0]), x)),
    ("index_copy_", LINE, lambda x: x.clone().index_copy_(1, torch.tensor([1, 4]), x[:, :2])),
    ("sum", LINE, lambda x: x.sum(0)),
    ("mean", MAP, lambda x: x.mean([2, 3], keepdim=True)),
    ("mean all", LINE, torch.mean),
    ("max", LINE, lambda x: x.max(1)[0]),
    ("argmax", LINE, lambda x: x.argmax(0)),
    ("amax", MAP, lambda x: x.amax((1, 3))),
    ("maximum", LINE, lambda x: torch.max(x[0], x[1])),
    ("var", LINE, lambda x: x.var(1)),
    ("std", LINE, lambda x: x.std(dim=0)),
    ("norm", LINE, lambda x: x.norm(dim=1)),
    ("prod", LINE, lambda x: x.prod(1)),
    ("logsumexp", LINE, lambda x: x.logsumexp(1)),
    ("any", LINE, lambda x: (x > 1.5).any(0)),
    ("softmax", LINE, lambda x: x.softmax(1)),
    ("F.log_softmax", LINE, lambda x: F.log_softmax(x, dim=0)),
    ("normalize", LINE, lambda x: F.normalize(x, dim=1)),
    ("cumsum", LINE, lambda x: x.cumsum(1)),
    ("sort", LINE, lambda x: x.sort(1)[0]),
    ("topk", LINE, lambda x: x.topk(6, dim=1)[0]),
    ("max_pool1d", (1, 2, 7), nn.MaxPool1d(3, 2, 1)),
    ("max_pool2d", MAP, nn.MaxPool2d(2)),
    ("max_pool2d, ceil", MAP, nn.MaxPool2d(2, ceil_mode=True)),
    ("max_pool2d, dilated", MAP, nn.MaxPool2d((2, 3), (1, 2), (0, 1), (2, 1))),
    ("max_pool2d with indices", MAP, lambda x: F.max_pool2d(x, 3, 2, return_indices=True)[0]),
    ("max_pool2d, unbatched, ceil", (2, 5, 5), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    ("torch.max_pool2d", MAP, lambda x: torch.max_pool2d(x, [2, 2])),
    ("max_pool3d", (1, 1, 3, 3, 3), nn.MaxPool3d(2, 1)),
    ("adaptive_max_pool2d", MAP, nn.AdaptiveMaxPool2d((2, 3))),
    ("avg_pool2d", MAP, nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    ("adaptive_avg_pool2d", MAP, nn.AdaptiveAvgPool2d(2)),
    ("interpolate nearest", (1, 1, 3, 3), lambda x: F.interpolate(x, scale_factor=2)),
    ("interpolate bilinear", (1, 1, 3, 3), lambda x: F.interpolate(x, size=(4, 5), mode="bilinear")),
    ("pixel_shuffle", (1, 4, 2, 2), nn.PixelShuffle(2)),
    ("channel_shuffle", (1, 4, 2, 2), nn.ChannelShuffle(2)),
    ("F.unfold", MAP, lambda x: F.unfold(x, 3, stride=2)),
    ("F.fold", (1, 4, 4), lambda x: F.fold(x, (3, 3), 2)),
    ("glu", LINE, F.glu),
    ("one_hot", (3,), lambda x: F.one_hot((x > 0).long(), 2)),
    ("embedding of choices", (3,), lambda x: F.embedding((x > 0).long(), fixed(2, 4))),
    ("matmul with itself", SQUARE, lambda x: x @ x),
    ("rmatmul", SQUARE, lambda x: sparse_factor(2, 3) @ x),
    ("bmm", (2, 3, 3), lambda x: torch.bmm(x, sparse_factor(2, 3, 2))),
    ("addmm", SQUARE, lambda x: torch.addmm(x[:, :2], x, sparse_factor(3, 2))),
    ("baddbmm", (2, 3, 3), lambda x: torch.baddbmm(fixed(1, 3, 3), x, x.transpose(1, 2))),
    ("einsum", SQUARE, lambda x: torch.einsum("ij,kj->ik", x, sparse_factor(4, 3))),
    ("einsum of one", SQUARE, lambda x: torch.einsum("ij->j", x)),
    ("tensordot", SQUARE, lambda x: torch.tensordot(x, sparse_factor(3, 2), dims=1)),
    ("linear", LINE, lambda x: F.linear(x, sparse_factor(4, 6), fixed(4))),
    ("linear, weights from the input", (6,), lambda x: F.linear(x[:3], x[3:].reshape(1, 3))),
    ("conv2d", MAP, lambda x: F.conv2d(x, sparse_factor(4, 1, 3, 3), fixed(4), 2, 1, 1, 2)),
    ("conv2d same", MAP, lambda x: F.conv2d(x, sparse_factor(2, 2, 2, 2), padding="same", dilation=2)),
    ("conv_transpose2d", MAP, lambda x: F.conv_transpose2d(x, sparse_factor(2, 1, 3, 3), None, 2, 1, 1, 2)),
    ("bilinear", LINE, lambda x: F.bilinear(x[:, :3], x[:, 3:], sparse_factor(2, 3, 3))),
    ("attention", (3, 4), lambda x: F.scaled_dot_product_attention(x[:, :2], x[:, 1:3], x[:, 2:])),
    ("attention, masked", (3, 4), lambda x: F.scaled_dot_product_attention(
        x[:, :2], x[:, 1:3], x[:, 2:], torch.tensor([[True, True, False], [False, True, True], [True, False, True]]))),
    ("attention, grouped", (2, 3), lambda x: F.scaled_dot_product_attention(
        x.reshape(2, 3, 1), x[:1, None, :].mT, x[1:, None, :].mT, enable_gqa=True)),
    ("complex pairs", LINE, lambda x: torch.view_as_real(torch.view_as_complex(x.reshape(2, 3, 2)) * 2).sum(-1)),
]  # fmt: skip

# More than is true, but never less.
GENEROUS = [
    ("batch of Fourier transforms", LINE, lambda x: torch.fft.fft(x).real),
    ("lstm", (3, 2), lambda x: nn.LSTM(2, 2)(x)[0]),
    ("interpolate bicubic", (1, 2, 4, 4), lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")),
    ("grid_sample", (1, 2, 4, 4), lambda x: F.grid_sample(x, torch.zeros(1, 2, 2, 2) + 0.1, align_corners=False)),
    ("cross_entropy", LINE, lambda x: F.cross_entropy(x, torch.tensor([1, 2]), reduction="none")),
    ("index by the input", LINE, lambda x: fixed(6)[x.argmax(1)]),
    ("cumprod", LINE, lambda x: x.cumprod(1)),
    ("rotary", LINE, rotary),
    ("nonzero", LINE, lambda x: torch.where(x > -1)[0].sum() + x.sum(0)),
    (
        "causal attention",
        (3, 4),
        lambda x: F.scaled_dot_product_attention(x[:, :2], x[:, 1:3], x[:, 2:], is_causal=True),
    ),
    ("hand-made attention", SQUARE, lambda x: (x @ x.t() / 2).softmax(-1) @ x),
]


def ids(cases):
    return [name for name, _, _ in cases]


def real(shape, function):
    """For each element of the input, which elements of the output change with it; seen on many random inputs."""
    seen = 0
    generator = torch.Generator().manual_seed(0)
    for scale in (0.3, 1.0, 3.0) * 4:
        x = torch.randn(shape, generator=generator) * scale
        before = output(function, x)
        rows = []
        for i in range(x.numel()):
            changed = x.clone()
            changed.view(-1)[i] = torch.randn((), generator=generator) * 10
            after = output(function, changed)
            rows.append(((before != after) & ~(before.isnan() & after.isnan())).reshape(-1))
        seen = torch.stack(rows) | seen
    return seen


def output(function, x):
    torch.manual_seed(0)  # for layers that are made within
    return function(x.clone())


def traced(shape, function):
    rows = []
    for i in range(math.prod(shape)):
        tracer, x = Tracer(), torch.randn(shape, generator=torch.Generator().manual_seed(1))
        tracer.reach.cast(x, torch.eye(x.numel())[i].reshape(shape))
        with torch.no_grad(), tracer:
            out = function(x)
        shadow = tracer.reach.of(out)
        rows.append(torch.zeros(out.numel(), dtype=torch.bool) if shadow is None else shadow.detach().reshape(-1) > 0)
    return torch.stack(rows)


@pytest.mark.parametrize("name, shape, function", EXACT, ids=ids(EXACT))
def test_what_depends_on_what_is_found_exactly(name, shape, function):
    assert torch.equal(traced(shape, function), real(shape, function))


@pytest.mark.parametrize("name, shape, function", GENEROUS, ids=ids(GENEROUS))
def test_no_dependence_is_missed(name, shape, function):
    found, true = traced(shape, function), real(shape, function)
    assert bool(true.any())
    assert bool((found | ~true).all())
