"""Where the blocks of a live hit file lie, written beside it while it grows.

HDF5 rewrites its index in place. A process that is killed in the middle of such a write can leave
the index torn, and with it the way to every block. The journal (``NAME.blocks``) is only ever
appended to: a line of JSON a block, with the place of each column's chunk in the file, behind a
CRC-32 of the line. Its last line may be torn, the others are whole. It is removed with the end of
the run.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from muscan.io import schema
from muscan.io.chunks import ChunkPlace, unpack
from muscan.model.events import Run

SUFFIX: Final = ".blocks"
_SUM_DIGITS: Final = 8


@dataclass(frozen=True)
class Block:
    """A block of a live file.

    Attributes
    ----------
    stop : int
        Rows up to its end.
    crc32 : int
        Of its rows, see `muscan.io.checksums`.
    live_time : float
        From the start of the run to the end of the block [s].
    places : tuple of ChunkPlace
        Of the columns' chunks, in the order of the schema.
    """

    stop: int
    crc32: int
    live_time: float
    places: tuple[ChunkPlace, ...]

    def read(self, file: Any, rows: int) -> dict[str, Any]:
        """Return the columns of the block from an open binary file.

        Raises
        ------
        OSError, ValueError, zlib.error
            If they are damaged.
        """
        found = {}
        for column, place in zip(schema.HIT_TABLE.columns, self.places, strict=True):
            file.seek(place.offset)
            values = unpack(file.read(place.size), np.dtype(column.dtype), place.mask)
            if len(values) != rows:
                raise ValueError(f"{column.name} has {len(values)} rows, not {rows}")
            found[column.field] = values
        return found


def journal_of(path: Path) -> Path:
    """Return where the journal of a hit file lies."""
    return path.with_name(path.name + SUFFIX)


class JournalWriter:
    """Appends blocks to the journal of a hit file.

    Parameters
    ----------
    path : Path
        Of the hit file.
    layout : str
        Text of the detector's layout.
    run : Run
        As known at the start.
    blocks : iterable of Block, optional
        Those of a file that is gone on with.
    """

    def __init__(self, path: Path, layout: str, run: Run, blocks: Iterable[Block] = ()) -> None:
        self._path = journal_of(path)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        facts = {key: value for key, value in asdict(run).items() if key != "counts"}
        self._write({"layout": layout, "run": facts})
        for block in blocks:
            self.add(block)

    def add(self, block: Block) -> None:
        """Append a block that the operating system has."""
        self._write(asdict(block))

    def close(self, *, finished: bool) -> None:
        """Close the journal; that of a finished file is removed."""
        os.close(self._file)
        if finished:
            self._path.unlink(missing_ok=True)

    def _write(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        os.write(self._file, b"%08x %s\n" % (zlib.crc32(text), text))


@dataclass(frozen=True)
class Journal:
    """What a journal says: the layout's text, the run, and the blocks in order."""

    layout: str
    run: Run
    blocks: list[Block]


def read_journal(path: Path) -> Journal | None:
    """Return the journal of a hit file up to its last whole line, None if there is none.

    A journal without a whole first line is none; what follows a line that is torn, or not in its
    place, is left out.
    """
    try:
        lines = journal_of(path).read_bytes().split(b"\n")
    except OSError:
        return None
    contents = []
    for line in lines:
        text = line[_SUM_DIGITS + 1 :]
        if line[:_SUM_DIGITS] != b"%08x" % zlib.crc32(text):
            break
        contents.append(json.loads(text))
    if not contents or contents[0].keys() != {"layout", "run"}:
        return None
    head, *rest = contents
    return Journal(head["layout"], Run(**head["run"]), list(_blocks(rest)))


def _blocks(contents: Iterable[dict[str, Any]]) -> Iterator[Block]:
    """Yield blocks up to the first line that does not follow the one before."""
    rows = 0
    for content in contents:
        if content.keys() != {field.name for field in fields(Block)} or content["stop"] <= rows:
            return
        rows = content["stop"]
        yield Block(**{**content, "places": tuple(ChunkPlace(*p) for p in content["places"])})
