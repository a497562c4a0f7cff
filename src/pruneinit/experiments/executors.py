"""Ways to carry out many cells. An executor is a function (todo, work) -> results, in whatever order they come."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch

from pruneinit.errors import InputError
from pruneinit.experiments.cell import Result, failed
from pruneinit.experiments.grid import Cell
from pruneinit.experiments.work import Work

Stop = Callable[[], bool]
"""Asked before each cell that is begun: once it is true, no more are."""


class Executor(Protocol):
    """Carries out cells, and yields each with its result as soon as it is there; errors of `work` are raised."""

    def __call__(self, todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]: ...  # noqa: D102


def never() -> bool:
    """Go on to the end."""
    return False


def serial(threads: int = 1, stop: Stop = never) -> Executor:
    """One cell after the other in this process.

    Args:
        threads: Of PyTorch, while it works.
        stop: Whether to leave the rest.
    """

    def execute(todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]:
        before = torch.get_num_threads()
        for cell in todo:
            if stop():
                return
            torch.set_num_threads(threads)
            try:
                result = work(cell)
            finally:
                torch.set_num_threads(before)
            yield cell, result

    return execute


def processes(workers: int, threads: int = 1, stop: Stop = never) -> Executor:
    """Several processes of this machine (loky), which end when this one does, however it ends.

    A cell whose process dies, for lack of memory or by a crash, has failed; the others that were at work go on.

    Args:
        workers: How many.
        threads: Of PyTorch, in each. Workers times threads should not be more than there are cores.
        stop: Whether to leave the rest; what is at work is waited for.
    """

    def execute(todo: Sequence[Cell], work: Work) -> Iterator[tuple[Cell, Result | None]]:
        left, suspects = list(todo), list[Cell]()
        while left and not stop():
            suspects = yield from _pool(left, work, min(workers, len(left)), threads, stop)
            # Which of them brought its process down is not known: each goes on alone.
            for cell in suspects:
                if (yield from _pool([cell], work, 1, threads, never)):
                    why = "the process of this cell died: was there too little memory?"
                    yield cell, failed(cell.recipe, why, row=cell.row)

    return execute


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(left: list[Cell], work: Work, workers: int, threads: int, stop: Stop) -> Any:
    """Carry out what is `left`, which becomes shorter; returns what was at work when a process died."""
    loky = _loky()
    pool = loky.ProcessPoolExecutor(
        workers, initializer=_begin, initargs=(os.getpid(), threads), env={"OMP_NUM_THREADS": str(threads)}
    )
    running: dict[Any, Cell] = {}
    try:
        while running or (left and not stop()):
            while left and len(running) < workers and not stop():
                running[pool.submit(work, left[0])] = left[0]
                del left[0]  # only now, as a broken pool takes nothing
            if not running:  # the time was over just then
                break
            over, _ = loky.wait(running, return_when=loky.FIRST_COMPLETED)
            for future in over:
                result = future.result()
                yield running.pop(future), result
    except loky.BrokenProcessPool:
        if not running and left:  # it broke before it took this one, which must not be tried for ever
            running[None] = left.pop(0)
        return list(running.values())
    finally:
        _end(pool)
    return []


def _end(pool: Any) -> None:
    """End a pool and its workers, whatever they are at; Ctrl-C twice does not leave them behind."""
    try:
        with _undisturbed():
            pool.shutdown(wait=True, kill_workers=True)
    except KeyboardInterrupt:  # a second one, in the moment before it was not heard any more
        with _undisturbed():
            pool.shutdown(wait=True, kill_workers=True)
        raise


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C is not heard, here and by programs that are started here.

    Without psutil, loky asks `pgrep` for the children of its workers, and where a terminal's Ctrl-C ends that too, it
    waits for ever.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def _loky() -> Any:
    try:
        import loky
    except ImportError as error:
        raise InputError("several workers need loky: pip install 'pruneinit[sweep]', or --workers 1") from error
    return loky


def _begin(parent: int, threads: int) -> None:
    """Prepare a worker: Ctrl-C is for the parent, and without the parent there is nothing to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    with suppress(OSError):
        while os.getppid() == parent:
            time.sleep(0.2)
    os._exit(1)
