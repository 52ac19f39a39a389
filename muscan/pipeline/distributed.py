"""Work on a Dask cluster (extra ``distributed``): finding one, and sharing one task's chunks.

Chunks are the same and are summed in the same order as without a cluster, so the results are the
same to the last bit, for any number of workers and also when some are lost on the way.
"""

from __future__ import annotations

import ctypes
import logging
import platform
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from muscan.errors import InputError, MissingExtraError, MuscanError
from muscan.pipeline.desks import Desks
from muscan.reconstruction.team import add_terms, tree_sum

if TYPE_CHECKING:
    from distributed import Client, Future

    from muscan.simulation import Simulation

#: How long to look for a scheduler [s].
PATIENCE_S = 15
#: Results that wait for each worker's next, so that none is ever idle.
AHEAD = 3
#: What glibc keeps at most of the memory that is given back, and the least piece that goes back at
#: once [bytes]. A likelihood takes and frees tens of megabytes: kept by the process, they are not
#: paged in anew each time, which cost a third of its time.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = 2**29, 2**25
#: Surroundings of worker processes: one heap, and one thread each for libraries that would take
#: all.
_SURROUNDINGS = {
    "MALLOC_TRIM_THRESHOLD_": _TRIM_THRESHOLD,
    "MALLOC_MMAP_THRESHOLD_": _MMAP_THRESHOLD,
    "MALLOC_ARENA_MAX": 1,
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
}

#: Of the cluster on this machine: nobody sees the statistics that Dask takes of its workers a
#: hundred times a second, which cost up to 1 % of them.
_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": _SURROUNDINGS,
    "distributed.worker.profile.enabled": False,
}


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """Yield a client of a Dask cluster, and let go of it at the end.

    Parameters
    ----------
    address : str
        ``local:N`` for N worker processes of one thread on this machine, which end with the
        block; else a scheduler's address (``tcp://HOST:PORT``) or its file (``….json``).

    Raises
    ------
    MissingExtraError
        If the extra ``distributed`` is not installed.
    InputError
        If there is no such scheduler, or its workers run another version of muscan.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingExtraError("distributed", "dask.distributed") from error
    kind, _, number = address.partition(":")
    if kind == "local":
        if not number.isdigit() or int(number) < 1:
            raise InputError("--dask", f"'{address}' names no number", "give local:4 or so")
        import dask

        with (
            dask.config.set(_SETTINGS),
            LocalCluster(
                n_workers=int(number),
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            # Answers need no way round by the scheduler.
            Client(cluster, direct_to_workers=True) as client,
        ):
            yield client
        return
    try:
        if address.endswith(".json"):
            client = Client(scheduler_file=address, timeout=PATIENCE_S)
        else:
            client = Client(address, timeout=PATIENCE_S)
    except (OSError, ValueError) as error:
        problem = f"no scheduler at '{address}' ({error})"
        raise InputError("--dask", problem, "give tcp://HOST:PORT, FILE.json or local:N") from error
    with client:
        check_workers(client)
        yield client


def keep_memory() -> None:
    """Let this process keep the memory that it frees, as local workers do; with glibc alone."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>.
        libc.mallopt(-1, _TRIM_THRESHOLD)
        libc.mallopt(-3, _MMAP_THRESHOLD)


def check_workers(client: Client) -> None:
    """Raise `InputError` where workers of a cluster run another version of muscan than this."""
    here = version("muscan")
    for worker, there in client.run(_version).items():
        if there != here:
            problem = f"worker {worker} has muscan {there or '(none)'}, and here is {here}"
            raise InputError("--dask", problem, "install the same on all")


def _version() -> str:
    try:
        return version("muscan")
    except ModuleNotFoundError:
        return ""


def in_order(client: Client, submit: Callable[[int], Future], n: int) -> Iterator[Any]:
    """Yield the results of tasks 0 to n - 1 in order, with a few of them under way at a time.

    Parameters
    ----------
    client : distributed.Client
    submit : callable
        Submits the task of a number.
    n : int
        Number of tasks.

    Raises
    ------
    MuscanError
        If the cluster lost a task for good, as where each worker that takes it is killed.
    """
    most = AHEAD * max(sum(client.nthreads().values()), 1)
    pending: deque[Future] = deque()
    submitted = 0
    while submitted < n or pending:
        while submitted < n and len(pending) < most:
            pending.append(submit(submitted))
            submitted += 1
        yield result_of(pending.popleft())


