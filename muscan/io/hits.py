"""Hit files: what the panels saw, and for simulated ones the truth beside it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io import hdf5, schema, tables
from muscan.io.checksums import Blocks, blocks_of
from muscan.io.hit_reader import HitReader, extent_of
from muscan.io.journal import Block, JournalWriter
from muscan.model.detector import Detector
from muscan.model.events import Array, Hits, MomentumMeasurements, Muons, join_hits

#: Hits read at a time where a file is streamed; about 80 MB in memory.
STREAM_ROWS = 2_000_000


class HitBlocks:
    """Appends hits to an open file in whole blocks, each with its checksum.

    Parameters
    ----------
    file : h5py.File
    block_rows : int
        Rows of a block, and of a chunk of the datasets.
    rows, blocks : int
        Hits and blocks that are there already.
    """

    def __init__(
        self,
        file: h5py.File,
        block_rows: int,
        rows: int = 0,
        blocks: int = 0,
    ) -> None:
        self._journal: JournalWriter | None = None
        self._hits = tables.TableWriter(file, schema.HIT_TABLE, block_rows, rows)
        self._blocks = tables.TableWriter(file, schema.BLOCK_TABLE, 1024, blocks)
        self._block_rows = block_rows
        self._pending: list[Hits] = []
        self._times: list[Array] = []
        self._pending_rows = 0
        self._latest = np.nan

    @property
    def rows(self) -> int:
        """Hits written so far, without those that do not fill a block yet."""
        return self._hits.rows

    def append(self, hits: Hits, live_time_s: float | None = None) -> int:
        """Take hits, and write the blocks that they fill; return how many rows were written.

        Parameters
        ----------
        hits : Hits
        live_time_s : float, optional
            From the start of the run to the last of the hits [s]; from their times unless given.
        """
        if len(hits) == 0:
            return 0
        if live_time_s is None:
            times = np.fmax(np.fmax.accumulate(hits.time) * 1e-9, self._latest)
        else:
            times = np.full(len(hits), live_time_s)
        self._latest = times[-1]
        self._pending.append(hits)
        self._times.append(times)
        self._pending_rows += len(hits)
        return self._write(self._pending_rows - self._pending_rows % self._block_rows)

    def write_rest(self) -> int:
        """Write the hits that do not fill a block; to be done once, at the end."""
        return self._write(self._pending_rows)

    def _write(self, count: int) -> int:
        if count == 0:
            return 0
        hits, times = Hits.join(self._pending), np.concatenate(self._times)
        whole = hits.take(slice(0, count))
        blocks = blocks_of(whole, schema.HIT_TABLE, self.rows, self._block_rows, times)
        first = self.rows
        self._hits.append(whole)
        if self._journal is not None:
            # The checksum comes last: where it is, the rows are.
            self._hits.flush()
            for block in self._places(first, blocks):
                self._journal.add(block)
        self._blocks.append(blocks)
        if self._journal is not None:
            self._blocks.flush()
        self._pending, self._times = [hits.take(slice(count, None))], [times[count:]]
        self._pending_rows -= count
        return count

    def _places(self, start: int, blocks: Blocks) -> Iterator[Block]:
        """Yield blocks that are written, the first one from a row on, with their places."""
        for stop, crc32, live_time in zip(*blocks.columns().values(), strict=True):
            yield Block(int(stop), int(crc32), float(live_time), self._hits.places(start))
            start = int(stop)

    def keep(self, journal: JournalWriter, blocks: Blocks | None) -> None:
        """Keep a journal from now on, of a file that others read while it grows.

        Blocks that are there already are entered first.
        """
        if blocks is None:
            blocks = Blocks(*np.empty((3, 0)))
        for block in self._places(0, blocks):
            journal.add(block)
        self._journal = journal


class HitsWriter(hdf5.EventsWriter):
    """Writes a hit file chunk by chunk; the file appears when the block succeeds.

    Parameters
    ----------
    path : path
        Of the file.
    detector : Detector
        Whose layout is stored with the hits.
    scene : str, optional
        A simulated scene's text, for ``/truth``.
    """

    def __init__(self, path: str | Path, detector: Detector, scene: str | None = None) -> None:
        super().__init__(path, schema.HITS, detector)
        self._scene = scene
        self._truth: tables.TableWriter | None = None
        self._momenta: tables.TableWriter | None = None

    def _begin(self) -> None:
        self._hits = HitBlocks(self._file, tables.CHUNK_ROWS)
        if self._scene is not None:
            self._truth = tables.TableWriter(self._file, schema.TRUTH_TABLE)
            hdf5.write_text_dataset(self._file, schema.SCENE, self._scene)

    def append(self, hits: Hits, truth: Muons | None = None) -> None:
        """Append hits, and the truth of their muons where it is known."""
        self._hits.append(hits)
        if truth is not None and self._truth is not None:
            self._truth.append(truth)
        if hits.momenta is not None:
            if self._momenta is None:
                self._momenta = tables.TableWriter(self._file, schema.MOMENTUM_TABLE)
            self._momenta.append(hits.momenta)

    def _end(self) -> None:
        self._hits.write_rest()
        self._file[schema.BLOCK_TABLE.path].attrs[schema.FINISHED] = np.int8(1)


def write_hits(path: str | Path, hits: Hits) -> None:
    """Write hits to a file."""
    with HitsWriter(path, hits.detector) as writer:
        writer.append(hits)
        writer.run = hits.run


def iter_hits(path: str | Path, rows: int = STREAM_ROWS) -> Iterator[Hits]:
    """Yield a file's hits in pieces that never part an event.

    Hits with a coordinate that is not a number, though its panel measures it, are dropped and
    counted in ``run.counts["hits_not_finite"]`` of the piece.

    Parameters
    ----------
    path : path
        Of the file.
    rows : int
        About how many hits a piece has; at least one block of the file.

    Warns
    -----
    UserWarning
        If the file is not finished; what is whole of it is read.

    Raises
    ------
    InputError
        If the file is not a sound hit file, has no hits, or they do not match their checksums.
    """
    path = Path(path)
    with hdf5.open_checked(path, schema.HITS) as file:
        extent = extent_of(file, path)
        if not extent.finished:
            warnings.warn(
                f"{path} is still being written, or its writer was killed; {extent.rows} hits of "
                "it are whole and are used",
                stacklevel=2,
            )
        if extent.rows == 0 and hdf5.read_detector(file, path) is not None:
            raise InputError(path, "has no hits")
        reader = HitReader(path)
        momenta = _read_momenta(file, path)
        counts = hdf5.read_run(file, path).counts
        for hits in reader.pieces(file, extent, rows, last=True):
            run = replace(hits.run, counts={**counts, **hits.run.counts})
            counts = {}
            yield replace(hits, run=run, momenta=_momenta_of(momenta, hits.event_id))


def read_hits(path: str | Path) -> Hits:
    """Read a whole hit file; see `iter_hits`."""
    parts = list(iter_hits(path))
    if len(parts) == 1:
        return parts[0]
    counts: dict[str, int] = {}
    for part in parts:
        for name, count in part.run.counts.items():
            counts[name] = counts.get(name, 0) + count
    return replace(join_hits(parts), run=replace(parts[0].run, counts=counts))


def read_truth(path: str | Path) -> tuple[Muons, str]:
    """Read the truth of a simulated file.

    Parameters
    ----------
    path : path
        Hit file.

    Returns
    -------
    muons : Muons
        Those of the events, where they start [mm, GeV].
    scene : str
        The text of the scene file.

    Raises
    ------
    InputError
        If it is no sound hit file, or the hits are not simulated.
    """
    path = Path(path)
    with hdf5.open_checked(path, schema.HITS) as file:
        if schema.TRUTH_TABLE.path not in file:
            raise InputError(path, "has no truth", "only simulated hits have one")
        rows = tables.check_table(file, schema.TRUTH_TABLE, path)
        muons = Muons(**tables.read_rows(file, schema.TRUTH_TABLE, 0, rows))
        return muons, hdf5.read_text_dataset(file, schema.SCENE, path) or ""


def _read_momenta(file: h5py.File, path: Path) -> MomentumMeasurements | None:
    if schema.MOMENTUM_TABLE.path not in file:
        return None
    rows = tables.check_table(file, schema.MOMENTUM_TABLE, path)
    return MomentumMeasurements(**tables.read_rows(file, schema.MOMENTUM_TABLE, 0, rows))


def _momenta_of(
    momenta: MomentumMeasurements | None, event_ids: NDArray[Any]
) -> MomentumMeasurements | None:
    return None if momenta is None else momenta.take(np.isin(momenta.event_id, event_ids))
