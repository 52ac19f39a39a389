"""Track files: what the incoming and outgoing trackers measured of each muon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from muscan.errors import InputError
from muscan.io import hdf5, schema, tables
from muscan.model.detector import Detector
from muscan.model.events import Tracks

#: Tracks read at a time where a file is streamed; about 110 MB in memory.
STREAM_ROWS = 1_000_000


class TracksWriter(hdf5.EventsWriter):
    """Writes a track file chunk by chunk; the file appears when the block succeeds."""

    def __init__(self, path: str | Path, detector: Detector | None) -> None:
        super().__init__(path, schema.TRACKS, detector)

    def _begin(self) -> None:
        self._tracks = tables.TableWriter(self._file, schema.TRACK_TABLE)

    @property
    def rows(self) -> int:
        """Tracks written so far."""
        return self._tracks.rows

    def append(self, tracks: Tracks) -> None:
        """Append tracks."""
        self._tracks.append(tracks)


def write_tracks(path: str | Path, tracks: Tracks) -> None:
    """Write tracks to a file."""
    with TracksWriter(path, tracks.detector) as writer:
        writer.append(tracks)
        writer.run = tracks.run


def iter_tracks(path: str | Path, rows: int = STREAM_ROWS) -> Iterator[Tracks]:
    """Yield a file's tracks in pieces that never part an event.

    Tracks whose position, direction or covariance is not a number are dropped and counted in
    ``run.counts["tracks_not_finite"]`` of the piece.

    Raises
    ------
    InputError
        If the file is not a sound track file, or has no tracks.
    """
    path = Path(path)
    with hdf5.open_checked(path, schema.TRACKS) as file:
        total = tables.check_table(file, schema.TRACK_TABLE, path)
        if total == 0:
            raise InputError(path, "has no tracks")
        detector = hdf5.read_detector(file, path)
        run = hdf5.read_run(file, path)
        for number, (start, stop) in enumerate(
            tables.event_slices(file, schema.TRACK_TABLE, total, rows)
        ):
            columns = tables.read_rows(file, schema.TRACK_TABLE, start, stop)
            counts = run.counts if number == 0 else {}
            tracks = Tracks(**columns, detector=detector, run=replace(run, counts=counts))
            yield _finite(tracks)


def read_tracks(path: str | Path) -> Tracks:
    """Read a whole track file; see `iter_tracks`."""
    parts = list(iter_tracks(path))
    dropped = sum(part.run.counts.get("tracks_not_finite", 0) for part in parts)
    run = parts[0].run.counting(tracks_not_finite=dropped) if dropped else parts[0].run
    return replace(Tracks.join(parts), run=run)


def _finite(tracks: Tracks) -> Tracks:
    length = np.linalg.norm(tracks.direction, axis=1)
    sound = (
        np.isfinite(tracks.position).all(axis=1)
        & (np.abs(length - 1) < 1e-3)
        & np.isfinite(tracks.cov).all(axis=(1, 2))
    )
    dropped = int(len(tracks) - np.count_nonzero(sound))
    if not dropped:
        return tracks
    return replace(tracks.take(sound), run=tracks.run.counting(tracks_not_finite=dropped))
