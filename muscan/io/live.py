"""Hit files that grow while others read them (HDF5's single writer, multiple readers).

The writer makes every dataset first, then appends whole blocks: a chunk of each column, then
the block's checksum, each handed to the operating system in that order. Nothing that was
written is written again, so that a reader sees whole blocks at any time, and so does one that
comes after the writer was killed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import h5py
import numpy as np

from muscan.errors import InputError
from muscan.io import hdf5, schema, superblock
from muscan.io.checksums import Blocks
from muscan.io.hit_reader import HitReader, extent_of
from muscan.io.hits import STREAM_ROWS, HitBlocks
from muscan.io.journal import JournalWriter
from muscan.model.detector import Detector
from muscan.model.events import Hits, Run

#: Hits in a block of a live file: at 20 000 hits/s, five blocks a second.
BLOCK_ROWS: Final = 4096
#: How long a file may look unsound, for instance while its writer closes it [s].
PATIENCE_S: Final = 5.0


class LiveHitsWriter:
    """Writes a hit file that others can follow; use it in a ``with`` block.

    At the end of the block the file is marked as finished, and has the run's counts. After an
    exception it is closed, but not marked.

    Parameters
    ----------
    path : Path
        Of the file, on a local disk.
    detector : Detector
        Whose layout is stored with the hits.
    run : Run
        What is known at the start: start time, id, source.
    block_rows : int
        Hits in a block. Followers see a block when it is full: fewer for a slow detector, more for
        a fast one.
    resume : bool
        Go on with a file whose writer is dead, behind its last whole block. Its layout and its
        blocks' size stay.

    Attributes
    ----------
    run : Run
        How the events came to be; set it before the block ends.

    Raises
    ------
    InputError
        If the file cannot be made; if it is to be resumed and is finished or damaged.
    """

    def __init__(
        self,
        path: str | Path,
        detector: Detector,
        run: Run | None = None,
        *,
        block_rows: int = BLOCK_ROWS,
        resume: bool = False,
    ) -> None:
        if block_rows < 1:
            raise InputError("block_rows", f"{block_rows} is not positive")
        self._path = Path(path)
        self._detector = detector
        self._block_rows = block_rows
        self._resume = resume
        self.run = Run() if run is None else run

    @property
    def rows(self) -> int:
        """Hits that followers can see."""
        return self._hits.rows

    def __enter__(self) -> Self:
        rows, blocks = 0, None
        if self._resume and self._path.exists():
            rows, blocks = self._take_over()
        else:
            with hdf5.create(self._path, schema.HITS) as file:
                hdf5.write_detector(file, self._detector)
                hdf5.write_run(file, self.run)
                HitBlocks(file, self._block_rows)
                file[schema.BLOCK_TABLE.path].attrs[schema.FINISHED] = np.int8(0)
        self._file = _open_for_followers(self._path)
        self._hits = HitBlocks(self._file, self._block_rows, rows, len(blocks or ()))
        self._journal = JournalWriter(self._path, self._detector.text, self.run)
        self._hits.keep(self._journal, blocks)
        return self

    def _take_over(self) -> tuple[int, Blocks]:
        """Return rows and blocks of a file whose writer is dead, made ready to go on with."""
        with hdf5.open_checked(self._path, schema.HITS) as file:
            extent = extent_of(file, self._path)
            if extent.finished or extent.blocks is None:
                raise InputError(self._path, "is finished", "write another file")
            self._block_rows = int(file[f"{schema.HIT_TABLE.path}/event_id"].chunks[0])
        if extent.rows % self._block_rows:
            raise InputError(self._path, "its last block is not full", "write another file")
        superblock.clear_marks(self._path)
        return extent.rows, extent.blocks

    def append(self, hits: Hits, live_time_s: float | None = None) -> None:
        """Append hits, whole events; those that do not fill a block wait for more.

        Parameters
        ----------
        hits : Hits
            Without measured momenta, which a live file cannot hold.
        live_time_s : float, optional
            From the start of the run to the last of the hits [s]; from their times unless given.

        Raises
        ------
        InputError
            If the disk is full, or the file cannot be written to.
        """
        try:
            self._hits.append(hits, live_time_s)
        except (OSError, RuntimeError) as error:
            self._let_go()
            raise self._failure(error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                try:
                    self._hits.write_rest()
                except (OSError, RuntimeError):
                    self._let_go()
                    raise
            self._file.close()
            if error is None:
                # Attributes may only change when no one is promised a file to follow.
                with h5py.File(self._path, "r+", libver="v110", locking=False) as file:
                    hdf5.write_run(file, self.run)
                    file[schema.BLOCK_TABLE.path].attrs[schema.FINISHED] = np.int8(1)
            self._journal.close(finished=error is None)
        except (OSError, RuntimeError) as own:
            # After an error of the block, it is that which counts.
            if error is None:
                raise self._failure(own) from own

    def _let_go(self) -> None:
        """Turn what HDF5 still wants to write away from the file.

        After a failed write it can neither flush nor close a file any more, and crashes the
        process at its end. What is in the file is sound as far as its checksums go.
        """
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self._file.id.get_vfd_handle())
        os.close(nowhere)

    def _failure(self, error: Exception) -> InputError:
        text = getattr(error, "strerror", None) or str(error).splitlines()[0]
        reason = os.strerror(found) if (found := _error_number(str(error))) else text
        return InputError(self._path, f"cannot be written ({reason})", "check the free space")


def _error_number(text: str) -> int | None:
    """Return the system's number of an error in one of HDF5's messages."""
    match = re.search(r"errno = (\d+)", text)
    return None if match is None else int(match[1])


def _open_for_followers(path: Path) -> h5py.File:
    """Open a file as the one writer, marking it in a single step as one that may be followed."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_file_locking(False, True)
    flags = h5py.h5f.ACC_RDWR | h5py.h5f.ACC_SWMR_WRITE
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, access))


