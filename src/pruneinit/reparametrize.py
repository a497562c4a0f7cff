"""Tensors that a model computes from a stored parameter: through survivors, through fixed factors.

Everything rests on `torch.nn.utils.parametrize`: the stored parameter is `parametrizations.weight.original`, and
reading `module.weight` sends it through a chain of small modules. A chain here is at most one `Survivors` (see
`survivors.py`), which makes the dense tensor, and then any number of `Scale`, which multiply it. So everything is
visible in `print(model)`, saved by `state_dict()`, and followed by `torch.compile` and `torch.export`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pruneinit.errors import InputError
from pruneinit.recurrent import copyable_, settle_
from pruneinit.weights import every_weight, owner, plain_name, raw, require_shapes, uncached, uncompiled


class Link(nn.Module):
    """One of our own steps between a stored parameter and the tensor that the model reads."""


class Scale(Link):
    """Multiply a tensor by a fixed factor that is saved with the model but not trained.

    Args:
        factor: A scalar, or any shape that broadcasts against the tensor.
        role: Why it is there: `"rescale"` (back to the Edge of Chaos) or `"branch"` (a residual branch).

    Example:
        >>> Scale(torch.tensor(2.0), "rescale")(torch.ones(2))
        tensor([2., 2.])
    """

    factor: Tensor

    def __init__(self, factor: Tensor, role: str) -> None:
        super().__init__()
        self.register_buffer("factor", factor.detach().clone())
        self.role = role

    def forward(self, tensor: Tensor) -> Tensor:
        """The tensor times the factor."""
        return tensor * self.factor

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        if self.factor.numel() == 1:
            return f"{self.role}, factor={self.factor.item():.4g}"
        return f"{self.role}, factor of shape {tuple(self.factor.shape)}"


def tied_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """For each name of a parameter all names of it (several for tied weights), itself first.

    Example:
        >>> model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
        >>> model["b"].weight = model["a"].weight
        >>> tied_names(model)["b.weight"]
        ('b.weight', 'a.weight')
    """
    groups: dict[int, list[str]] = {}
    for name, parameter in uncompiled(model).named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(plain_name(name))
    return {name: (name, *(other for other in group if other != name)) for group in groups.values() for name in group}


def chain(model: nn.Module, name: str) -> list[nn.Module]:
    """What the stored parameter behind `name` passes through; empty for a plain parameter."""
    module, leaf = owner(model, name)
    if not parametrize.is_parametrized(module, leaf):
        return []
    return list(cast(nn.ModuleList, cast(nn.ModuleDict, module.parametrizations)[leaf]))


def set_chain_(model: nn.Module, names: Sequence[str], modules: Iterable[nn.Module]) -> None:
    """Give the parameter known under `names` a new chain. The parameter object, its values and its place stay."""
    modules = list(modules)
    for name in names:
        module, leaf = owner(model, name)
        order = _order(module)
        if parametrize.is_parametrized(module, leaf):
            _own_class_(module)
            parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
        elif modules and parametrize.is_parametrized(module):
            _own_class_(module)
        for link in modules:
            # unsafe: the stored values of a pruned weight have another shape than the tensor, which is the point.
            parametrize.register_parametrization(module, leaf, link, unsafe=True)
        _keep_order_(module, order)
        copyable_(module)
        settle_(module)
    parametrize._cache.clear()  # within parametrize.cached(): the tensors there are those of before


def set_stored_(model: nn.Module, name: str, values: Tensor) -> None:
    """Replace the values (and, it may be, the shape) of the stored parameter; it stays the same object."""
    parameter = stored(model, name)
    parameter.data = values.detach().to(parameter.dtype).contiguous()
    parameter.grad = None
    parametrize._cache.clear()


def stored(model: nn.Module, name: str) -> nn.Parameter:
    """The parameter that optimizers see for the tensor `name`."""
    module, leaf = owner(model, name)
    parameter = raw(module, leaf)
    if parameter is None:
        raise InputError(f"{name} is no parameter of {type(model).__name__}")
    return parameter


def reparametrized(model: nn.Module) -> Iterator[str]:
    """The names of all tensors with a chain of ours, each tied tensor once, a weight by its name in `prunable`."""
    require_shapes(model)
    if not any(parametrize.is_parametrized(module) for module in model.modules()):
        return
    seen: set[int] = set()
    weights = {id(stored(model, found.name)): found.name for found in every_weight(model)}
    for path, module in uncompiled(model).named_modules():
        if not parametrize.is_parametrized(module) or isinstance(module, parametrize.ParametrizationList):
            continue
        for leaf in cast(nn.ModuleDict, module.parametrizations):
            name = f"{path}.{leaf}" if path else leaf
            if id(stored(model, name)) in seen or not any(isinstance(link, Link) for link in chain(model, name)):
                continue
            seen.add(id(stored(model, name)))
            yield weights.get(id(stored(model, name)), name)


def require_ours(model: nn.Module, names: Iterable[str]) -> None:
    """See that every link on the tensors `names` is ours, also under the other names of tied ones.

    Raises:
        InputError: Somebody else's parametrisation (weight norm, spectral norm, ...) is on one of them.
    """
    tied = tied_names(model)
    for name in names:
        for alias in tied[name]:
            foreign = [type(link).__name__ for link in chain(model, alias) if not isinstance(link, Link)]
            if foreign:
                known = name if alias == name else f"{name} (tied to {alias})"
                raise InputError(
                    f"{known} is already parametrised by {', '.join(foreign)}: remove that first "
                    "(torch.nn.utils.parametrize.remove_parametrizations), or leave the weight out with exclude="
                )


@contextmanager
def replaced(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Let the model read other tensors in place of its parametrised ones, without a change to what is stored.

    Args:
        model: Any module.
        tensors: What to read, by plain name.

    Yields:
        The tensors that are not behind a parametrisation, for `torch.func.functional_call`, which would hand the
        others to the parametrisation as a new value to store. A module that has two names is listed under one:
        `functional_call` would put back for the second name what it had put in for the first. For the same reason it
        must be told `tie_weights=False`.
    """
    plain: dict[str, Tensor] = {}
    lists: list[nn.ModuleList] = []
    seen: set[tuple[int, str]] = set()
    try:
        for name, tensor in tensors.items():
            module, leaf = owner(model, name)
            if (id(module), leaf) in seen:
                continue
            seen.add((id(module), leaf))
            if parametrize.is_parametrized(module, leaf):
                links = cast(nn.ModuleList, cast(nn.ModuleDict, module.parametrizations)[leaf])
                links.append(_Instead(tensor))
                lists.append(links)
            else:
                plain[name] = tensor
        with uncached():
            yield plain
    finally:
        for links in lists:
            del links[-1]
        for module in uncompiled(model).modules():
            settle_(module)


