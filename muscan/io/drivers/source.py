"""Tables of hits in global coordinates to hits in panels: what ``csv`` and ``root`` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io.drivers import Progress, columns
from muscan.io.drivers.inference import infer_layout
from muscan.io.drivers.rows import EventOrder, Rows, TableReader
from muscan.kernels import projection
from muscan.model.detector import Detector
from muscan.model.events import Hits, MomentumMeasurements, Run

#: A hit may be off its panel's mid-plane by this many thicknesses, or by this much [mm].
REACH_THICKNESSES: Final = 5.0
REACH_MM: Final = 50.0
#: More events a second than this mean that the time stamps do not span the run.
MAX_RATE_HZ: Final = 1e7

_DROPPED: Final = {
    "hits_not_finite": projection.NOT_FINITE,
    "hits_off_plane": projection.OFF_PLANE,
    "hits_outside_panel": projection.OUTSIDE,
}


class TableSource:
    """Hits from tables; a `muscan.io.drivers.HitSource`.

    Parameters
    ----------
    name : str
        Of the driver.
    files : sequence of Path
        Consecutive parts of one run. Where the event ids of a part start anew, they are shifted
        to follow those of the part before.
    new_reader : callable
        Makes a reader of such files.
    detector : Detector, optional
        The layout. Without one, a horizontal panel is inferred for each label.
    progress : callable, optional
        See `muscan.io.drivers.Progress`.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        new_reader: Callable[[], TableReader],
        detector: Detector | None,
        progress: Progress | None,
    ) -> None:
        self._name = name
        self._files = list(files)
        self._new_reader = new_reader
        self._progress = progress
        self._notes: list[str] = []
        self._counts = dict.fromkeys(("rows", "hits", "events", *_DROPPED), 0)
        self._times = (np.inf, -np.inf)
        if detector is None:
            detector, notes = infer_layout(new_reader(), self._files)
            self._notes += notes
        self._detector = detector
        technologies = [panel.technology for panel in detector.panels]
        thickness = np.array([technology.thickness_mm for technology in technologies])
        self._reach = np.maximum(REACH_THICKNESSES * thickness, REACH_MM)
        self._panel_of: list[int] = []

    @property
    def detector(self) -> Detector:
        """The layout, given or inferred."""
        return self._detector

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know."""
        return tuple(self._notes)

    @property
    def run(self) -> Run:
        """The run; final when all chunks have been read."""
        name = self._files[0].name.split(".")[0]
        return Run(
            live_time_s=self._live_time(), run_id=name, source=self._name, counts=dict(self._counts)
        )

    def chunks(self) -> Iterator[Hits]:
        """Yield the hits, events never parted, ids increasing."""
        following = 0
        for number, path in enumerate(self._files):
            shift = 0
            for rows in self._rows_in_order(number, path):
                if not len(rows.event_id):
                    continue
                if number and not shift and int(rows.event_id[0]) < following:
                    shift = following
                    self._note(f"{path.name}: event ids start anew and are shifted by {shift}")
                rows = rows._replace(event_id=rows.event_id + np.uint64(shift))
                following = int(rows.event_id[-1]) + 1
                yield self._project(rows)
        self._live_time()

    def _rows_in_order(self, number: int, path: Path) -> Iterator[Rows]:
        """Yield the rows of a file; the labels in them are known to `_panel_of`."""
        reader = self._new_reader()
        self._panel_of = []
        order = EventOrder(reader.unit)
        for rows in reader.read(path, self._advance(number)):
            self._know_panels(reader, rows, path)
            self._counts["rows"] += len(rows.event_id)
            yield order.add(rows, path)
        if reader.ignored:
            self._note(f"{path.name}: columns not read: {', '.join(reader.ignored[:20])}")
        rest = order.rest()
        if rest is not None:
            yield rest

    def _advance(self, number: int) -> Any:
        if self._progress is None:
            return None
        progress, files = self._progress, len(self._files)
        return lambda fraction: progress("import", (number + fraction) / files)

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def _know_panels(self, reader: TableReader, rows: Rows, path: Path) -> None:
        for label in reader.labels[len(self._panel_of) :]:
            try:
                self._panel_of.append(self._detector.panel_index(label))
            except InputError as error:
                new = rows.label == len(self._panel_of)
                where = f"{reader.unit} {rows.line[np.argmax(new)]}: " if new.any() else ""
                raise InputError(
                    path,
                    f"{where}layout '{self._detector.name}' has no panel '{label[:40]}'",
                    error.remedy,
                ) from error

    def _project(self, rows: Rows) -> Hits:
        """Return the hits of rows, those dropped counted."""
        n = len(rows.event_id)
        panel = np.array(self._panel_of, dtype=np.int64)[rows.label]
        u, v, sigma_u, sigma_v = (np.empty(n, np.float32) for _ in range(4))
        fate = np.empty(n, np.int8)
        detector, fields = self._detector, rows.fields
        projection.project_points(
            fields[:, columns.X : columns.Z + 1],
            fields[:, columns.SIGMA_X : columns.SIGMA_Y + 1],
            panel,
            detector.centres,
            detector.axes,
            detector.half_sizes,
            detector.sigmas,
            self._reach,
            u,
            v,
            sigma_u,
            sigma_v,
            fate,
        )
        for name, code in _DROPPED.items():
            self._counts[name] += int(np.count_nonzero(fate == code))
        hits = Hits(
            event_id=rows.event_id,
            panel=panel.astype(np.uint16),
            u=u,
            v=v,
            sigma_u=sigma_u,
            sigma_v=sigma_v,
            time=fields[:, columns.TIME].copy(),
            amplitude=fields[:, columns.AMPLITUDE].astype(np.float32),
            detector=detector,
            momenta=_momenta(rows),
        )
        kept = fate == projection.KEPT
        if not kept.all():
            hits = hits.take(kept)
        self._counts["hits"] += len(hits)
        self._counts["events"] += int(np.count_nonzero(np.diff(rows.event_id))) + 1
        times = hits.time[np.isfinite(hits.time)]
        if len(times):
            self._times = (
                min(self._times[0], float(times.min())),
                max(self._times[1], float(times.max())),
            )
        return hits

    def _live_time(self) -> float:
        """Return the time from the first to the last time stamp [s]; NaN where unknown."""
        span = (self._times[1] - self._times[0]) * 1e-9
        if not span > 0:
            return float("nan")
        if self._counts["events"] > MAX_RATE_HZ * span:
            self._note(
                f"the time stamps span {span:.3g} s: taken as relative to each event, the live "
                "time is unknown"
            )
            return float("nan")
        return span


def _momenta(rows: Rows) -> MomentumMeasurements | None:
    """Return the first momentum given in each event; its deviation is NaN unless given too."""
    momentum: NDArray[Any] = rows.fields[:, columns.MOMENTUM]
    known = np.flatnonzero(np.isfinite(momentum) & (momentum > 0))
    if not len(known):
        return None
    event_id, first = np.unique(rows.event_id[known], return_index=True)
    chosen = known[first]
    return MomentumMeasurements(
        event_id=event_id,
        momentum=momentum[chosen].astype(np.float32),
        sigma=rows.fields[chosen, columns.SIGMA_MOMENTUM].astype(np.float32),
    )
