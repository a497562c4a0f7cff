"""Scoring and selecting in several processes, started by torchrun.

worker.py cases FOLDER    # what each case returns, or its InputError, under the case's name in FOLDER/RANK.pt
worker.py stuck           # one process fails inside of a sharded model, where the other waits for it
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import pruneinit as pi
from problems import IDS, PROBLEMS
from pruneinit.sharded import matching
from pruneinit.train import distributed

NETWORKS = ["dense", "running-norm", "tied-weights", "layer-run-twice", "attention"]
RIVAL_NETWORKS = ["dense", "running-norm", "tied-weights"]
RIVALS_WITH_DATA = ["Grasp", "Fisher", "Obd", "Force", "ProsPr", "NtkSap", "SynFlow", "Phew"]
FAULTS = ["no batches", "an empty batch"]
BAD = {
    "not a number": lambda x, y: [(x, y), (x * torch.nan, y)],
    "no batches": lambda x, y: [],
    "an empty batch": lambda x, y: [(x[:0], y[:0])],
    "a label too large": lambda x, y: [(x, y + 7)],
}


def problem(name: str):
    return PROBLEMS[IDS.index(name)]


def share(name: str) -> list:
    """Unequal shares of eight examples: three and two in one process, three in the other."""
    x, y = problem(name).batch()
    return [[(x[:3], y[:3]), (x[3:5], y[3:5])], [(x[5:], y[5:])]][dist.get_rank()]


def spoilt(bad: str) -> list:
    """Batches of the problem "dense" of which those of the last process are bad."""
    batch = problem("dense").batch()
    return BAD[bad](*batch) if dist.get_rank() == 1 else [batch]


def wrong_shape() -> list:
    x, y = problem("dense").batch()
    return [(x[:, 1:], y) if dist.get_rank() == 1 else (x, y)]


def broken_loader():
    yield problem("dense").batch()
    if dist.get_rank() == 1:
        raise OSError("the disk is gone")


def state(model: nn.Module) -> list:
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    plain = [(t.to_local() if isinstance(t, DTensor) else t).detach().clone() for t in tensors]
    return [plain, [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()],
            torch.get_rng_state()]  # fmt: skip


def untouched(model: nn.Module, before: list) -> bool:
    tensors, *rest = before
    found, *others = state(model)
    same = len(found) == len(tensors) and all(map(torch.equal, found, tensors))
    return same and rest[:2] == others[:2] and torch.equal(rest[2], others[2])


# DistributedDataParallel


def replicated(name: str) -> nn.Module:
    return DistributedDataParallel(problem(name).model())


def ddp_scores(name: str):
    model = replicated(name)
    model.eval()(problem(name).batch()[0]).sum().backward()  # gradients that must stay
    model.train()
    before = state(model)
    scores = pi.score(model, pi.Snip(norm=problem(name).norm), share(name))
    assert untouched(model, before)
    return scores


def short_cut(net, batch):
    """A loss that in the second process sees nothing but the first layer."""
    x, y, whole = batch
    return nn.functional.cross_entropy(net(x), y) if whole.any() else net[0](x).square().mean()


def ddp_partly_unreached():
    batches = [(x, y, torch.tensor([dist.get_rank() == 0])) for x, y in share("dense")]
    return pi.score(replicated("dense"), pi.Snip(loss=short_cut), batches)


def ddp_masks():
    masks = pi.prune(replicated("dense"), pi.Snip(), iter(share("dense")), sparsity=0.8, rounds=3)
    return dict(masks)


RIVALS = {
    "Grasp": lambda norm: pi.Grasp(temperature=2.0, norm=norm),
    "Fisher": lambda norm: pi.Fisher(norm=norm),
    "Obd": lambda norm: pi.Obd(norm=norm, samples=3, exact_up_to=40),
    "IterativeSnip": lambda norm: pi.IterativeSnip(rounds=3, norm=norm),
    "Force": lambda norm: pi.Force(rounds=3, norm=norm),
    "ProsPr": lambda norm: pi.ProsPr(steps=2, momentum=0.5, norm=norm),
    "NtkSap": lambda norm: pi.NtkSap(rounds=2, samples=2, norm=norm),
    "Phew": lambda norm: pi.Phew(),
    "SynFlow": lambda norm: pi.SynFlow(rounds=3),
    "Lamp": lambda norm: pi.Lamp(),
    "SmartRatio": lambda norm: pi.SmartRatio(),
}
SEVERAL = {"ProsPr": 3}  # batches that a criterion needs at least


def rival_batches(name: str, rival: str) -> list:
    """What one process takes; of each batch the first five examples of eight are those of the first process."""
    return [problem(name).batch(seed=1 + number) for number in range(SEVERAL.get(rival, 1))]


def rival_share(name: str, rival: str) -> list:
    """Of each batch this process's examples; where a criterion takes any number of them, in two batches and in one."""
    if rival not in SEVERAL:
        return share(name)
    part = [slice(0, 5), slice(5, 8)][dist.get_rank()]
    return [(x[part], y[part]) for x, y in rival_batches(name, rival)]


