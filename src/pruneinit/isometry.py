"""Approximate dynamical isometry: the surviving weights of a layer made as orthogonal as their mask allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruneinit.errors import InputError, check_positive, check_whole
from pruneinit.functional import effective_weights
from pruneinit.masks import Masks
from pruneinit.reparametrize import Scale, chain, require_ours, set_stored_, stored
from pruneinit.survivors import chosen_masks, current_masks, survivors_of
from pruneinit.weights import Weight, listed

_ENOUGH, _CLOSE = 256, 1e-3  # rows to look at, and how close their products are to 0 or 1
_HISTORY = 20  # of L-BFGS: more than its usual 10, since the sparsest layers converge slowly


@dataclass(frozen=True)
class Isometry:
    """What `find_isometry` found, by weight name; `str()` is a table.

    Attributes:
        weights: The new dense tensors, in the dtype of the stored weight; what the masks remove is as it was.
        before: The singular values of the masked matrices as they were, largest first, in float64.
        after: Those of the new ones.
        objective_before: The sum over the matrices of ‖(C∘W)ᵀ(C∘W) - gain²·I‖_F, with the smaller Gram matrix.
        objective_after: The same for the new ones; never larger.
        steps: How many steps the slowest matrix of each weight took; 0 where nothing better was found.
    """

    weights: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    objective_before: dict[str, float]
    objective_after: dict[str, float]
    steps: dict[str, int]

    def __str__(self) -> str:
        width = max(len("weight"), *map(len, self.weights))
        head = f"{'weight':<{width}}  {'singular values before':^26}  {'after':^26}  {'distance':^19}  steps"
        means = f"{'':<{width}}  {'mean     min      max':^26}  {'mean     min      max':^26}  {'before    after':^19}"
        lines = [head, means.rstrip()]
        for name in self.weights:
            if not bool(self.before[name].any()):
                lines.append(f"{name:<{width}}  nothing is left of it, or all of it is 0: as it was")
                continue
            values = "  ".join(f"{_summary(part[name]):<26}" for part in (self.before, self.after))
            distances = f"{self.objective_before[name]:<8.4g}  {self.objective_after[name]:<8.4g}"
            lines.append(f"{name:<{width}}  {values}  {distances:<19}  {self.steps[name]}")
        return "\n".join(lines)


def orthogonal(weight: Tensor) -> bool:
    """Whether the outputs of a weight, or its inputs, are orthogonal and of one norm.

    Some may have no entries, and two may be each other's negatives, as mirrored halves are. It looks at the first 256
    that have any.

    Args:
        weight: Dense, its first two dimensions those of the outputs and the inputs, in whatever order.

    Returns:
        False also where fewer than two have entries, and for a weight of fewer dimensions.

    Example:
        >>> orthogonal(torch.tensor([[0.0, 2.0, 0.0], [-1.2, 0.0, 1.6]])), orthogonal(torch.ones(2, 3))
        (True, False)
    """
    if weight.ndim < 2:
        return False
    close = max(_CLOSE, 8 * torch.finfo(weight.dtype).eps)
    return any(_orthogonal_rows(side.detach().flatten(1), close) for side in (weight, weight.transpose(0, 1)))


def _orthogonal_rows(rows: Tensor, close: float) -> bool:
    rows = rows[rows.any(1)][:_ENOUGH].float()
    if len(rows) < 2:
        return False
    products = (rows @ rows.T) / rows.square().sum(1).mean()
    one, apart = (products.diagonal() - 1).abs() < close, products - torch.diag(products.diagonal())
    return bool(one.all()) and bool(((apart.abs() < close) | ((apart + 1).abs() < close)).all())


def approximate_isometry_(
    model: nn.Module,
    masks: Masks | None = None,
    *,
    gain: float = 1.0,
    steps: int = 300,
    tolerance: float = 1e-9,
) -> nn.Module:
    """Make each pruned layer as near to an isometry as its mask C allows, by its surviving weights W, in place.

    Each layer by itself, without data: W <- argmin ‖(C∘W)ᵀ(C∘W) - gain²·I‖_F with the mask fixed. Use it after
    `orthogonal_` and `prune`, in place of `rescale_`. `find_isometry` is the same as a look, with what it would bring.

    The matrices are outputs x inputs, the taps of a convolution among the inputs, as in the paper; one for each group
    of a grouped convolution and each projection of an attention. Of a wide matrix the rows are made orthonormal, of a
    tall one the columns: the smaller Gram matrix, whose squared objective differs from the other's by a constant.

    The solver is L-BFGS in float64 over the kept values of W / gain, from where they are, with a line search. It stops
    when the largest entry of the gradient of ‖·‖²/4 is at most `tolerance`, when a step changes the objective by less
    than 1e-15, or after `steps` steps. The problem is not convex: it finds a minimum near the start. If what is found
    is not nearer, after rounding to the dtype of the weight, that weight stays as it is. Rows or columns without a kept
    weight count in the objective and cannot change; so does a row of zeros, from which no gradient leads away.

    Cost: no pass through the model; a step takes 4·m²·n operations for a matrix of m x n, m the smaller.

    Args:
        model: A dense model, with the `masks` that it is going to be sparsified with, or a sparsified model.
        masks: What is kept of some or all of its weights. None for the survivors of a sparsified model.
        gain: The singular value to come near to: 1 in the paper; σ_w for the Edge of Chaos of an activation.
        steps: The most steps of the solver for a matrix, at least 1.
        tolerance: When the gradient counts as 0, above 0.

    Returns:
        The model, changed in place. Weights that the masks remove, biases, and fixed factors are as they were; the
        factor of a rescaling counts as part of the weight, that of a residual branch does not.

    Raises:
        InputError: The model is dense and there are no masks, they are of another model, a weight is not finite or
            parametrised by another library, or a number is out of range. The model is then as it was.

    Source: Lee, Ajanthan, Gould, Torr, "A Signal Propagation Perspective for Pruning Neural Networks at
    Initialization" (2020), section 4.2.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2, bias=False))
        >>> masks = Masks({"0.weight": torch.eye(2, dtype=torch.bool)})
        >>> approximate_isometry_(model, masks)[0].weight.diagonal().abs()
        tensor([1., 1.], grad_fn=<AbsBackward0>)
    """
    found = find_isometry(model, masks, gain=gain, steps=steps, tolerance=tolerance)
    for name, tensor in found.weights.items():
        survivors = survivors_of(model, name)
        with torch.no_grad():
            # In place where it is dense: a tied embedding and the optimizer hold this very tensor.
            if survivors is None:
                stored(model, name).copy_(tensor)
            else:
                set_stored_(model, name, survivors.gather(tensor))
    return model


def find_isometry(
    model: nn.Module,
    masks: Masks | None = None,
    *,
    gain: float = 1.0,
    steps: int = 300,
    tolerance: float = 1e-9,
) -> Isometry:
    """What `approximate_isometry_` would do, with the singular values before and after; the model is left as it was.

    Arguments and errors are those of `approximate_isometry_`.

    Example:
        >>> model = nn.Linear(3, 2, bias=False)
        >>> found = find_isometry(model, Masks({"weight": torch.ones(2, 3).bool()}))
        >>> found.after["weight"].round(decimals=6)
        tensor([1., 1.], dtype=torch.float64)
    """
    check_positive("gain", gain)
    check_positive("tolerance", tolerance)
    gain, tolerance = float(gain), float(tolerance)
    if not math.isfinite(gain * gain):
        raise InputError(f"gain is {gain:g}, and its square beyond all numbers: take that of the activation, about 1")
    steps = check_whole("steps", steps)
    sparse, weights = current_masks(model), listed(model)
    chosen = chosen_masks(model, masks)
    require_ours(model, chosen)
    result = Isometry({}, {}, {}, {}, {}, {})
    for name, mask in chosen.items():
        values = stored(model, name).detach()
        survivors = survivors_of(model, name)
        kept = mask.to(values.device) & sparse[name].to(values.device) if name in sparse else mask.to(values.device)
        dense = values if survivors is None else survivors(values)
        # What is stored is looked for, and what the layer computes with is to be the isometry.
        factor = _rescaling(model, name, values.device)
        _check_finite(name, dense)
        start, old = dense.double(), []
        blocks = _blocks(weights[name], start * factor), _blocks(weights[name], kept.double())
        scales = _blocks(weights[name], factor.expand(dense.shape))
        best, most = [], 0
        for matrix, block, scale in zip(*blocks, scales, strict=True):
            solved, took = _solve(matrix * block / gain, block.bool(), steps, tolerance)
            old.append(matrix * block)
            best.append(torch.where(block.bool(), solved * gain / scale, matrix / scale))
            most = max(most, took)
        new = _joined(weights[name], best).to(values.dtype)
        rounded = [m * b for m, b in zip(_blocks(weights[name], new.double() * factor), blocks[1], strict=True)]
        before, after = (sum(_distance(m, gain) for m in part) for part in (old, rounded))
        if not after < before:
            new, rounded, after, most = dense, old, before, 0
        result.weights[name] = new
        result.before[name], result.after[name] = _spectrum(old), _spectrum(rounded)
        result.objective_before[name], result.objective_after[name] = before, after
        result.steps[name] = most
    return result


def singular_values(model: nn.Module, masks: Masks | None = None) -> dict[str, Tensor]:
    """The singular values of each layer's matrix, largest first, in float64.

    The matrices are those of `approximate_isometry_`: outputs x inputs with the taps of a convolution among the inputs
    (which is not the operator on maps), one for each group or attention projection, all factors included.

    Args:
        model: Any module, dense or sparsified; left as it was.
        masks: The weights that are wanted, and what of each is kept. None for all prunable weights as they are.

    Returns:
        For each weight a tensor [number of matrices · the smaller side of one].

    Raises:
        InputError: A mask is of another model, or a weight is not finite.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = nn.init.eye_(model.weight)
        >>> singular_values(model, Masks({"weight": torch.tensor([[True, False], [False, False]])}))
        {'weight': tensor([1., 0.], dtype=torch.float64)}
    """
    weights = listed(model)
    found = {}
    for name, tensor in effective_weights(model, masks).items():
        _check_finite(name, tensor)
        found[name] = _spectrum(_blocks(weights[name], tensor.double()))
    return found


def _solve(start: Tensor, kept: Tensor, steps: int, tolerance: float) -> tuple[Tensor, int]:
    """The kept entries of a matrix moved to a minimum of ‖G - I‖², G the smaller Gram matrix; and the steps taken."""
    if start.shape[0] > start.shape[1]:
        solved, took = _solve(start.T, kept.T, steps, tolerance)
        return solved.T, took
    if not bool(start.any()):
        return start, 0
    eye = torch.eye(len(start), dtype=start.dtype, device=start.device)
    index = kept.reshape(-1).nonzero().reshape(-1)
    values = start.reshape(-1)[index].clone().requires_grad_()
    # A step may evaluate a few points; that it never ends by counting them is what the factor is for.
    optimizer = torch.optim.LBFGS(
        [values],
        max_iter=steps,
        max_eval=25 * steps,
        tolerance_grad=tolerance,
        tolerance_change=1e-15,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def matrix_of(kept_values: Tensor) -> Tensor:
        return start.new_zeros(start.numel()).scatter(0, index, kept_values).view(start.shape)

    def closure() -> Tensor:
        matrix = matrix_of(values.detach())
        rest = matrix @ matrix.T - eye
        values.grad = (rest @ matrix).reshape(-1)[index]
        return rest.square().sum() / 4

    with torch.no_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        solved = matrix_of(values)
    took = int(optimizer.state[values]["n_iter"])
    return (solved, took) if bool(solved.isfinite().all()) else (start, 0)


def _blocks(weight: Weight, tensor: Tensor) -> list[Tensor]:
    """The matrices of a weight, outputs x inputs: one for each group or attention projection."""
    return [part.transpose(0, weight.out_dim).flatten(1) for part in tensor.chunk(_parts(weight))]


def _joined(weight: Weight, matrices: list[Tensor]) -> Tensor:
    """The tensor of a weight from its matrices."""
    shape = [weight.shape[0] // _parts(weight), *weight.shape[1:]]
    shape[0], shape[weight.out_dim] = shape[weight.out_dim], shape[0]
    return torch.cat([matrix.reshape(shape).transpose(0, weight.out_dim) for matrix in matrices])


def _parts(weight: Weight) -> int:
    return 3 if weight.name.endswith("in_proj_weight") else weight.groups


def _rescaling(model: nn.Module, name: str, device: torch.device) -> Tensor:
    """The product of the factors that bring the weight back to the Edge of Chaos, in float64."""
    product = torch.ones((), dtype=torch.float64, device=device)
    for link in chain(model, name):
        if isinstance(link, Scale) and link.role == "rescale":
            product = product * link.factor.double()
    return product


def _distance(matrix: Tensor, gain: float) -> float:
    """‖WᵀW - gain²·I‖_F with the smaller of the two Gram matrices."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    eye = torch.eye(len(wide), dtype=matrix.dtype, device=matrix.device)
    return float((wide @ wide.T - gain**2 * eye).norm())


def _spectrum(matrices: list[Tensor]) -> Tensor:
    return torch.cat([torch.linalg.svdvals(matrix) for matrix in matrices]).sort(descending=True).values


def _summary(values: Tensor) -> str:
    parts = (values.mean(), values.min(), values.max())
    return " ".join(f"{0 if part < 1e-12 else part:<8.4g}" for part in parts)  # what rounding makes of 0 is 0


def _check_finite(name: str, tensor: Tensor) -> None:
    bad = int((~tensor.isfinite()).count_nonzero())
    if bad:
        raise InputError(
            f"{name} holds {bad:,} values that are NaN or infinite: initialise the model again (orthogonal_) or load "
            "sound weights first"
        )
