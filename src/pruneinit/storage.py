"""Save a model as safetensors and JSON, and load it into a fresh one. Nothing is pickled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruneinit.errors import InputError
from pruneinit.files import read_tensors, write_tensors
from pruneinit.processes import require_own
from pruneinit.reparametrize import (
    Scale,
    chain,
    reparametrized,
    require_ours,
    set_chain_,
    set_stored_,
    stored,
    tied_names,
)
from pruneinit.sharded import require_whole
from pruneinit.survivors import Survivors, survivors_of
from pruneinit.weights import uncompiled, weight

_INSIDE = ".parametrizations."


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model to one file: what its `state_dict()` holds, survivors as survivors, masks eight values to a byte.

    Buffers that are not persistent are written too, and which parameters are frozen. The file and the model's class
    together give the network back; the write is atomic, so that a reader never sees half a file.

    Args:
        model: A dense, sparsified, rescaled or stabilised model.
        path: The file to write, by convention `*.safetensors`; its folder is made.

    Raises:
        InputError: The file cannot be written, the model's state holds something other than tensors, or it is sharded.

    Example:
        >>> import tempfile, pruneinit as pi
        >>> model = nn.Linear(8, 8)
        >>> _ = pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.75))
        >>> fresh = nn.Linear(8, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pi.save(model, f"{folder}/net.safetensors")
        ...     _ = pi.load(f"{folder}/net.safetensors", into=fresh)
        >>> torch.equal(fresh.weight, model.weight)
        True
    """
    model = uncompiled(model)
    require_whole(model)
    tied = tied_names(model)
    chains = {name: _describe(model, name, tied[name]) for name in reparametrized(model)}
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[int, str] = {}
    require_ours(model, chains)
    state = model.state_dict(keep_vars=True)
    passing = {n: b for n, b in model.named_buffers(remove_duplicate=False) if n not in state}
    for key, value in (state | passing).items():
        if not isinstance(value, Tensor):
            raise InputError(f"{key} in the model's state is a {type(value).__name__}, and only tensors can be saved")
        if key != first.setdefault(id(value), key):
            shared[key] = first[id(value)]
        else:
            tensors[key] = value
    for name, described in chains.items():
        survivors = survivors_of(model, name)
        if survivors is not None:
            key = f"{described['prefix']}.index"
            tensors[shared.get(key, key)] = torch.from_numpy(np.packbits(survivors.mask.cpu().numpy().reshape(-1)))
    metadata = {
        "kind": "model",
        "signature": _signature(model),
        "tied": _tied(model),
        "chains": chains,
        "shared": shared,
        "buffers": list(passing),
        "frozen": [name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad],
    }
    write_tensors(path, tensors, metadata)


def load(path: str | os.PathLike[str], into: nn.Module) -> nn.Module:
    """Read a model that `save` wrote into a model of the same architecture.

    The file is checked against its checksum and against the model before anything is changed.

    Args:
        path: The file.
        into: A model of the same class and sizes, dense or not; it becomes what was saved, on its own device. Its
            parameters are frozen or not as in the file. A buffer that is not persistent takes the saved value in
            whatever shape, and stays as it is where the file has none of its name.

    Returns:
        The model `into`.

    Raises:
        InputError: The file is missing, truncated, altered, foreign, or of another architecture or dtype (the first
            differences are named). `into` is then as it was.
    """
    require_own(into, "load into")
    given, into = into, uncompiled(into)
    tensors, metadata = read_tensors(path)
    if metadata.get("kind") != "model":
        raise InputError(f"{path} holds {metadata.get('kind', 'something else')}, expected a model")
    if missing := {"signature", "tied", "chains", "shared"} - metadata.keys():
        raise InputError(f"{path} says nothing of {', '.join(sorted(missing))}: another version of pruneinit wrote it")
    _compare(metadata["signature"], _signature(into), path)
    if (groups := _tied(into)) != metadata["tied"]:
        raise InputError(f"{path} is of another model: it ties {metadata['tied']}, the model ties {groups}")
    require_ours(into, reparametrized(into))
    shared = metadata["shared"]
    # In this order since the first version wrote the masks of some tied weights under both keys.
    state = {key: tensors[source] for key, source in shared.items()} | tensors
    links = {name: _links(described, state) for name, described in metadata["chains"].items()}
    tied = tied_names(into)
    for name in list(reparametrized(into)):
        dense = weight(into, name).detach()
        set_chain_(into, tied[name], [])
        set_stored_(into, name, dense)
    for name, modules in links.items():
        parameter = stored(into, name)
        key = f"{metadata['chains'][name]['prefix'].rpartition('.')[0]}.original"
        set_stored_(into, name, state[key].to(parameter.device))
        set_chain_(into, metadata["chains"][name]["names"], [m.to(parameter.device) for m in modules])
        for module in modules:
            if isinstance(module, Survivors):
                key = f"{metadata['chains'][name]['prefix']}.index"
                source = shared.get(key, key)
                same = [source, *(k for k in shared if shared[k] == source)]
                state |= dict.fromkeys(same, module.index)
    passing = {name: state.pop(name) for name in metadata.get("buffers", [])}
    into.load_state_dict(state, strict=True)
    _set_passing_buffers_(into, passing)
    if "frozen" in metadata:  # files of the first version do not say
        frozen = set(metadata["frozen"])
        for name, parameter in into.named_parameters(remove_duplicate=False):
            parameter.requires_grad_(name not in frozen)
    return given