def ddp_rival(name: str, rival: str):
    """The scores of one round, and the masks of all."""
    model, criterion = replicated(name), RIVALS[rival](problem(name).norm)
    before = state(model)
    scores = pi.score(model, criterion, rival_share(name, rival))
    masks = pi.prune(model, criterion, rival_share(name, rival), sparsity=0.6, allow_empty=True)
    assert untouched(model, before)
    return scores, dict(masks)


def ddp_rival_spoilt(rival: str, bad: str):
    """Two processes of which one has bad batches."""
    batches = spoilt(bad)
    pi.score(replicated("dense"), RIVALS[rival](None), batches * SEVERAL.get(rival, 1))


def ddp_rival_partly_unreached():
    batches = [(x, y, torch.tensor([dist.get_rank() == 0])) for x, y in share("dense")]
    return pi.score(replicated("dense"), pi.Grasp(temperature=1, loss=short_cut), batches)


def fsdp_rival(rival: str):
    model = sharded("dense")
    criterion = RIVALS[rival](None)
    scores = pi.score(model, criterion, share("dense"))
    assert all(score.placements == model.get_parameter(n).placements for n, score in scores.items())
    masks = pi.prune(model, criterion, share("dense"), sparsity=0.6, rounds=2, allow_empty=True)
    return gathered(scores), dict(masks.full())


def ddp_effective_masks():
    return dict(pi.prune(replicated("dense"), pi.Snip(), share("dense"), sparsity=0.9, effective=True))


def ddp_diverged():
    model = replicated("dense")
    pi.mean_field_(model.module, 1.5, 0.1, generator=torch.Generator().manual_seed(dist.get_rank()))
    pi.score(model, pi.Magnitude())


class Unaware:
    """A criterion that scores each process's share by itself."""

    def __call__(self, model, batches=None, masks=None):
        return pi.Snip()(model.module, batches, masks)


def ddp_unaware(score: bool):
    pi.score(replicated("dense"), Unaware(), share("dense")) if score else pi.prune(
        replicated("dense"), Unaware(), share("dense"), sparsity=0.5
    )


def ddp_unaware_of_the_same():
    return dict(pi.prune(replicated("dense"), Unaware(), [problem("dense").batch()], sparsity=0.5))


def ddp_sparsified():
    model = replicated("dense")
    masks = pi.prune(model, pi.Snip(), share("dense"), sparsity=0.5)
    again = DistributedDataParallel(pi.sparsify_(model.module, masks))
    return dict(pi.prune(again, pi.Snip(), share("dense"), sparsity=0.8))


def ddp_sparsify_outside():
    model = replicated("dense")
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))


