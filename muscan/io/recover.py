"""What is whole of a damaged hit file, or of one whose writer was killed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np

from muscan.errors import InputError
from muscan.io import hdf5, schema, tables
from muscan.io.atomic import spare
from muscan.io.checksums import Blocks, crc32
from muscan.io.heaps import damaged_heap
from muscan.io.hit_reader import MOST_BLOCK_ROWS
from muscan.io.hits import HitsWriter
from muscan.io.journal import Journal, journal_of, read_journal
from muscan.io.superblock import RepairedFile
from muscan.model.events import Columns, Hits, Run

#: What HDF5 and NumPy raise on damaged content.
_DAMAGE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError, zlib.error,
    InputError,
)  # fmt: skip


@dataclass
class Recovery:
    """What was kept of a hit file.

    Attributes
    ----------
    output : Path
        The file with what was kept.
    hits, blocks : int
        Kept: those of blocks that match their checksums.
    damaged_blocks : int
        Blocks that could not be read, or did not match.
    damaged_hits : int
        Hits in them.
    incomplete_hits : int
        Hits behind the last whole block: their writer had not written them in every column.
    checked : bool
        Whether there were checksums; without them, all that can be read is kept.
    """

    output: Path
    hits: int = 0
    blocks: int = 0
    damaged_blocks: int = 0
    damaged_hits: int = 0
    incomplete_hits: int = 0
    checked: bool = True

    def count(self, hits: int, *, whole: bool) -> None:
        """Count a block."""
        if whole:
            self.blocks, self.hits = self.blocks + 1, self.hits + hits
        else:
            self.damaged_blocks += 1
            self.damaged_hits += hits

    def summary(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return {**asdict(self), "output": str(self.output)}

    def text(self) -> str:
        """Return the facts in words."""
        lines = [f"{self.output}: {self.hits} hits in {self.blocks} whole blocks are kept"]
        if self.damaged_blocks:
            lines.append(
                f"{self.damaged_hits} hits in {self.damaged_blocks} damaged blocks are left out"
            )
        if self.incomplete_hits:
            lines.append(f"{self.incomplete_hits} hits behind the last whole block are left out")
        if not (self.damaged_blocks or self.incomplete_hits):
            lines.append("nothing is lost of what was written")
        if not self.checked:
            lines.append("there are no checksums: what can be read is kept, right or wrong")
        return "\n".join(lines)


def recover(path: str | Path, output: str | Path | None = None) -> Recovery:
    """Write what is whole of a hit file to another; the damaged one is left as it is.

    Every block that can be read and matches its checksum is kept. The last event before a block
    that is lost may lack hits.

    Parameters
    ----------
    path : path
        Hit file that was damaged, cut short, or whose writer was killed.
    output : path, optional
        File to write; ``NAME-recovered.h5`` beside it unless given.

    Raises
    ------
    InputError
        If nothing can be kept: it is no hit file, its layout is lost, or no block is whole.
    """
    path = Path(path)
    recovered = path.with_name(f"{path.stem}-recovered{path.suffix}")
    target = recovered if output is None else Path(output)
    if not path.is_file():
        raise InputError(path, "no such file")
    spare(target, path)
    journal = read_journal(path)
    if journal is not None and journal.blocks:
        return _by_journal(journal, path, target)
    try:
        heap = damaged_heap(path)
        if heap is not None:
            raise OSError(f"texts at byte {heap} have no end")
        with RepairedFile(path) as raw, h5py.File(raw, "r") as file:
            return _recover(file, path, target)
    except InputError:
        raise
    except _DAMAGE as error:
        reason = hdf5.first_line(error)
        raise InputError(
            path, f"nothing can be recovered ({reason})", "restore it from its source"
        ) from error


def _by_journal(journal: Journal, path: Path, target: Path) -> Recovery:
    """Keep the blocks of a live file whose writer was killed, whatever became of HDF5's index."""
    detector = hdf5.detector_of(journal.layout, str(journal_of(path)))
    found = Recovery(target)
    start, live_time = 0, journal.run.live_time_s
    with HitsWriter(target, detector) as writer, path.open("rb") as file:
        for block in journal.blocks:
            rows = block.stop - start
            columns = _or_none(block.read, file, rows)
            if columns is not None and _checksum(columns, rows) != block.crc32:
                columns = None
            found.count(rows, whole=columns is not None)
            start = block.stop
            if columns is not None:
                writer.append(Hits(**columns, detector=detector))
                live_time = block.live_time
        if found.blocks == 0:
            raise InputError(path, "no block of hits is whole", "restore it from its source")
        lost = {"hits_in_damaged_blocks": found.damaged_hits} if found.damaged_hits else {}
        writer.run = replace(journal.run, live_time_s=live_time).counting(**lost)
    return found


