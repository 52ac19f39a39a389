"""Reading hits in whole blocks that match their checksums, and in whole events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from muscan.errors import InputError
from muscan.io import hdf5, schema, tables
from muscan.io.checksums import Blocks, first_changed
from muscan.model.events import Hits

#: A block with more rows than this is no block of ours.
MOST_BLOCK_ROWS: Final = 1 << 22
_RECOVER: Final = "get what is whole by 'muscan recover'"


@dataclass(frozen=True)
class Extent:
    """How much of a hit file is whole.

    Attributes
    ----------
    rows : int
        Hits up to the end of the last block.
    blocks : Blocks or None
        With their checksums; None in a file that has none.
    finished : bool
        Whether the end of the run was written.
    """

    rows: int
    blocks: Blocks | None
    finished: bool

    def groups(self, start: int, rows: int) -> Iterator[tuple[int, int, Blocks | None]]:
        """Yield row ranges of about ``rows`` rows from ``start`` on, and the blocks in them."""
        if self.blocks is None:
            for first in range(start, self.rows, max(rows, 1)):
                yield first, min(first + rows, self.rows), None
            return
        stops = self.blocks.stop.astype(np.int64)
        first = int(np.searchsorted(stops, start, side="right"))
        while first < len(stops):
            begin = int(stops[first - 1]) if first else 0
            last = max(int(np.searchsorted(stops, begin + rows, side="right")), first + 1)
            yield begin, int(stops[last - 1]), self.blocks.take(slice(first, last))
            first = last


def extent_of(file: h5py.File, path: Path) -> Extent:
    """Return how much of an open hit file is whole.

    Raises
    ------
    InputError
        If its tables are unsound, or its blocks do not fit its rows.
    """
    # Blocks first: what they cover was written before them, so a running writer does no harm.
    if schema.BLOCK_TABLE.path not in file:
        return Extent(tables.check_table(file, schema.HIT_TABLE, path), None, True)
    mark = file[schema.BLOCK_TABLE.path].attrs.get(schema.FINISHED, 0)
    finished = bool(np.any(np.asarray(mark) == 1))
    count = tables.check_table(file, schema.BLOCK_TABLE, path, growing=not finished)
    blocks = Blocks(**tables.read_rows(file, schema.BLOCK_TABLE, 0, count))
    rows = tables.check_table(file, schema.HIT_TABLE, path, growing=not finished)
    # Damaged ones may be beyond what differences can hold.
    stops = np.minimum(blocks.stop, np.uint64(1 << 62)).astype(np.int64)
    sizes = np.diff(stops, prepend=0)
    covered = int(stops[-1]) if count else 0
    if count and (sizes.min() < 1 or sizes.max() > MOST_BLOCK_ROWS):
        raise InputError(path, f"{schema.BLOCK_TABLE.path}/stop is not a list of blocks", _RECOVER)
    if covered > rows or (finished and covered != rows):
        raise InputError(path, f"has {rows} hits, and checksums of {covered}", _RECOVER)
    return Extent(covered, blocks, finished)


class HitReader:
    """Reads a file's hits in order, whole events only, as far as they are there.

    Attributes
    ----------
    rows : int
        Rows read so far.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest: Hits | None = None
        self.rows = 0

    def pieces(self, file: h5py.File, extent: Extent, rows: int, *, last: bool) -> Iterator[Hits]:
        """Yield what was not read yet, without the file's counts.

        Hits with a coordinate that is not a number, though its panel measures it, are dropped and
        counted in ``run.counts["hits_not_finite"]`` of the piece.

        Parameters
        ----------
        file : h5py.File
            The file, opened.
        extent : Extent
            How much of it is whole now.
        rows : int
            About how many hits a piece has; at least one block.
        last : bool
            Whether the last event is complete; otherwise it is kept until more is read.
        """
        detector = hdf5.read_detector(file, self._path)
        if detector is None:
            raise InputError(
                self._path, f"has no {schema.DETECTOR}", "import it again with a layout"
            )
        run = replace(hdf5.read_run(file, self._path), counts={})
        for start, stop, blocks in extent.groups(self.rows, rows):
            columns: dict[str, Any] = tables.read_rows(file, schema.HIT_TABLE, start, stop)
            found = Hits(**columns, detector=detector, run=run)
            self._verify(found, start, blocks)
            if blocks is not None and not np.isfinite(run.live_time_s):
                found = replace(found, run=replace(run, live_time_s=float(blocks.live_time[-1])))
            self.rows = stop
            yield from self._whole_events(found, last and stop == extent.rows)
        if last and self._rest is not None:
            none_new = replace(self._rest.take(slice(0, 0)), run=run)
            yield from self._whole_events(none_new, True)

    def _whole_events(self, found: Hits, last: bool) -> Iterator[Hits]:
        hits = found if self._rest is None else Hits.join([self._rest, found])
        cut = len(hits)
        if not last:
            other = np.flatnonzero(hits.event_id != hits.event_id[-1])
            cut = int(other[-1]) + 1 if len(other) else 0
        self._rest = None if last else hits.take(slice(cut, None))
        if cut:
            first = self.rows - len(hits)
            yield _finite(_checked(hits.take(slice(0, cut)), self._path, first))

    def _verify(self, hits: Hits, start: int, blocks: Blocks | None) -> None:
        if blocks is None:
            return
        changed = first_changed(hits, schema.HIT_TABLE, start, blocks)
        if changed is not None:
            begin = start if changed == 0 else int(blocks.stop[changed - 1])
            raise InputError(
                self._path,
                f"hits {begin} to {int(blocks.stop[changed]) - 1} do not match their checksum",
                _RECOVER,
            )


def _checked(hits: Hits, path: Path, first_row: int) -> Hits:
    """Return the hits if their panels exist and their events are adjacent."""
    unknown = np.flatnonzero(hits.panel >= len(hits.detector.panels))
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            path,
            f"/hits/panel row {first_row + row}: panel {hits.panel[row]} is not one of the "
            f"layout's {len(hits.detector.panels)}",
        )
    starts = np.flatnonzero(np.diff(hits.event_id, prepend=hits.event_id[:1] + np.uint64(1)))
    ids, counts = np.unique(hits.event_id[starts], return_counts=True)
    if len(ids) < len(starts):
        raise InputError(
            path, f"the rows of event {ids[counts > 1][0]} are not adjacent", "sort by event_id"
        )
    return hits


def _finite(hits: Hits) -> Hits:
    measured_u, measured_v = np.isfinite(hits.sigma_u), np.isfinite(hits.sigma_v)
    sound = (
        (np.isfinite(hits.u) | ~measured_u)
        & (np.isfinite(hits.v) | ~measured_v)
        & (measured_u | measured_v)
        & ~((hits.sigma_u <= 0) | (hits.sigma_v <= 0))
    )
    dropped = int(len(hits) - np.count_nonzero(sound))
    if not dropped:
        return hits
    return replace(hits.take(sound), run=hits.run.counting(hits_not_finite=dropped))