def ddp_bad(bad: str, rounds: int):
    pi.prune(replicated("dense"), pi.Snip(), spoilt(bad), sparsity=0.5, rounds=rounds)


def ddp_wrong_shape():
    pi.score(replicated("dense"), pi.Snip(), wrong_shape())


def ddp_broken_loader():
    try:
        pi.score(replicated("dense"), pi.Snip(), broken_loader())
    except OSError as error:
        return f"its own {error}"


def ddp_part_of_the_world():
    """Groups of one process each, which know nothing of one another."""
    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    model = DistributedDataParallel(problem("dense").model(), process_group=groups[dist.get_rank()])
    return pi.score(model, pi.Snip(), share("dense"))


# fully_shard


def sharded(name: str, *, layers: bool = False) -> nn.Module:
    """A model in two shards; with `layers`, each layer of a sequence is gathered by itself."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = problem(name).model()
    if layers:
        for module in (m for m in model.children() if list(m.parameters())):
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def gathered(scores) -> dict[str, torch.Tensor]:
    assert all(isinstance(score, DTensor) for score in scores.values())
    return {name: score.full_tensor() for name, score in scores.items()}


class Nothing:
    """Fails where somebody brings together a sharded tensor; what FSDP does itself does not come this way."""

    def __enter__(self):
        self.before = DTensor.full_tensor, DTensor.redistribute

        def redistribute(tensor, device_mesh=None, placements=None, **rest):
            assert tuple(placements) == tuple(tensor.placements)
            return self.before[1](tensor, device_mesh, placements, **rest)

        DTensor.full_tensor, DTensor.redistribute = None, redistribute

    def __exit__(self, *_):
        DTensor.full_tensor, DTensor.redistribute = self.before


def fsdp_scores(name: str, layers: bool = False):
    model = sharded(name, layers=layers)
    for p in list(model.parameters())[::2]:
        p.grad = torch.ones_like(p)
    model.train()
    before = state(model)
    with Nothing():
        scores = pi.score(model, pi.Snip(norm=problem(name).norm), share(name))
    assert untouched(model, before)
    assert all(score.placements == model.get_parameter(n).placements for n, score in scores.items())
    return gathered(scores)


def fsdp_replicas():
    """Copies of a model whose shards are in turn copies."""
    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("copies", "parts"))
    model = fully_shard(problem("dense").model(), mesh=mesh)
    with Nothing():
        scores = pi.score(model, pi.Snip(), share("dense"))
        masks = pi.select(scores, 0.8)
    assert masks.counts == masks.full().counts
    return gathered(scores)


def fsdp_batch_norm():
    """Batch statistics are those of each process's batch."""
    model = sharded("batch-norm").train()
    before = state(model)
    x, y = problem("batch-norm").batch()
    at = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
    scores = pi.score(model, pi.Snip(norm="batch"), [(x[at], y[at])])
    assert untouched(model, before)
    return gathered(scores)


def fsdp_masks():
    with Nothing():
        masks = pi.prune(sharded("dense"), pi.Snip(), share("dense"), sparsity=0.8, rounds=3)
    assert masks.kept == sum(int(m.sum()) for m in masks.full().values())
    return dict(masks.full())


def fsdp_without_data():
    model = sharded("dense")
    with Nothing():
        every = [pi.score(model, criterion) for criterion in (pi.Magnitude(), pi.Random(seed=3))]
    return {f"{i} {name}": score for i, scores in enumerate(every) for name, score in gathered(scores).items()}


def fsdp_frozen():
    model = sharded("dense")
    for p in model.parameters():
        p.requires_grad_(False)
    scores = pi.score(model, pi.Snip(), share("dense"))
    assert not any(p.requires_grad for p in model.parameters())
    return gathered(scores)


def fsdp_within_whole_masks():
    """Masks that every process has whole, for a sharded model."""
    model = sharded("dense")
    masks = pi.prune(problem("dense").model(), pi.Magnitude(), sparsity=0.5)
    before = state(model)
    scores = pi.Snip()(model, share("dense"), masks)
    assert untouched(model, before)
    return gathered(scores)


