"""Where a residual branch ends: the parameters that scale its result exactly, and nothing else.

The walk goes from the branch's result back to the parameters, over operations that hand a factor on their input
through to their output. A value on the way may feed nothing but the next operation of the way: a gate, or an inner
residual branch, computed from it would see the factor too.
"""

from __future__ import annotations

from collections.abc import Sequence

from pruneinit.errors import InputError
from pruneinit.graph import Graph

Edge = tuple[int, int]
"""An operation, and the position of one of its inputs."""

End = tuple[int, int]
"""An operation, and the leaf index of a parameter of it that carries the factor."""

# Operations of one input that hand a positive factor on it through to their output.
_HOMOGENEOUS = ("ViewBackward", "UnsafeView", "ReshapeAlias", "Transpose", "Permute", "TBackward", "Squeeze",
                "Unsqueeze", "Expand", "SliceBackward", "SelectBackward", "Clone", "Alias", "ToCopy", "Relu",
                "LeakyRelu", "NativeDropout", "Mean", "Sum", "AvgPool", "MaxPool", "AdaptiveAvgPool", "Upsample",
                "IndexBackward", "IndexSelect", "Neg", "Split", "Unbind", "Roll", "PixelShuffle", "Repeat")  # fmt: skip

# Sums, and what is put side by side: every input has to carry the factor.
_JOINING = ("AddBackward", "CatBackward", "StackBackward")

# For each affine operation the inputs that multiply each other, and the one that is added to the product.
_AFFINE = {
    "Addmm": ((1, 2), 0),
    "Addcmul": ((1, 2), 0),
    "Mm": ((0, 1), None),
    "Bmm": ((0, 1), None),
    "FusedRmsNorm": ((0, 1), None),
    "Convolution": ((0, 1), 2),
    "MkldnnConvolution": ((0, 1), 2),
    "NativeBatchNorm": ((0, 1), 2),
    "CudnnBatchNorm": ((0, 1), 2),
    "NativeLayerNorm": ((0, 1), 2),
    "NativeGroupNorm": ((0, 1), 2),
}


def ends_of(graph: Graph, addition: int, side: int, inside: int) -> list[End]:
    """The parameters that together multiply one side of a residual addition by a factor, if they are multiplied by it.

    Args:
        graph: Of the forward pass.
        addition: The residual addition.
        side: Which of its inputs the branch is.
        inside: The operations of the branch, as a bit set.

    Raises:
        InputError: No parameters scale the branch, or they would scale something else as well.
    """
    root = graph.children[addition][side]
    assert root is not None  # a branch has parameters
    return _ends(graph, inside, root, {root}, {(addition, side)}, [])


def _ends(graph: Graph, inside: int, root: int, waiting: set[int], scaled: set[Edge], found: list[End]) -> list[End]:
    """Go on from the operations in `waiting`, whose results are to be scaled, when the inputs `scaled` are already."""
    while waiting:
        node = max(waiting)  # After all operations that use its result, so that `scaled` has all of them.
        waiting = waiting - {node}
        if not inside >> node & 1:
            raise _unscalable(graph.name(root), "it takes the branch's own input")
        _check_alone(graph, root, node, scaled)
        ends, ways = _step(graph, node)
        found = [*found, *ends]
        onwards = [_along(graph, node, way, waiting, scaled) for way in ways]
        if len(onwards) > 1:
            return _first(graph, inside, root, onwards, found)
        if onwards:
            waiting, scaled = onwards[0]
    return found


def _first(
    graph: Graph, inside: int, root: int, onwards: Sequence[tuple[set[int], set[Edge]]], found: list[End]
) -> list[End]:
    """Of a product one factor is enough (x of x * gate(x)): the first that can be scaled."""
    problems: list[InputError] = []
    for waiting, scaled in onwards:
        try:
            return _ends(graph, inside, root, waiting, scaled, found)
        except InputError as error:
            problems.append(error)
    raise problems[0]


def _along(
    graph: Graph, node: int, way: Sequence[int], waiting: set[int], scaled: set[Edge]
) -> tuple[set[int], set[Edge]]:
    more = {child for i in way if (child := graph.children[node][i]) is not None}
    return waiting | more, scaled | {(node, i) for i in way}


def _step(graph: Graph, node: int) -> tuple[list[End], list[list[int]]]:
    """What scales the result of `node`: parameters of its own, and inputs (several lists of them: one is enough)."""
    name, children = graph.name(node), graph.children[node]
    leaves = [graph.parameter(child) for child in children]
    data = [i for i, child in enumerate(children) if child is not None and graph.ancestors[child]]
    attached = [(node, leaf) for leaf in leaves if leaf is not None]
    affine = next((shape for start, shape in _AFFINE.items() if name.startswith(start)), None)
    if affine is not None:
        return _of_affine(name, node, leaves, data, *affine), []
    if name.startswith(_JOINING):
        if None in children:
            raise _unscalable(name, "it takes a constant")
        return attached, [data]
    if name.startswith("MulBackward"):
        return (attached[:1], []) if attached else ([], [[i] for i in data])
    if name.startswith("DivBackward"):
        if 0 not in data:
            raise _unscalable(name, "it divides no data")
        return [], [[0]]
    if not name.startswith(_HOMOGENEOUS) or len(data) != 1:
        raise _unscalable(name, "it does not hand a factor through")
    return [], [data]


def _of_affine(
    name: str, node: int, leaves: Sequence[int | None], data: Sequence[int], factors: tuple[int, int], added: int | None
) -> list[End]:
    weights = [leaf for i in factors if (leaf := leaves[i]) is not None]
    if len(weights) != 1:
        raise _unscalable(name, "it has no parameters of its own")
    ends = [(node, weights[0])]
    if added is not None and (bias := leaves[added]) is not None:
        ends.append((node, bias))
    elif added in data or added == 0:  # a convolution or a normalisation without a bias has a constant there
        raise _unscalable(name, "what it adds is no parameter")
    return ends


def _check_alone(graph: Graph, root: int, node: int, scaled: set[Edge]) -> None:
    others = [consumer for consumer, i in graph.consumers[node] if (consumer, i) not in scaled]
    if others:
        other = "the model's output" if others[0] < 0 else _short(graph.name(others[0]))
        where = f"its result feeds {other}" if node == root else f"{_short(graph.name(node))} in it feeds {other}"
        raise _unscalable(graph.name(root), f"{where} too, which would see the factor")


def _short(name: str) -> str:
    return name.rstrip("0123456789").removesuffix("Backward")


def _unscalable(name: str, reason: str) -> InputError:
    return InputError(
        f"a residual branch ends in {_short(name)}, and {reason}, so no parameter can carry the factor 1/sqrt(L); end "
        "the branch with a linear, convolution or affine normalisation layer, or multiply it in forward by hand"
    )
