"""A scan that is still running: follow its hits, show what is known, stop when it is enough."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from muscan import io
from muscan.errors import InputError, MissingExtraError
from muscan.io.atomic import remove_parts
from muscan.model.flux import load_flux
from muscan.model.material import load_materials
from muscan.pipeline.common import PathLike, Progress
from muscan.pipeline.notify import Notifier
from muscan.pipeline.record import record_unsent
from muscan.pipeline.scan import check_options
from muscan.pipeline.scan import report as write_page
from muscan.pipeline.sightings import Sightings

if TYPE_CHECKING:
    from muscan.pipeline.gathering import Gathering
    from muscan.pipeline.looks import Analyst, Look

#: Fewer muons with both tracks are not worth a look.
LEAST_MUONS: Final = 500
#: Hits tracked at a time.
PIECE_ROWS: Final = 500_000
#: Longest time between looks for new hits [s].
POLL_S: Final = 0.5
#: Looks give way to the following by this much (Unix' niceness).
NICENESS: Final = 5


def watch(
    hits: PathLike,
    *,
    output: PathLike,
    notify: Sequence[str] = (),
    every: float = 5.0,
    until: float | None = None,
    timeout: float = 60.0,
    method: str = "em",
    voxel: float = 50.0,
    materials: Sequence[PathLike] = (),
    watch: Sequence[str] = (),
    flux: str = "",
    false_alarm: float = 0.05,
    miss: float = 0.05,
    clear_size: float = 200.0,
    stop_at: str = "high",
    early: bool = True,
    workers: int | None = None,
    on_look: Callable[[Look], object] | None = None,
    progress: Progress | None = None,
) -> Look:
    """Follow a hit file that is being written until its scan ends, or enough is known.

    Parameters
    ----------
    hits : path
        A live hit file (`muscan.io.LiveHitsWriter`); it need not be there yet.
    output : path
        Folder for ``volume.h5 materials.h5 alerts.json``, which are refreshed, and at the end
        ``tracks.h5`` and ``report.html``; made if missing.
    notify : sequence of str
        Where certain alerts go: ``stdout``, ``file:PATH``, ``http(s)://…``.
    every : float
        Least time between looks [s].
    until : float, optional
        Live time at which to stop [s]; the end of the file unless given.
    timeout : float
        Stop when the file has not grown for this long [s].
    method : str
        Statistical reconstruction to make when it pays; ``"poca"`` for none.
    voxel, materials, watch, flux, workers, progress
        As in `scan`.
    false_alarm : float
        Expected number of alerts that chance makes in a whole scan, all looks together.
    miss : float
        Probability of clearing a load that holds an object of ``clear_size``.
    clear_size : float
        Side of the cube, of lead or denser, that a clear load has no room for [mm].
    stop_at : str
        Least severity of a certain alert that ends the scan.
    early : bool
        Whether to stop before the end when the load is clear or an alert is certain.
    on_look : callable, optional
        Called with each `Look`, the last one included.

    Returns
    -------
    Look
        The last one.

    Raises
    ------
    InputError
        If an option is wrong, the file is unsound, or it ends without muons to use.
    MissingExtraError
        If ``notify`` is given and the extra ``notify`` is not installed.
    """
    # Here, so that `import muscan.pipeline` does not bring numba.
    from muscan.pipeline.gathering import Gathering
    from muscan.pipeline.looks import Analyst, Rules

    for name, value in (("--every", every), ("--timeout", timeout), ("--until", until)):
        if value is not None and not value > 0:
            raise InputError(name, f"{value} s is not a time", "give a positive number")
    if flux:
        load_flux(flux)
    database = load_materials(tuple(materials))
    check_options(method, voxel, database, watch)
    rules = Rules(
        method=method,
        voxel=voxel,
        flux=flux,
        watch=tuple(watch),
        materials=database,
        false_alarm=false_alarm,
        miss=miss,
        clear_size=clear_size,
        stop_at=stop_at,
        early=early,
        workers=workers,
    )
    with io.result_folder(Path(output)) as folder:
        sightings = Sightings(folder, Path(hits))
        remove_parts(folder)
        notifier = Notifier(folder, notify)
        analyst = Analyst(folder, rules, sightings, notifier)
        gathering = Gathering(folder / "tracks.h5", voxel, flux, workers)
        following = _Following(Path(hits), analyst, gathering, every, on_look or _ignore)
        try:
            last = following.run(until, timeout, progress)
            analyst.close(last)
        finally:
            record_unsent(folder, notifier.close())
        with suppress(MissingExtraError):
            write_page(folder)
        return last


class _Following:
    """Reads what is new, and looks at it in a second thread every now and then."""

    def __init__(
        self,
        hits: Path,
        analyst: Analyst,
        gathering: Gathering,
        every: float,
        on_look: Callable[[Look], object],
    ) -> None:
        self._hits, self._analyst, self._gathering = hits, analyst, gathering
        self._every, self._on_look = every, on_look
        self._follower = io.HitsFollower(hits)
        self._pending: Future[Look] | None = None
        self._looked = time.monotonic()
        self._looked_muons = 0
        self._decided: Look | None = None

    def run(self, until: float | None, timeout: float, progress: Progress | None) -> Look:
        """Follow the file to its end, or to a decision; return the last look."""
        follower, gathering = self._follower, self._gathering
        grown, reason = time.monotonic(), ""
        with gathering, ThreadPoolExecutor(1, "muscan-look", _give_way) as pool:
            while not reason:
                for piece in follower.poll(PIECE_ROWS):
                    grown = time.monotonic()
                    gathering.add(piece)
                    if progress is not None:
                        progress("watch", None)
                    reason = self._consider(pool) or _over(gathering.live_time_s, until)
                    if reason:
                        break
                else:
                    reason = self._consider(pool)
                    if follower.finished:
                        reason = reason or "the scan has ended"
                    elif time.monotonic() - grown > timeout:
                        reason = reason or f"no hits came for {timeout:g} s"
                    elif not reason:
                        time.sleep(min(POLL_S, self._every))
            self._settle()
            if gathering.muons == 0:
                raise self._nothing(reason)
            if self._decided is not None:
                reason = self._decided.reason
            ended = time.monotonic()
            last = self._analyst.end(gathering.snapshot(), reason, self._decided)
        last = replace(last, lag_s=time.monotonic() - ended, behind_hits=follower.behind)
        self._on_look(last)
        return last

    def _nothing(self, reason: str) -> InputError:
        if not self._hits.exists():
            return InputError(self._hits, f"no such file ({reason})", "start the writer")
        return InputError(self._hits, f"no muon has both tracks ({reason})", "check the layout")

    def _consider(self, pool: ThreadPoolExecutor) -> str:
        """Take the result of a look that is done, and begin one that is due.

        Returns the reason for which the scan ends, empty if it goes on.
        """
        if self._pending is not None and self._pending.done():
            self._settle()
        due = time.monotonic() - self._looked >= self._every
        new = self._gathering.muons > max(self._looked_muons, LEAST_MUONS)
        if self._pending is None and self._decided is None and due and new:
            self._looked, self._looked_muons = time.monotonic(), self._gathering.muons
            self._pending = pool.submit(self._analyst.look, self._gathering.snapshot())
        return "" if self._decided is None else self._decided.reason

    def _settle(self) -> None:
        if self._pending is None:
            return
        look, self._pending = self._pending.result(), None
        lag = time.monotonic() - self._looked
        look = replace(look, lag_s=lag, behind_hits=self._follower.behind)
        self._on_look(look)
        if look.reason:
            self._decided = look


def _give_way() -> None:
    """Let this thread, and those that it starts, have the time that the others leave."""
    if sys.platform == "linux":  # elsewhere the niceness is one for all threads
        thread = threading.get_native_id()
        with suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(nice + NICENESS, 19))


def _over(live_time_s: float, until: float | None) -> str:
    if until is None or not live_time_s >= until:
        return ""
    return f"the live time of {until:g} s is over"


def _ignore(look: Look) -> None:
    """Do nothing."""