def _recover(file: h5py.File, path: Path, target: Path) -> Recovery:
    hdf5.check_format(file, path, schema.HITS)
    detector = hdf5.read_detector(file, path)
    if detector is None:
        raise InputError(path, f"has no {schema.DETECTOR}", "restore it from its source")
    rows = tables.check_table(file, schema.HIT_TABLE, path, growing=True)
    blocks = _blocks(file, path, rows)
    run = _or_none(hdf5.read_run, file, path) or Run()
    truth = _or_none(_read_whole, file, schema.TRUTH_TABLE, path)
    momenta = _or_none(_read_whole, file, schema.MOMENTUM_TABLE, path)
    scene = _or_none(hdf5.read_text_dataset, file, schema.SCENE, path)
    found = Recovery(target, checked=schema.BLOCK_TABLE.path in file)
    start, live_time = 0, run.live_time_s
    with HitsWriter(target, detector, scene) as writer:
        for row in range(len(blocks)):
            stop = int(blocks.stop[row])
            hits = _whole_block(file, start, stop, blocks.crc32[row] if found.checked else None)
            found.count(stop - start, whole=hits is not None)
            start = stop
            if hits is not None:
                part = Hits(**hits, detector=detector, momenta=momenta)
                writer.append(part, truth)
                truth = momenta = None
                live_time = float(blocks.live_time[row])
        if found.blocks == 0:
            raise InputError(path, "no block of hits is whole", "restore it from its source")
        if not np.isfinite(run.live_time_s):
            run = replace(run, live_time_s=live_time)
        lost = {"hits_in_damaged_blocks": found.damaged_hits} if found.damaged_hits else {}
        writer.run = run.counting(**lost)
    found.incomplete_hits = _longest(file) - start
    return found


def _blocks(file: h5py.File, path: Path, rows: int) -> Blocks:
    """Return the blocks that the rows hold; in a file without them, stretches of rows."""
    table = schema.BLOCK_TABLE
    if table.path not in file:
        stop = np.minimum(np.arange(0, rows, tables.CHUNK_ROWS) + tables.CHUNK_ROWS, rows)
        nothing = np.zeros(len(stop))
        return Blocks(stop.astype("u8"), nothing.astype("u4"), np.full(len(stop), np.nan))
    count = tables.check_table(file, table, path, growing=True)
    blocks = Blocks(**tables.read_rows(file, table, 0, count))
    stops = np.minimum(blocks.stop, np.uint64(1 << 62)).astype(np.int64)
    sizes = np.diff(stops, prepend=0)
    sound = (sizes > 0) & (sizes <= MOST_BLOCK_ROWS) & (stops <= rows)
    return blocks.take(slice(0, int(np.argmin(sound)) if not sound.all() else count))


def _whole_block(
    file: h5py.File, start: int, stop: int, checksum: int | None
) -> dict[str, Any] | None:
    """Return the columns of a block, None if it is damaged."""
    columns: dict[str, Any] | None
    columns = _or_none(tables.read_rows, file, schema.HIT_TABLE, start, stop)
    if columns is None or checksum is None:
        return columns
    return columns if _checksum(columns, stop - start) == checksum else None


def _checksum(columns: dict[str, Any], rows: int) -> int:
    return crc32(SimpleNamespace(**columns), schema.HIT_TABLE, 0, rows)


def _read_whole(file: h5py.File, table: schema.Table, path: Path) -> Columns | None:
    if table.path not in file:
        return None
    rows = tables.check_table(file, table, path, growing=True)
    return table.holder(**tables.read_rows(file, table, 0, rows))


def _longest(file: h5py.File) -> int:
    group = file[schema.HIT_TABLE.path]
    return max(len(group[column.name]) for column in schema.HIT_TABLE.columns)


def _or_none(read: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function reads, None where the content is damaged."""
    try:
        return read(*arguments)
    except _DAMAGE:
        return None
