"""Times of two functions taken in turn, and what a benchmark says of a figure."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for all that it measures; whether that can be had here.

    By default glibc gives memory back to the system and asks for it again at the next call, a page at a time. What has
    a working set that stays, as one plain pass after the other, pays nothing for that, what is called once in a while
    pays for its whole working set: both are measured on memory that is there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1  # malloc.h
    return bool(mallopt(trim_threshold, most) and mallopt(mmap_threshold, most))


def figure(name: str, measured: float, unit: str, target: float, **details: Any) -> dict[str, Any]:
    """A measured number and the most that it may be."""
    return {"name": name, "measured": measured, "unit": unit, "target": target, **details}


def judge(figures: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Note in each figure whether its target is met, print it, and give the rows of a table."""
    for one in figures:
        one["met"] = one["measured"] <= one["target"]
        print(f"{one['name']:75} {one['measured']:8.3g} {one['unit']:8} target {one['target']:g}", end="")
        print("" if one["met"] else "  NOT MET", flush=True)
    return [
        [f["name"], f"{f['measured']:.3g} {f['unit']}", f"{f['target']:g}", "yes" if f["met"] else "no"]
        for f in figures
    ]


def paired(
    first: Callable[[], object], second: Callable[[], object], repeats: int, warm: int = 2
) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the ratios first / second, taken in turn so that drift cancels.

    The first `warm` turns, which fill caches and allocators, do not count.
    """
    times: list[tuple[float, float]] = []
    for turn in range(repeats + warm):
        pair = (timed(first), timed(second))
        if turn >= warm:
            times.append(pair)
    ratio = statistics.median(a / b for a, b in times)
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times), ratio


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
