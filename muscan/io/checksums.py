"""Checksums of a hit file's blocks: what was written whole, and whether it is still so.

A block is a stretch of rows, as long as a chunk of the datasets. Its CRC-32 (that of zlib and
PNG) runs over the bytes of the rows in every column of the table, little-endian, one column
after the other in the order of the schema.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from muscan.model.events import Array, Columns

if TYPE_CHECKING:
    from muscan.io.schema import Table


@dataclass(frozen=True)
class Blocks(Columns):
    """The blocks of a table, in order.

    Attributes
    ----------
    stop : (n,) uint64, rows of the table up to the end of each block
    crc32 : (n,) uint32
    live_time : (n,) float64, from the start of the run to the end of the block [s]; NaN if unknown
    """

    stop: Array
    crc32: Array
    live_time: Array


def crc32(rows: object, table: Table, start: int, stop: int) -> int:
    """Return the checksum of the rows from ``start`` to ``stop`` of an object with the columns."""
    value = 0
    for column in table.columns:
        values = getattr(rows, column.field)[start:stop]
        if column.component is not None:
            values = values[:, column.component]
        stored = np.dtype(column.dtype).newbyteorder("<")
        value = zlib.crc32(np.ascontiguousarray(values, dtype=stored).data.cast("B"), value)
    return value


def blocks_of(rows: Columns, table: Table, first: int, size: int, live_time: Array) -> Blocks:
    """Return the blocks of ``size`` rows (the last may have fewer).

    Parameters
    ----------
    rows : Columns
        What is to be written.
    table : Table
        Where to.
    first : int
        Rows that the table has already.
    size : int
        Rows of a block.
    live_time : ndarray
        Of each row, from the start of the run [s].
    """
    starts = range(0, len(rows), size)
    stops = [min(start + size, len(rows)) for start in starts]
    sums = [crc32(rows, table, start, stop) for start, stop in zip(starts, stops, strict=True)]
    return Blocks(
        stop=np.array([first + stop for stop in stops], np.uint64),
        crc32=np.array(sums, np.uint32),
        live_time=np.array([live_time[stop - 1] for stop in stops], np.float64),
    )


def first_changed(rows: Columns, table: Table, first: int, blocks: Blocks) -> int | None:
    """Return the number of the first block whose rows do not match its checksum, else None.

    Parameters
    ----------
    rows : Columns
        The rows of all those blocks.
    table : Table
    first : int
        Number in the table of the first of the rows.
    blocks : Blocks
    """
    start = 0
    for number, stop in enumerate(blocks.stop.astype(np.int64) - first):
        if crc32(rows, table, start, int(stop)) != blocks.crc32[number]:
            return number
        start = int(stop)
    return None
