"""Who does independent work: this process, several of them, or a Dask cluster.

Each way yields ``(index, outcome)`` as pieces of work end, in any order. An error of one piece, or
the end of the process that was at it, is an outcome and not the end of the others.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

#: Times that work is tried whose process was killed.
ATTEMPTS = 3
#: Pieces that wait for each worker, so that none is ever idle.
AHEAD = 2


@dataclass(frozen=True)
class Outcome:
    """What became of one piece of work.

    Attributes
    ----------
    value : object
        What the function returned; None after an error.
    error : str
        ``TypeName: message`` of the error; empty where there was none.
    details : str
        The error's traceback.
    seconds : float
        Processor time of the process meanwhile [s].
    """

    value: Any = None
    error: str = ""
    details: str = ""
    seconds: float = 0.0


Outcomes = Iterator[tuple[int, Outcome]]


def attempt(function: Callable[[Any], Any], item: Any) -> Outcome:
    """Call a function and tell what became of it; only `KeyboardInterrupt` and the like escape."""
    began = time.process_time()
    try:
        value = function(item)
    except Exception as error:
        return Outcome(
            error=f"{type(error).__name__}: {error}",
            details=traceback.format_exc(),
            seconds=time.process_time() - began,
        )
    return Outcome(value, seconds=time.process_time() - began)


def run(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int | None = 1,
    client: Client | None = None,
) -> Outcomes:
    """Yield the outcomes of a function of each item as they come.

    Parameters
    ----------
    function : callable
        Of one item; for other processes, one that can be imported there.
    items : sequence
        What it is called with, small.
    workers : int, optional
        Processes; with 1 the work is done here. None is one a processor.
    client : distributed.Client, optional
        A Dask cluster that does the work instead.
    """
    if client is not None:
        return _on_dask(function, items, client)
    if workers == 1 or len(items) <= 1:
        return ((index, attempt(function, item)) for index, item in enumerate(items))
    return _in_processes(function, items, workers)


def _in_processes(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int | None
) -> Outcomes:
    """Use processes that share nothing; where one is killed, start them anew."""
    waiting = list(range(len(items)))[::-1]
    tries = dict.fromkeys(waiting, 0)
    # Spawned and not forked: numba's and Dask's threads do not survive a fork.
    context = get_context("spawn")
    processes = min(workers or os.cpu_count() or 1, len(items))
    while waiting:
        running: dict[Future[Outcome], int] = {}
        pool = ProcessPoolExecutor(processes, mp_context=context)
        try:
            while waiting or running:
                # Whatever was under way when a process was killed is tried alone from then on,
                # so that one piece that kills does not take others with it again.
                while waiting:
                    suspect = any(tries[index] for index in (waiting[-1], *running.values()))
                    if len(running) >= (1 if suspect else AHEAD * processes):
                        break
                    running[pool.submit(attempt, function, items[waiting[-1]])] = waiting[-1]
                    waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    yield running.pop(future), outcome
        except BrokenProcessPool:
            for index in sorted(running.values(), reverse=True):
                tries[index] += 1
                if tries[index] < ATTEMPTS:
                    waiting.append(index)
                else:
                    yield index, Outcome(error=f"its process was killed {ATTEMPTS} times")
        finally:
            pool.shutdown(wait=not running, cancel_futures=True)


def _on_dask(function: Callable[[Any], Any], items: Sequence[Any], client: Client) -> Outcomes:
    """Use a cluster, which gives the work of a worker that is lost to another."""
    from distributed import as_completed

    waiting = list(range(len(items)))[::-1]
    index_of: dict[Any, int] = {}

    def submit() -> Any:
        index = waiting.pop()
        future = client.submit(attempt, function, items[index], pure=False)
        index_of[future] = index
        return future

    # All at once would be as good for the scheduler, but not for whoever watches or interrupts.
    most = AHEAD * max(sum(client.nthreads().values()), 1)
    done = as_completed([submit() for _ in range(min(most, len(waiting)))])
    for future in done:
        index = index_of.pop(future)
        if waiting:
            done.add(submit())
        if future.status == "finished":
            yield index, future.result()
        else:
            error = future.exception()
            yield index, Outcome(error=f"{type(error).__name__}: {error}")
        future.release()
