"""Find the residual branches of any model, and scale them to a Stable ResNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pruneinit.ends import ends_of
from pruneinit.errors import InputError
from pruneinit.graph import Graph, members, trace
from pruneinit.reparametrize import Scale, chain, reparametrized, require_ours, set_chain_, stored, tied_names
from pruneinit.weights import every_weight, weight

# What a shortcut does not pass: it is the identity or a linear projection.
_NONLINEAR = ("Relu", "LeakyRelu", "Prelu", "Elu", "Celu", "Gelu", "Silu", "Mish", "Sigmoid", "Tanh", "Softmax",
              "Softplus", "Hardswish", "Hardtanh", "Hardsigmoid", "Threshold", "ScaledDotProduct", "ExpBackward", "Erf",
              "SinBackward", "Pow")  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """One residual branch.

    Attributes:
        parameters: The parameters of its last linear or normalisation layer, which carry the factor.
        size: How many parameters the branch has, before pruning.
    """

    parameters: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Residuals:
    """The residual branches of a model, in order of execution, and the factor that each is multiplied by."""

    branches: tuple[Branch, ...]
    factor: float

    def __len__(self) -> int:
        return len(self.branches)

    def __str__(self) -> str:
        if not self.branches:
            return "no residual branches (no addition of two tensors with a common ancestor)"
        lines = [f"{len(self)} residual branches, each times {self.factor:.4g}, at"]
        return "\n".join([*lines, *(f"  {', '.join(b.parameters)}" for b in self.branches)])


def find_residuals(model: nn.Module, example: Any) -> Residuals:
    """Find the residual branches of a model from the autograd graph of one forward pass; the model is left as it was.

    A residual addition is one of two tensors with a common ancestor, of which one side, the shortcut, leads back to it
    by the identity or a linear projection; the other is the branch. Where both do, the branch is the side with more
    parameters. Other sums (of two nonlinear sides, of two linear ones of equal size, or where the branch has no weight
    that could be pruned) are passed over, and so are those inside of recurrent layers. What a model computes from a
    value after `detach()` or under `no_grad` is not in the graph and cannot be seen.

    Args:
        model: Any module.
        example: Its input: a tensor, a tuple of positional or a dictionary of keyword arguments.

    Returns:
        What was found, with the factor 1/√L for L branches; `len()` is 0 and `str()` says so where there are none.

    Raises:
        InputError: The model cannot be run on the example, or no parameters scale a branch and nothing else: it ends
            in an operation without parameters, or what they make also feeds a gate or an inner branch (the operation
            is named).

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner = nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return x + self.inner(x)
        >>> print(find_residuals(nn.Sequential(Block(), Block(), Block(), Block()), torch.zeros(2, 4)))
        4 residual branches, each times 0.5, at
          0.inner.weight, 0.inner.bias
          1.inner.weight, 1.inner.bias
          2.inner.weight, 2.inner.bias
          3.inner.weight, 3.inner.bias
    """
    graph = trace(model, example)
    sizes = {name: weight(model, name).numel() for name in graph.parameters.values()}
    weights = {name for found in every_weight(model) for name in (found.name, *found.aliases)}
    branches: list[Branch] = []
    ends: dict[int, set[int]] = {}  # parameter leaf -> the operations where it ends a branch
    for node in range(len(graph.nodes)):
        side = _branch_side(graph, node, sizes)
        if side is None:
            continue
        at, inside, count = side
        if not weights & _parameters(graph, inside):
            continue  # a normalisation that adds its own input, and the like
        found: dict[int, str] = {}
        for operation, leaf in ends_of(graph, node, at, inside):
            found[leaf] = graph.parameters[leaf]
            if operation in ends.setdefault(leaf, set()):
                raise InputError(f"{found[leaf]} ends two residual branches, one inside the other; scale them by hand")
            ends[leaf].add(operation)
        branches.append(Branch(_weight_first(found.values()), count))
    _check_only_there(graph, ends)
    return Residuals(tuple(branches), len(branches) ** -0.5 if branches else 1.0)


def stabilize_residuals_(model: nn.Module, example: Any) -> Residuals:
    """Make a Stable ResNet of any residual network: multiply each of its L residual branches by 1/√L.

    In a plain residual network the second moments of the SBP score grow like (1 + σ_w²/2)^L with the number of
    blocks; with this factor they do not (Hayou et al. 2021, section 4). The factor is a fixed `Scale` on the
    parameters of each branch's last linear or normalisation layer, so it is seen in `print(model)`, saved with the
    model and exported.

    Args:
        model: Any module; changed in place. A model without residual branches is left as it was.
        example: Its input: a tensor, a tuple of positional or a dictionary of keyword arguments.

    Returns:
        The branches and the factor; print it to see them.

    Raises:
        InputError: As `find_residuals`; or the branches carry such a factor already. The model is then as it was.

    Example:
        >>> import pruneinit as pi
        >>> model = pi.models.build("resnet20", input_shape=(3, 32, 32), classes=10)
        >>> residuals = stabilize_residuals_(model, torch.zeros(1, 3, 32, 32))
        >>> len(residuals), round(residuals.factor, 4), residuals.branches[0].parameters
        (9, 0.3333, ('stage1.0.bn2.weight', 'stage1.0.bn2.bias'))
    """
    residuals = find_residuals(model, example)
    names = list(dict.fromkeys(name for branch in residuals.branches for name in branch.parameters))
    require_ours(model, names)
    for name in names:
        if any(isinstance(link, Scale) and link.role == "branch" for link in chain(model, name)):
            raise InputError(f"{name} ends a residual branch and is scaled already: the model is a Stable ResNet")
    tied = tied_names(model)
    for name in names:
        parameter = stored(model, name)
        factor = torch.tensor(residuals.factor, dtype=parameter.dtype, device=parameter.device)
        set_chain_(model, tied[name], [*chain(model, name), Scale(factor, "branch")])
    return residuals


def shortcuts(model: nn.Module, batch: Any) -> tuple[int, bool]:
    """How many residual branches can be seen from a batch `(x, y)`, and whether they are divided already.

    Example:
        >>> shortcuts(nn.Linear(2, 2), (torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)))
        (0, False)
    """
    example = batch[0] if isinstance(batch, (tuple, list)) and batch else None
    try:
        seen = isinstance(example, torch.Tensor) and example.dim() > 0
        branches = len(find_residuals(model, example[:1])) if seen and example is not None else 0
    except InputError:
        branches = 0
    links = (link for name in reparametrized(model) for link in chain(model, name))
    return branches, any(isinstance(link, Scale) and link.role == "branch" for link in links)


def _branch_side(graph: Graph, node: int, sizes: dict[str, int]) -> tuple[int, int, int] | None:
    """Of a residual addition, which input the branch is, its operations as a bit set, and its parameter count."""
    children = graph.children[node]
    if not graph.name(node).startswith("AddBackward") or len(children) != 2 or None in children:
        return None
    if graph.recurrent >> node & 1:
        return None
    sides = [child for child in children if child is not None]
    reach = [graph.ancestors[side] for side in sides]
    if not reach[0] & reach[1]:
        return None
    inside = [reach[0] & ~reach[1], reach[1] & ~reach[0]]
    counts = [sum(sizes[name] for name in _parameters(graph, operations)) for operations in inside]
    linear = [_linear_way(graph, side, operations) for side, operations in zip(sides, inside, strict=True)]
    if not any(linear) or (all(linear) and counts[0] == counts[1]):
        return None
    branch = linear.index(False) if not all(linear) else int(counts[1] > counts[0])
    return (branch, inside[branch], counts[branch]) if counts[branch] else None


def _linear_way(graph: Graph, node: int, inside: int) -> bool:
    """Whether some way from `node` back to a common ancestor passes no nonlinearity: it can be a shortcut."""
    waiting, seen = [node], {node}
    while waiting:
        node = waiting.pop()
        if not inside >> node & 1:
            return True
        if graph.name(node).startswith(_NONLINEAR) or _gated(graph, node):
            continue
        for child in graph.children[node]:
            if child is not None and graph.ancestors[child] and child not in seen:
                seen.add(child)
                waiting.append(child)
    return False


def _gated(graph: Graph, node: int) -> bool:
    """Whether an operation multiplies two values that both depend on the data, as the gates of recurrent layers do."""
    data = [child for child in graph.children[node] if child is not None and graph.ancestors[child]]
    return graph.name(node).startswith("MulBackward") and len(data) == 2


def _parameters(graph: Graph, operations: int) -> set[str]:
    return {name for node in members(operations) for name in graph.parameters_of(node).values()}


def _check_only_there(graph: Graph, ends: dict[int, set[int]]) -> None:
    """A parameter that ends a branch must not be at work elsewhere too, where it would scale what is no branch."""
    for node in range(len(graph.nodes)):
        for leaf, name in graph.parameters_of(node).items():
            view = not graph.ancestors[node]  # a transposed weight, not a use of it
            if leaf in ends and node not in ends[leaf] and not view:
                raise InputError(f"{name} ends a residual branch and is used elsewhere too; scale the branch by hand")


def _weight_first(names: Any) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (not name.endswith("weight"), name)))