def fsdp_after_an_evaluation():
    """A forward pass without a backward one leaves the root's weights whole."""
    model = sharded("dense")
    with torch.no_grad():
        model(problem("dense").batch()[0])
    return gathered(pi.score(model, pi.Snip(), share("dense")))


def fsdp_trains_on():
    """A step of training after a scoring, and after one that failed."""
    model, x, y = sharded("dense"), *problem("dense").batch()
    pi.score(model, pi.Snip(), share("dense"))
    try:
        pi.score(model, pi.Snip(), spoilt("a label too large"))
    except pi.InputError:
        nn.functional.cross_entropy(model(x), y).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    return {name: p.detach().full_tensor() for name, p in model.named_parameters()}


def fsdp_bad(bad: str, rounds: int):
    model = sharded("dense")
    before = state(model)
    try:
        pi.prune(model, pi.Snip(), spoilt(bad), sparsity=0.5, rounds=rounds)
    finally:
        assert untouched(model, before)


def fsdp_all_wrong():
    model, (x, y) = sharded("dense"), problem("dense").batch()
    try:
        pi.score(model, pi.Snip(), [(x[:, 1:], y)])
    finally:
        nn.functional.cross_entropy(model(x), y).backward()


def fsdp_half():
    model = problem("dense").model()
    fully_shard(model[0], mesh=init_device_mesh("cpu", (2,)))
    pi.score(model, pi.Snip(), share("dense"))


def fsdp_sparsify():
    model = sharded("dense")
    pi.sparsify_(model, pi.prune(model, pi.Magnitude(), sparsity=0.5))


def sharded_masks_of_a_whole_model():
    pi.sparsify_(problem("dense").model(), pi.prune(sharded("dense"), pi.Magnitude(), sparsity=0.5))


def fsdp_moments():
    pi.second_moments(sharded("dense"), share("dense"))


def fsdp_effective():
    pi.prune(sharded("dense"), pi.Snip(), share("dense"), sparsity=0.5, effective=True)


def fsdp_forecast():
    pi.forecast(sharded("dense"), criterion=pi.Magnitude())


def fsdp_save():
    pi.save(sharded("dense"), "never.safetensors")


def fsdp_rescale():
    model = sharded("dense")
    pi.rescale_(model, masks=pi.prune(model, pi.Magnitude(), sparsity=0.5))


def save_sharded(folder: Path):
    masks = pi.prune(sharded("dense"), pi.Magnitude(), sparsity=0.5)
    masks.full().save(folder / f"masks-{dist.get_rank()}.safetensors")
    masks.save(folder / "never.safetensors")


def masks_compare():
    mesh = init_device_mesh("cpu", (2,))
    one, other = ({"a": distribute_tensor(torch.arange(5) < n, mesh, [Shard(0)])} for n in (4, 4))
    last = {"a": distribute_tensor(torch.tensor([1, 1, 1, 0, 1]).bool(), mesh, [Shard(0)])}  # differs on rank 1 alone
    whole = pi.Masks({"a": torch.arange(5) < 4})
    one, other, last = map(pi.Masks, (one, other, last))
    assert (one.counts, one.density) == ({"a": (4, 5)}, 0.8)
    assert one == other == whole
    assert one != last
    assert last != one
    assert (one & last).full()["a"].tolist() == [True, True, True, False, False]
    assert (one | last).kept == 5
    assert one.iou(last) == 3 / 5
    return "compared"


# selection