def copied_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that a forward pass may write to, for `functional_call`: each module once, shared ones shared.

    These are the buffers, and the embeddings with `max_norm`, which shorten their own vectors.
    """
    copies: dict[int, Tensor] = {}
    named: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        written = dict(module._buffers)
        if getattr(module, "max_norm", None) is not None:
            written |= module._parameters
        for leaf, tensor in written.items():
            if tensor is not None:
                if id(tensor) not in copies:
                    copies[id(tensor)] = tensor.detach().clone()
                named[f"{path}.{leaf}" if path else leaf] = copies[id(tensor)]
    return named


class _Instead(nn.Module):
    """A last link of a chain that ignores what comes through it."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = (tensor,)  # in a tuple, so that it is never registered as a parameter

    def forward(self, tensor: Tensor) -> Tensor:
        return self.tensor[0]


def tensor_without(model: nn.Module, name: str, role: str) -> Tensor:
    """The tensor `name` as the forward pass would see it without the factors of one role; detached."""
    tensor = stored(model, name).detach()
    for link in chain(model, name):
        if not (isinstance(link, Scale) and link.role == role):
            tensor = link(tensor)
    return tensor


def factor(model: nn.Module, name: str, role: str | None = None) -> Tensor:
    """The product of the factors on `name`, of one role or of all; a scalar one where there is none."""
    product = torch.ones((), device=stored(model, name).device)
    for link in chain(model, name):
        if isinstance(link, Scale) and (role is None or link.role == role):
            product = product * link.factor
    return product


def _order(module: nn.Module) -> tuple[str, ...]:
    """The parameters of a module in the order that they had before any of them got a chain."""
    order = getattr(module.parametrizations, "order", None) if parametrize.is_parametrized(module) else None
    return order or tuple(module._parameters)


def _keep_order_(module: nn.Module, order: tuple[str, ...]) -> None:
    """Put the plain parameters of a module in order, and remember the order while others have a chain.

    PyTorch puts a parameter whose parametrisation is removed last, and optimizers know parameters by their position.
    """
    place = {leaf: i for i, leaf in enumerate(order)}
    plain = sorted(module._parameters.items(), key=lambda item: place.get(item[0], len(place)))
    module._parameters.clear()
    module._parameters.update(plain)
    if parametrize.is_parametrized(module):
        cast(Any, module.parametrizations).order = order


def _own_class_(module: nn.Module) -> None:
    """Give a parametrised module a class of its own.

    PyTorch keeps the property `weight` on a class made for the module, but a deepcopy shares that class; removing or
    adding a parametrisation on one copy would break the other.
    """
    cls = type(module)
    members = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(cls.__name__, cls.__bases__, members)
