"""The executor on a cluster, with a small stand-in for Ray; `benchmarks/ray_cluster.py` runs it on real nodes."""

import builtins
from types import SimpleNamespace

import pytest

from pruneinit.commands.executor import chosen
from pruneinit.errors import InputError
from pruneinit.experiments.cluster import cluster
from pruneinit.experiments.grid import Grid
from pruneinit.experiments.lock import claimed
from pruneinit.experiments.sweep import sweep

SHARED = {"depth": 3, "width": 16, "training": {"epochs": 1, "augment": False}}
GRID = Grid("g", SHARED, over={"seed": [0, 1, 2]})
CELLS = GRID.cells()


class Ray:
    """What the executor uses of Ray: tasks run when they are waited for, the latest first."""

    class exceptions:
        class RayError(Exception): ...

        class NodeDiedError(RayError): ...

    def __init__(self, resources, dies=()):
        self.resources = resources
        self.dies = dies  # cells whose machine dies in every try
        self.joined = False
        self.told = []
        self.most = 0
        self.waiting = {}

    def is_initialized(self):
        return self.joined

    def init(self, **options):
        if options["address"] == "nowhere":
            raise ConnectionError("could not find any running Ray instance")
        self.joined = True
        self.told.append(("init", options["address"]))

    def shutdown(self):
        self.told.append("shutdown")
        self.joined = False

    def cluster_resources(self):
        return self.resources

    def remote(self, function):
        def options(**given):
            self.told.append(given)
            return SimpleNamespace(remote=lambda *arguments: self.submit(function, arguments))

        return SimpleNamespace(options=options)

    def submit(self, function, arguments):
        reference = f"task {arguments[1].hash}"
        self.waiting[reference] = function, arguments
        self.most = max(self.most, len(self.waiting))
        return reference

    def wait(self, references, num_returns):
        return references[-num_returns:], references[:-num_returns]

    def get(self, reference):
        function, arguments = self.waiting.pop(reference)
        if arguments[1].hash in self.dies:
            raise self.exceptions.NodeDiedError("Task failed because the node it was running on is dead.\nmore")
        return function(*arguments)

    def cancel(self, reference, force):
        self.told.append(("cancel", reference))
        del self.waiting[reference]


@pytest.fixture
def on(monkeypatch):
    """Lets the executor find a cluster."""

    def use(ray):
        monkeypatch.setattr("pruneinit.experiments.cluster._ray", lambda: ray)
        return ray

    return use


def numbers(standing):
    return {name: (r.test_accuracy, r.survivors, r.densities) for name, r in standing.results.items()}


def test_a_cluster_gives_the_results_of_one_process_and_fills_its_room(on, tmp_path):
    ray = on(Ray({"CPU": 2.0}))
    found = sweep(GRID, tmp_path / "a", executor=cluster("auto", tries=5), device="cpu")
    assert numbers(found) == numbers(sweep(GRID, tmp_path / "b", device="cpu"))
    assert ray.most == 2
    assert ray.told == [("init", "auto"), {"num_cpus": 1, "num_gpus": 0.0, "max_retries": 4}, "shutdown"]
    assert sorted(p.name for p in (tmp_path / "a" / "cells").iterdir()) == sorted(f"{c.hash}.json" for c in CELLS)


@pytest.mark.parametrize(
    "resources, threads, gpus, room",
    [({"CPU": 8, "GPU": 0.5}, 1, 0.25, 2), ({"CPU": 4, "GPU": 8}, 2, 1, 2), ({}, 1, 0, 1), ({"CPU": 8}, 1, 0.5, 1)],
)
def test_cores_and_gpus_limit_how_many_cells_are_at_work(resources, threads, gpus, room, on, tmp_path):
    ray = on(Ray(resources))
    sweep(GRID, tmp_path, executor=cluster(threads=threads, gpus=gpus), device="cpu")
    assert ray.most == room


def test_a_cell_whose_machines_die_has_failed_and_the_others_go_on(on, tmp_path):
    on(Ray({"CPU": 2.0}, dies={CELLS[1].hash}))
    now = sweep(GRID, tmp_path, executor=cluster(), device="cpu")
    assert now.failed == [CELLS[1]]
    assert now.results[CELLS[1].hash].why == (
        "the machine or the process of this cell died in every try: "
        "NodeDiedError: Task failed because the node it was running on is dead."
    )
    assert len(sweep(GRID, tmp_path, device="cpu").failed) == 1  # it was written


def test_what_another_sweep_has_at_work_or_has_done_is_not_sent_out(on, tmp_path):
    ray = on(Ray({"CPU": 4.0}))
    sweep(Grid("g", SHARED, over={"seed": [0]}), tmp_path, device="cpu")
    elsewhere = []
    with claimed(tmp_path / "cells" / f".{CELLS[1].hash}.lock"):
        now = sweep(GRID, tmp_path, executor=cluster(), device="cpu", on_elsewhere=elsewhere.append)
    assert now.missing == [CELLS[1]]
    assert elsewhere == [CELLS[1], CELLS[1]]  # it was asked for once more at the end
    assert ray.most == 1


def test_a_sweep_that_stops_takes_back_what_is_at_work(on, tmp_path):
    ray = on(Ray({"CPU": 3.0}))

    def stop(now, cell, result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(GRID, tmp_path, executor=cluster(), device="cpu", on_result=stop)
    assert [told[0] for told in ray.told if isinstance(told, tuple)] == ["init", "cancel", "cancel"]
    assert ray.told[-1] == "shutdown"
    assert not ray.waiting
    assert not list((tmp_path / "cells").glob(".*.lock"))


def test_a_cluster_that_was_joined_before_is_left_joined(on, tmp_path):
    ray = on(Ray({"CPU": 1.0}))
    ray.joined = True
    sweep(GRID, tmp_path, executor=cluster(), device="cpu")
    assert ray.joined


def test_a_cluster_that_cannot_be_reached_is_told_in_one_line(on):
    on(Ray({}))
    with pytest.raises(InputError, match=r"no Ray cluster at nowhere \(could not find any running Ray instance\)"):
        list(cluster("nowhere")(CELLS, None))


def test_without_ray_the_executor_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "ray":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    executor, at_once = chosen("ray")
    assert at_once is None
    with pytest.raises(InputError, match=r"a cluster needs Ray: pip install 'pruneinit\[ray\]'"):
        list(executor(CELLS, None))


@pytest.mark.parametrize("given", [{"threads": 0}, {"tries": 0}, {"gpus": -1}, {"gpus": 1.5}, {"gpus": float("nan")}])
def test_numbers_that_make_no_sense_are_refused(given):
    with pytest.raises(InputError, match=str(next(iter(given.values())))):
        cluster(**given)
