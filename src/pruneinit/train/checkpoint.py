"""A training as one safetensors file: enough to go on after a kill as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruneinit.data.dataset import Dataset
from pruneinit.errors import InputError
from pruneinit.files import read_tensors, write_tensors
from pruneinit.train.config import Training
from pruneinit.train.distributed import is_index
from pruneinit.train.records import Epoch

_MODEL, _OPTIMIZER = "model.", "optimizer."
_VERSION = 1

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: tensors by name, and the epochs that are over."""

    tensors: Mapping[str, Tensor]
    records: list[Epoch]


def identity(model: nn.Module, dataset: Dataset, training: Training, seed: int) -> dict[str, Any]:
    """What must be the same when a training goes on: settings, seed, data, and which weights the model keeps.

    Names, shapes and dtypes of the tensors are compared with those in the file itself. Index buffers are compared by
    a digest, as two nets pruned to the same density differ in nothing else.
    """
    same = {
        **asdict(training),
        "seed": seed,
        "data": [dataset.name, len(dataset.train), *dataset.shape],
        "indices": {name: _digest(buffer) for name, buffer in model.named_buffers() if is_index(buffer)},
    }
    for later in ("sparse", "cuda_graph"):  # settings that came later: older checkpoints go on
        if not same[later]:
            del same[later]
    plain: dict[str, Any] = json.loads(json.dumps(same))
    return plain


def save(
    path: AnyPath,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    records: Sequence[Epoch],
    same: Mapping[str, Any],
) -> None:
    """Write the state after the last of `records`, atomically: the file is the old one or the new one.

    Args:
        path: The file; its folder is made.
        model: Parameters and buffers are stored, tied ones once, buffers also where `state_dict` leaves them out.
        optimizer: Its tensors are stored under the names of their parameters.
        records: All epochs so far.
        same: What `identity` gave when the training started.

    Raises:
        InputError: The file cannot be written.
    """
    tensors = {_MODEL + name: tensor for name, tensor in _tensors(model)}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{key}.{name}"] = value
    metadata = {"checkpoint": _VERSION, "same": dict(same), "records": [asdict(record) for record in records]}
    write_tensors(path, tensors, metadata)


def read(path: AnyPath, model: nn.Module, same: Mapping[str, Any]) -> Saved | None:
    """The checkpoint at `path`, checked against the model and `identity`; None where there is no file.

    Raises:
        InputError: The file is damaged, is no checkpoint, or belongs to another training; nothing has been changed.
    """
    if not Path(path).exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
    except InputError as error:
        raise InputError(f"no checkpoint to go on from: {error}, or remove it to begin anew") from error
    if metadata.get("checkpoint") != _VERSION:
        raise InputError(f"{path} is not a training checkpoint of this version of pruneinit: give another path")
    difference = _model_difference(model, tensors) or _difference(metadata["same"], same)
    if difference:
        raise InputError(
            f"checkpoint {path} belongs to another training: {difference}; continue with what it was written with, "
            "give another path, or remove it"
        )
    return Saved(tensors, [Epoch(**record) for record in metadata["records"]])


def restore_(saved: Saved, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Copy the values of a checkpoint that `read` accepted into the model and its new optimizer."""
    with torch.no_grad():
        for name, tensor in _tensors(model):
            tensor.copy_(saved.tensors[_MODEL + name])
    packed = optimizer.state_dict()
    # Parameters are numbered across groups in the order in which the optimizer was given them.
    numbers = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    named = dict(model.named_parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.tensors.items():
        if name.startswith(_OPTIMIZER):
            key, _, owner = name.removeprefix(_OPTIMIZER).partition(".")
            parameter = named[owner]
            if value.shape == parameter.shape:
                # In the memory order of the parameter: fused optimizers go through both as flat memory.
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            state.setdefault(numbers[parameter], {})[key] = value
    optimizer.load_state_dict({**packed, "state": state})


def remove_parts(path: AnyPath) -> None:
    """Remove what kills in the midst of writing have left beside `path`; no other process may be writing it now."""
    target = Path(path)
    part = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}")
    if target.parent.is_dir():
        for file in target.parent.iterdir():
            if part.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    # Not state_dict(): it leaves out non-persistent buffers and may be rewritten by hooks.
    yield from model.named_parameters()
    yield from model.named_buffers()


def _model_difference(model: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    was = {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)}
    now = dict(_tensors(model))
    return _difference({n: _describe(t) for n, t in was.items()}, {n: _describe(t) for n, t in now.items()})


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first difference of two mappings in words, or nothing."""
    for name in [*now, *(n for n in was if n not in now)]:
        if name not in was or name not in now:
            return f"{name} is only in {'the file' if name in was else 'what was given'}"
        if was[name] != now[name]:
            if name == "indices":
                differing = _difference(was[name], now[name]).partition(" ")[0]
                return f"another choice of weights is kept, {differing} differs"
            return f"{name} was {was[name]!r}, now {now[name]!r}"
    return ""


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=8).hexdigest()