def _set_passing_buffers_(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Replace buffers, not copy into them: tables that grow with the input differ in shape from model to model."""
    modules = dict(model.named_modules(remove_duplicate=False))
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    for name, value in values.items():
        path, _, leaf = name.rpartition(".")
        buffers = modules[path]._buffers if path in modules else {}
        if leaf in buffers:
            old = buffers[leaf]
            buffers[leaf] = value.to(device if old is None else old.device)


def _describe(model: nn.Module, name: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The chain of one tensor in JSON. Its first link's state is under `prefix`."""
    links = []
    for link in chain(model, name):
        if isinstance(link, Survivors):
            links.append({"type": "survivors", "shape": list(link.shape), "energy": list(link.energy.shape)})
        elif isinstance(link, Scale):
            links.append({"type": "scale", "role": link.role})
    path, _, leaf = name.rpartition(".")
    prefix = f"{path}{_INSIDE}{leaf}.0" if path else f"{_INSIDE[1:]}{leaf}.0"
    return {"names": list(names), "links": links, "prefix": prefix}


def _links(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[nn.Module]:
    base = described["prefix"].rpartition(".")[0]
    links: list[nn.Module] = []
    for i, link in enumerate(described["links"]):
        if link["type"] == "survivors":
            shape = tuple(link["shape"])
            bits = np.unpackbits(tensors[f"{base}.{i}.index"].numpy(), count=int(np.prod(shape, dtype=np.int64)))
            mask = torch.from_numpy(bits.view(np.bool_)).reshape(shape)
            links.append(Survivors(mask, tensors[f"{base}.{i}.energy"]))
        else:
            links.append(Scale(tensors[f"{base}.{i}.factor"], link["role"]))
    return links


def _signature(model: nn.Module) -> dict[str, list[Any]]:
    """Shape and dtype of every tensor of the model as it is without our chains."""
    signature = {}
    ours = {name: weight(model, name) for name in reparametrized(model)}
    tied = tied_names(model)
    named = {alias: ours[name] for name in ours for alias in tied[name]}
    for key, value in model.state_dict(keep_vars=True).items():
        path, inside, rest = f".{key}".partition(_INSIDE)
        name = f"{path[1:]}.{rest.split('.')[0]}".lstrip(".") if inside else key
        if name not in named:  # a plain tensor, or one of another library's parametrisation
            name = key
        tensor = named.get(name, value)
        signature[name] = [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
    return signature


def _tied(model: nn.Module) -> list[list[str]]:
    """The groups of names that stand for one parameter."""
    return sorted(sorted(names) for names in set(map(frozenset, tied_names(model).values())) if len(names) > 1)


def _compare(saved: Mapping[str, Any], found: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    problems = [f"the model has no {name}" for name in saved if name not in found]
    problems += [f"the file has no {name}" for name in found if name not in saved]
    for name in saved:
        if name in found and saved[name] != found[name]:
            (shape, dtype), (other, other_dtype) = saved[name], found[name]
            problems.append(f"{name} is {dtype} {tuple(shape)} in the file, {other_dtype} {tuple(other)} in the model")
    if problems:
        more = f" (and {len(problems) - 3} more differences)" if len(problems) > 3 else ""
        raise InputError(f"{path} is of another model: {'; '.join(problems[:3])}{more}")
