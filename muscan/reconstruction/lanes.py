"""Fixed shares of the work, so that sums are the same bits for any number of workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from muscan.errors import InputError

#: Number of shares into which the rows are cut, whoever works on them.
LANES = 8
#: Memory that the lanes' own copies of a volume may take together [bytes].
LANE_MEMORY = 1 << 29

Result = TypeVar("Result")


def lane_count(bytes_each: int) -> int:
    """Return the number of lanes where each holds an accumulator of a given size."""
    return int(max(1, min(LANES, LANE_MEMORY // max(bytes_each, 1))))


def bounds(rows: int, lanes: int = LANES) -> list[tuple[int, int]]:
    """Return the first and last row (exclusive) of each lane."""
    return [(rows * lane // lanes, rows * (lane + 1) // lanes) for lane in range(lanes)]


def run(work: Callable[[int], Result], lanes: int, workers: int | None) -> list[Result]:
    """Return ``work(lane)`` of every lane, in the order of the lanes.

    Parameters
    ----------
    work : callable
        Of the lane's number; releases the GIL in its kernels.
    lanes : int
        Number of lanes.
    workers : int or None
        Threads to use; None for one a processor. The results do not depend on it.
    """
    if workers is not None and workers < 1:
        raise InputError("--workers", f"{workers} is not a number of threads", "give 1 or more")
    threads = min(workers or os.cpu_count() or 1, lanes)
    if threads == 1:
        return [work(lane) for lane in range(lanes)]
    return list(_pool(threads).map(work, range(lanes)))


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay: a reconstruction asks for them hundreds of times."""
    return ThreadPoolExecutor(threads, thread_name_prefix="muscan")