def selections(dimension: int, scope: str):
    """The seeds of those sharded scores with many ties whose masks are not those of the whole scores."""
    mesh, wrong = init_device_mesh("cpu", (2,)), []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        shapes = torch.randint(0, 5, (4, 3), generator=generator).tolist()
        scores = {str(i): torch.randint(-2, 3, shape, generator=generator).double() for i, shape in enumerate(shapes)}
        parts = {n: s if n == "3" else distribute_tensor(s, mesh, [Shard(dimension)]) for n, s in scores.items()}
        within = pi.Masks({n: torch.rand(s.shape, generator=generator) < 0.7 for n, s in scores.items()})
        sparsity = float(torch.rand((), generator=generator))
        for allowed in (None, within):
            try:
                expected = pi.select(scores, sparsity, scope, within=allowed)
            except pi.InputError:
                continue
            if pi.select(parts, sparsity, scope, within=allowed).full() != expected:
                wrong.append(seed)
    return str(wrong)


def not_finite():
    mesh = init_device_mesh("cpu", (2,))
    scores = {n: distribute_tensor(torch.tensor([1.0, v]), mesh, [Shard(0)]) for n, v in (("a", 1), ("b", torch.nan))}
    pi.select(scores, 0.5)


def cut_without_talking():
    mesh = init_device_mesh("cpu", (2,))
    whole = torch.arange(35).reshape(7, 5)
    like = distribute_tensor(torch.zeros(7, 5), mesh, [Shard(1)])
    return {"a": matching(whole, like).full_tensor()}


def cases(folder: Path) -> dict:
    found = {f"ddp scores {name}": (ddp_scores, name) for name in NETWORKS}
    found |= {f"fsdp scores {name}": (fsdp_scores, name) for name in NETWORKS}
    found |= {f"fsdp layers {name}": (fsdp_scores, name, True) for name in ("dense", "running-norm")}
    found |= {f"ddp {bad} {n}": (ddp_bad, bad, n) for bad in BAD for n in (1, 2)}
    found |= {f"fsdp {bad} {n}": (fsdp_bad, bad, n) for bad in BAD for n in (1, 2)}
    found |= {f"select {d} {scope}": (selections, d, scope) for d in (0, 1, 2) for scope in ("global", "layer")}
    found |= {f"ddp_unaware {score}": (ddp_unaware, score) for score in (True, False)}
    found |= {f"ddp rival {name} {rival}": (ddp_rival, name, rival) for name in RIVAL_NETWORKS for rival in RIVALS}
    found |= {f"ddp {rival} {bad}": (ddp_rival_spoilt, rival, bad) for rival in RIVALS_WITH_DATA for bad in FAULTS}
    found |= {f"fsdp rival {rival}": (fsdp_rival, rival) for rival in RIVALS}
    plain = [
        ddp_rival_partly_unreached,
        ddp_partly_unreached, ddp_masks, ddp_unaware_of_the_same, ddp_effective_masks, ddp_diverged, ddp_sparsified,
        ddp_sparsify_outside, fsdp_forecast, fsdp_save, fsdp_rescale, fsdp_replicas,
        ddp_wrong_shape, ddp_broken_loader, ddp_part_of_the_world, fsdp_batch_norm, fsdp_masks, fsdp_without_data,
        fsdp_frozen, fsdp_within_whole_masks, fsdp_after_an_evaluation, fsdp_trains_on, fsdp_all_wrong, fsdp_half,
        fsdp_sparsify, sharded_masks_of_a_whole_model, fsdp_moments, fsdp_effective, masks_compare, not_finite,
        cut_without_talking,
    ]  # fmt: skip
    found |= {case.__name__: (case,) for case in plain}
    return found | {"save_sharded": (save_sharded, folder)}


def stuck() -> None:
    pi.score(sharded("dense", layers=True), pi.Snip(), wrong_shape())


def run(folder: Path) -> None:
    found = {}
    for name, (case, *arguments) in cases(folder).items():
        try:
            found[name] = case(*arguments)
        except pi.InputError as error:
            found[name] = f"InputError: {error}"
    torch.save(found, folder / f"{dist.get_rank()}.pt")


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    with distributed("cpu"):
        stuck() if sys.argv[1] == "stuck" else run(Path(sys.argv[2]))