class HitsFollower:
    """Reads a hit file while it is written, whole events only, each once.

    The file is opened anew at each look, so its writer may close, restart or finish it, and it
    need not be there yet.

    Parameters
    ----------
    path : Path
        Of the file.

    Attributes
    ----------
    finished : bool
        Whether the run's end was written, and all hits were read.
    run : Run
        As the file has it; its live time is that of the hits read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._reader = HitReader(self._path)
        self._sound = time.monotonic()
        self._whole = 0
        self.finished = False
        self.run = Run()

    @property
    def rows(self) -> int:
        """Hits read so far."""
        return self._reader.rows

    @property
    def behind(self) -> int:
        """Hits that were whole in the file when it was last opened, and are not read yet."""
        return self._whole - self._reader.rows

    def poll(self, rows: int = STREAM_ROWS) -> Iterator[Hits]:
        """Yield what is new, in pieces of about ``rows`` hits.

        Raises
        ------
        InputError
            If the file stays unsound for `PATIENCE_S`, is replaced by a shorter one, or is not a
            hit file. A file that is not there is one without hits.
        """
        try:
            for hits in self._new(rows):
                yield hits
                self._sound = time.monotonic()
            self._sound = time.monotonic()
        except InputError:
            if not self._is_missing() and time.monotonic() - self._sound > PATIENCE_S:
                raise

    def _is_missing(self) -> bool:
        try:
            return not self._path.exists()
        except OSError:  # it may not be looked for
            return False

    def _new(self, rows: int) -> Iterator[Hits]:
        with hdf5.open_checked(self._path, schema.HITS) as file:
            extent = extent_of(file, self._path)
            if extent.rows < self._reader.rows:
                raise InputError(self._path, "has fewer hits than before", "watch it anew")
            self._whole = extent.rows
            for hits in self._reader.pieces(file, extent, rows, last=extent.finished):
                self.run = hits.run
                yield hits
            if extent.finished:
                self.run = hdf5.read_run(file, self._path)
                self.finished = True
