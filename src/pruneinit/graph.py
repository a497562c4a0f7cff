"""The autograd graph of one forward pass, as a thing to ask questions of.

Sets of nodes are Python integers used as bit sets: "everything that a node was computed from" is then one `|` per
edge, which keeps the search for residual branches linear even in networks of thousands of operations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from pruneinit.batch import describe, mapped, require_tensors, tensors
from pruneinit.errors import InputError
from pruneinit.functional import eager, scoring_mode
from pruneinit.reparametrize import copied_state, replaced, tied_names
from pruneinit.weights import plain_name, require_shapes, uncompiled, weight


class Graph:
    """The operations of a forward pass, each after those that it was computed from.

    Attributes:
        nodes: The autograd nodes in order of computation.
        parameters: For the index of a leaf node that is a parameter, the parameter's name.
        children: For each node, the indices of the nodes whose results it takes (None for constants).
        consumers: For each node, what takes its result: pairs of an operation and the position among its inputs;
            the operation is -1 where the model returns it.
        ancestors: For each node, the bit set of the nodes it was computed from and itself, parameters left out.
        recurrent: The bit set of the nodes of which PyTorch composes recurrent layers.
    """

    def __init__(self, outputs: Sequence[Tensor], leaves: dict[int, str], recurrent: Collection[Any] = ()) -> None:
        self.nodes = _in_order([t.grad_fn for t in outputs])
        index = {node: i for i, node in enumerate(self.nodes)}
        self.recurrent = sum(1 << index[node] for node in recurrent if node in index)
        self.parameters = {
            i: leaves[id(node.variable)]
            for i, node in enumerate(self.nodes)
            if hasattr(node, "variable") and id(node.variable) in leaves
        }
        self.children = [
            [None if child is None else index[child] for child, _ in node.next_functions] for node in self.nodes
        ]
        self.consumers: list[list[tuple[int, int]]] = [[] for _ in self.nodes]
        for i, children in enumerate(self.children):
            for at, child in enumerate(children):
                if child is not None:
                    self.consumers[child].append((i, at))
        for at, output in enumerate(outputs):
            self.consumers[index[output.grad_fn]].append((-1, at))
        self.ancestors: list[int] = []
        for i, children in enumerate(self.children):
            reach = 0 if i in self.parameters else 1 << i
            for child in children:
                if child is not None:
                    reach |= self.ancestors[child]
            # What is computed from parameters alone (a transposed weight) counts as a parameter too.
            self.ancestors.append(reach if self._has_data(i) else 0)

    def name(self, node: int) -> str:
        """The operation's name, for example `"AddmmBackward0"`."""
        return str(self.nodes[node].name())

    def parameter(self, node: int | None) -> int | None:
        """The leaf index of the parameter that a node is, directly or through transposes and views; else None."""
        while node is not None and self.name(node).startswith(_VIEWS) and not self.ancestors[node]:
            node = self.children[node][0]
        return node if node in self.parameters else None

    def parameters_of(self, node: int) -> dict[int, str]:
        """The parameters that an operation takes directly, or through transposes and views; by leaf index."""
        leaves = [self.parameter(child) for child in self.children[node]]
        return {leaf: self.parameters[leaf] for leaf in leaves if leaf is not None}

    def _has_data(self, node: int) -> bool:
        """False for a parameter and for views of one. An embedding, which has no other input, is data."""
        if node in self.parameters:
            return False
        if not self.children[node] or not self.name(node).startswith(_VIEWS):
            return True
        return any(child is not None and self.ancestors[child] for child in self.children[node])


_VIEWS = ("TBackward", "TransposeBackward", "ViewBackward", "PermuteBackward", "ReshapeAlias", "UnsafeView",
          "ExpandBackward", "UnsqueezeBackward", "SqueezeBackward", "ToCopyBackward", "AliasBackward")  # fmt: skip


def members(bits: int) -> Iterator[int]:
    """The elements of a bit set, smallest first.

    Example:
        >>> list(members(0b1011))
        [0, 1, 3]
    """
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def trace(model: nn.Module, example: Any) -> Graph:
    """The graph of `model(example)`; the model is left as it was.

    Args:
        model: Any module.
        example: A tensor, a tuple of positional arguments, or a dictionary of keyword arguments.

    Raises:
        InputError: The example is of NumPy arrays, the model cannot be run on it, returns nothing that depends on its
            parameters, or hides operations in reentrant checkpoints.
    """
    model = uncompiled(model)
    require_shapes(model)
    require_tensors("the example", example)
    copies = copied_state(model)
    parameters = {plain_name(name): weight(model, plain_name(name)) for name, _ in model.named_parameters()}
    leaves = {n: copies.get(n, t).detach().requires_grad_() for n, t in parameters.items() if t.is_floating_point()}
    example = mapped(_differentiable, example)
    args = example if isinstance(example, tuple) else () if isinstance(example, dict) else (example,)
    kwargs = example if isinstance(example, dict) else {}
    with scoring_mode(model, "running"):
        try:
            tied = tied_names(model)
            with (
                replaced(model, {alias: t for name, t in leaves.items() for alias in tied[name]}) as plain,
                eager(),
                _Operations() as operations,
            ):
                output = functional_call(model, copies | plain, args, kwargs, tie_weights=False)
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"the model cannot be run on the example given, {describe(example)}: {reason}") from error
    outputs = [t for t in tensors(output) if t.grad_fn is not None]
    if not outputs:
        raise InputError("the model's output does not depend on its parameters; it may run under no_grad")
    graph = Graph(outputs, {id(t): name for name, t in leaves.items()}, operations.recurrent)
    if any(graph.name(node).startswith("CheckpointFunction") for node in range(len(graph.nodes))):
        raise InputError("checkpointed blocks hide their operations: call checkpoint(..., use_reentrant=False)")
    return graph


_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")


class _Operations(TorchFunctionMode):
    """Sees to what the graph alone does not say.

    Additions of the number 0, with which `sum()` begins, are left out: in the graph it is like any other constant. And
    what a recurrent layer is composed of is kept apart, since it adds up its gates like branches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recurrent: set[Any] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.add, torch.add) and len(args) == 2 and type(args[1]) in (int, float) and args[1] == 0:
            return args[0].clone()
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in _RECURRENT:
            before = {t.grad_fn for t in tensors((args, kwargs))}
            self.recurrent.update(_in_order([t.grad_fn for t in tensors(result)], before))
        return result


def _differentiable(leaf: Any) -> Any:
    # An input that needs a gradient is a node of the graph, so that the first block's shortcut is seen too.
    if isinstance(leaf, Tensor) and leaf.dtype.is_floating_point:
        return leaf.detach().clone().requires_grad_()
    return leaf


def _in_order(roots: Sequence[Any], before: Collection[Any] = ()) -> list[Any]:
    """All nodes reachable from the roots without those `before`, each after the nodes it depends on."""
    order: list[Any] = []
    seen: set[Any] = set(before)
    stack: list[tuple[Any, bool]] = [(root, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node is not None and node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((child, False) for child, _ in node.next_functions)
    return order
