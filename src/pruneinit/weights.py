"""Which tensors of a model can be pruned, and what a theory needs to know of each.

A weight is known by its parameter name (`"layer1.0.conv1.weight"`), also after the model was sparsified or
rescaled, when PyTorch itself would list `layer1.0.conv1.parametrizations.weight.original`.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from pruneinit.errors import InputError, check_model, unknown
from pruneinit.hooks import removal
from pruneinit.layouts import layout, leaves

Patterns = str | Sequence[str]


@dataclass(frozen=True)
class Weight:
    """One prunable tensor of a model.

    Attributes:
        name: The parameter name, as `model.state_dict()` of the untouched model has it.
        shape: The shape of the dense tensor.
        kind: `"linear"`, `"conv"`, `"conv_transpose"`, `"attention"` (a projection of `nn.MultiheadAttention`) or
            `"recurrent"` (of a recurrent layer or cell; its gates side by side).
        fan_in: How many inputs an output value sums over, v_l in the paper; for a transposed convolution the mean
            over output positions, in_channels / groups * taps / stride.
        out_dim: The dimension of the tensor that counts output neurons (1 for transposed convolutions, and for linear
            layers that keep their matrix transposed).
        groups: Groups of a convolution, else 1.
        aliases: Other names of the very same tensor (tied weights).
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    fan_in: float
    out_dim: int = 0
    groups: int = 1
    aliases: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        """How many values the dense tensor has."""
        return math.prod(self.shape)


def prunable(model: nn.Module, include: Patterns | None = None, exclude: Patterns | None = None) -> dict[str, Weight]:
    """The weights of `model` that can be pruned, by name, in the order of `model.named_modules()`.

    These are the weight tensors of linear layers, convolutions, transposed convolutions, recurrent layers and the
    projections of multi-head attention, and of classes that `register_linear` was told of. Biases, normalisation layers
    and embeddings are never pruned, and tensors without values are left out. A tensor shared by several layers is
    listed once, under its first name; of an embedding that is tied to a linear layer it is the layer's.

    Args:
        model: Any module.
        include: Shell-style name patterns (`"layer1.*"`); only weights that match one are listed.
        exclude: Patterns of weights to leave out, for example `"fc.weight"` for the classifier.

    Returns:
        A dictionary from parameter name to `Weight`.

    Raises:
        InputError: A pattern matches no weight, nothing is left to prune, a tensor has no shape yet (lazy layers), or a
            hook computes a weight that is not left out (`torch.nn.utils.prune`, `weight_norm` and `spectral_norm`).

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        >>> [(w.name, w.kind, w.fan_in) for w in prunable(model).values()]
        [('0.weight', 'conv', 27), ('3.weight', 'linear', 8)]
        >>> list(prunable(model, exclude="3.*"))
        ['0.weight']
    """
    hooked = _hooked(model)
    every = {w.name: w for w in every_weight(model)} if hooked else listed(model)
    names = [*every, *hooked]
    chosen = _matching(names, include) if include is not None else names
    left_out = set(_matching(names, exclude)) if exclude is not None else set()
    wanted = [name for name in chosen if name not in left_out]
    if not wanted:
        raise InputError(f"exclude={exclude!r} leaves nothing to prune of {', '.join(names)}")
    for name in wanted:
        if name in hooked:
            raise InputError(
                f"{name} is computed by a hook before each forward pass, so it cannot be pruned: remove the hook with "
                f"{hooked[name]}, or leave the weight out with exclude={name!r}"
            )
    return {name: every[name] for name in wanted}