def chunks_on(client: Client) -> Callable[[Simulation], Iterator[Any]]:
    """Return what lets a cluster simulate the chunks of a `Simulation` (its ``elsewhere``)."""

    def elsewhere(simulation: Simulation) -> Iterator[Any]:
        bare = copy(simulation)
        bare.elsewhere = bare.progress = None
        # A task and not scattered data: where a worker with the only copy is lost, it is made anew.
        remote = client.submit(_itself, bare, pure=False)
        return in_order(
            client,
            lambda index: client.submit(_simulate, remote, index, pure=False),
            simulation.n_chunks,
        )

    return elsewhere


class DaskTeam:
    """The workers of a cluster as a `muscan.reconstruction.team.Team`.

    Whatever workers keep is the result of a task whose arguments the scheduler has: where a
    worker is lost, another does its tasks again. (Data scattered to workers would be gone, and
    scattering to a worker that dies just then never ends.)

    The team's own process keeps the memory that it frees, as local workers do.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._desks: Desks | None = None
        keep_memory()

    def size(self) -> int:
        """Return the number of threads of all workers."""
        return max(int(sum(self._client.nthreads().values())), 1)

    def hold(self, make: Callable[..., Any], portions: Sequence[tuple[Any, ...]]) -> list[Future]:
        """Let the workers make and keep ``make(*portion)`` of each portion."""
        # Neighbours together, so that a branch of the sum is at one worker.
        workers = [
            name for name, threads in self._client.nthreads().items() for _ in range(threads)
        ]
        return [
            self._submit(
                make,
                *portion,
                workers=[workers[number * len(workers) // len(portions)]],
                allow_other_workers=True,
            )
            for number, portion in enumerate(portions)
        ]

    def derive(
        self, function: Callable[..., Any], held: Sequence[Future], *common: Any
    ) -> list[Future]:
        """Let the workers make and keep ``function(kept, *common)`` of everything held."""
        # Each argument goes out once.
        shared = [self._submit(_itself, argument) for argument in common]
        return [self._submit(function, kept, *shared) for kept in held]

    def results(
        self, function: Callable[..., Any], held: Sequence[Future], *common: Any
    ) -> list[Any]:
        """Return ``function(kept, *common)`` of everything that is held, in order."""
        return [result_of(future) for future in self.derive(function, held, *common)]

    def total(self, function: Callable[..., Any], held: Sequence[Future], *common: Any) -> Any:
        """Return the sum of `results` in the tree's order, branches being summed by workers."""
        level = self.derive(function, held, *common)
        while len(level) > 1:
            pairs = [
                self._submit(add_terms, a, b) for a, b in zip(level[::2], level[1::2], strict=False)
            ]
            level = pairs + level[len(pairs) * 2 :]
        return result_of(level[0])

    def totalling(
        self, function: Callable[..., Any], held: Sequence[Future], *common: Any
    ) -> Callable[[], Any]:
        """Let the workers make the `total`, and return what waits for it.

        Workers are asked at their desks, which takes a few milliseconds where tasks take some
        tens. Where a desk is lost with its worker, tasks do it: the scheduler can have made again
        what was held.
        """
        try:
            if self._desks is None or self._desks.held is not held:
                self._desks = Desks(self._client, held)
            answers = self._desks.ask(function, *common)
        except Exception:
            return partial(self._total_by_tasks, function, held, *common)

        def total() -> Any:
            try:
                return tree_sum(answers())
            except Exception:
                return self._total_by_tasks(function, held, *common)

        return total

    def _total_by_tasks(self, *asked: Any) -> Any:
        """Return the `total` where desks failed; an error of the function comes again."""
        self._desks = None
        return self.total(*asked)

    def _submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future:
        with warnings.catch_warnings():
            # Muons go out with the task on purpose.
            warnings.filterwarnings("ignore", "Sending large graph")
            return self._client.submit(function, *arguments, pure=False, **options)


def _itself(thing: Any) -> Any:
    return thing


def _simulate(simulation: Simulation, index: int) -> Any:
    return simulation.chunk(index)


def result_of(future: Future) -> Any:
    """Return the result of a task; an error of ours as it was, one of the cluster in one line."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except (KilledWorker, FutureCancelledError, OSError) as error:
        raise MuscanError(f"the cluster gave up on a task ({type(error).__name__})") from error
    finally:
        future.release()