def listed(model: nn.Module) -> dict[str, Weight]:
    """As `prunable` without patterns, but a weight that a hook computes is passed over.

    Raises:
        InputError: There is nothing to prune, or a tensor has no shape yet.
    """
    every = {w.name: w for w in every_weight(model)}
    if not every:
        raise InputError(
            f"{type(model).__name__} has nothing to prune: expected at least one linear, convolution, "
            "recurrent or attention layer with a weight of its own; for a layer of your own see register_linear"
        )
    return every


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds the parameter `name`, and the parameter's name within it.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> owner(model, "0.weight")
        (Linear(in_features=2, out_features=2, bias=True), 'weight')
    """
    path, _, leaf = name.rpartition(".")
    return uncompiled(model).get_submodule(path), leaf


def uncompiled(model: nn.Module) -> nn.Module:
    """The model inside of `torch.compile(model)` and `DistributedDataParallel(model)`, whose names have a prefix."""
    *_, inner = unwrapped(model)
    return inner


def unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """The model, what `torch.compile` or `DistributedDataParallel` has wrapped in it, and so on to the innermost."""
    check_model(model)
    inner: nn.Module | None = model
    while inner is not None:
        yield inner
        inner = inner.module if isinstance(inner, DistributedDataParallel) else inner._modules.get("_orig_mod")


def layers(model: nn.Module, found: Weight) -> Iterator[tuple[str, nn.Module]]:
    """The layers that compute with a weight: for each its name of the tensor, and the module that owns it.

    Other owners of a tied weight, such as an embedding, are left out; a module that is registered under several names
    is listed once.

    Example:
        >>> model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
        >>> model["head"].weight = model["embed"].weight
        >>> [name for name, _ in layers(model, prunable(model)["head.weight"])]
        ['head.weight']
    """
    seen: set[tuple[int, str]] = set()
    for name in (found.name, *found.aliases):
        module, leaf = owner(model, name)
        if leaf in leaves(module) and (id(module), leaf) not in seen:
            seen.add((id(module), leaf))
            yield name, module


def is_read_elsewhere(model: nn.Module, found: Weight) -> bool:
    """Whether a weight is tied to a parameter of something that is no layer, such as an embedding.

    Example:
        >>> model = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
        >>> model["head"].weight = model["embed"].weight
        >>> is_read_elsewhere(model, prunable(model)["head.weight"])
        True
    """
    return any(leaf not in leaves(module) for module, leaf in (owner(model, name) for name in found.aliases))


def weight(model: nn.Module, name: str) -> Tensor:
    """The tensor `name` as the forward pass sees it: dense, with every reparametrisation applied."""
    return _read(*owner(model, name))


def raw(module: nn.Module, leaf: str) -> nn.Parameter | None:
    """The parameter stored for `leaf`, under its parametrisation if it has one; None where there is none."""
    if parametrize.is_parametrized(module, leaf):
        parametrizations = cast(nn.ModuleDict, module.parametrizations)
        return next(parametrizations[leaf].parameters(recurse=False), None)
    return module._parameters.get(leaf)


@contextmanager
def uncached() -> Iterator[None]:
    """Compute parametrised tensors afresh, also within the user's `torch.nn.utils.parametrize.cached()`.

    That would give back the tensor of an earlier reading in place of an override, and would keep for the user's next
    forward pass what is read here without gradients. PyTorch has no public way to suspend it.
    """
    before = parametrize._cache, parametrize._cache_enabled
    parametrize._cache, parametrize._cache_enabled = {}, 0
    try:
        yield
    finally:
        parametrize._cache, parametrize._cache_enabled = before


def plain_name(name: str) -> str:
    """A parameter's name without the trace that `torch.nn.utils.parametrize` leaves in it.

    Example:
        >>> plain_name("fc.parametrizations.weight.original")
        'fc.weight'
    """
    if "parametrizations" not in name:  # most names of most models, many times
        return name
    return re.sub(r"parametrizations\.(\w+)\.original\d*$", r"\1", name)


def every_weight(model: nn.Module) -> Iterator[Weight]:
    """As `prunable`, but nothing to prune is no error."""
    model = uncompiled(model)
    require_shapes(model)
    names = _names_by_tensor(model)
    seen: set[int] = set()
    for path, module in model.named_modules():
        for leaf in leaves(module):
            tensor = raw(module, leaf)
            if tensor is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            name = f"{path}.{leaf}" if path else leaf
            aliases = tuple(n for n in names[id(tensor)] if n != name)
            shape = _dense_shape(module, leaf)
            known = layout(module, shape)
            found = Weight(name, shape, known.kind, known.fan_in, known.out_dim, known.groups, aliases)
            if found.numel:  # a layer without inputs or outputs has nothing to prune and no fan-in to scale by
                yield found


def require_shapes(model: nn.Module) -> None:
    """See that no parameter or buffer is still to get its shape, as those of lazy layers are.

    Raises:
        InputError: One is; it is named. Or `model` is none.
    """
    check_model(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise InputError(f"{name} has no shape yet: run the model once on an example first")


def _hooked(model: nn.Module) -> dict[str, str]:
    """The weights that hooks compute, and the call that removes each hook."""
    return {
        f"{path}.{leaf}" if path else leaf: how
        for path, module in uncompiled(model).named_modules()
        for leaf in leaves(module)
        if (how := removal(module, path, leaf)) is not None
    }


def _names_by_tensor(model: nn.Module) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(plain_name(name))
    return names


def _read(module: nn.Module, leaf: str) -> Tensor:
    if not parametrize.is_parametrized(module, leaf):
        return cast(Tensor, getattr(module, leaf))
    # Another library's parametrisation may change its state when it is read in training mode (spectral norm does).
    modes = [(part, part.training) for part in module.modules()]
    try:
        with uncached():
            return cast(Tensor, getattr(module.eval(), leaf))
    finally:
        for part, training in modes:
            part.training = training


def _dense_shape(module: nn.Module, leaf: str) -> tuple[int, ...]:
    """The shape of the tensor that the module reads, without computing a parametrised one where a link knows it."""
    if parametrize.is_parametrized(module, leaf):
        links = cast(nn.ModuleList, cast(nn.ModuleDict, module.parametrizations)[leaf])
        known = next((link.shape for link in links if isinstance(getattr(link, "shape", None), tuple)), None)
        if known is not None:
            return cast(tuple[int, ...], known)
    return tuple(_read(module, leaf).shape)


def _matching(names: Collection[str], patterns: Patterns) -> list[str]:
    found: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = fnmatch.filter(names, pattern)
        if not hits:
            raise unknown("weight pattern", pattern, names)
        found.update(dict.fromkeys(hits))
    return [name for name in names if name in found]
