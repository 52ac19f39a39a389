"""Tables in HDF5 files: equally long datasets, appended to and read by rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io import schema
from muscan.io.chunks import FILTERS, ChunkPlace, place_of, write_rows
from muscan.io.hdf5 import get_dataset
from muscan.io.sink import Sink
from muscan.model.events import Columns

CHUNK_ROWS = 65_536


class TableWriter:
    """Appends rows to a table's datasets, which are made if they are not there.

    Parameters
    ----------
    file : h5py.File
    table : Table
    chunk_rows : int
        Rows in a chunk of the datasets; fewer where a row is an array.
    rows : int
        Rows that are there already; what is behind them is written over.
    """

    def __init__(
        self, file: h5py.File, table: schema.Table, chunk_rows: int = CHUNK_ROWS, rows: int = 0
    ) -> None:
        self._columns = table.columns
        self._sink: Sink | None = getattr(file, "sink", None)
        group = file.require_group(table.path)
        self._datasets = [
            group[column.name] if column.name in group else self._create(group, column, chunk_rows)
            for column in table.columns
        ]
        self.rows = rows

    @staticmethod
    def _create(group: h5py.Group, column: schema.Column, chunk_rows: int) -> h5py.Dataset:
        rows = max(chunk_rows // max(int(np.prod(column.shape)), 1), 1)
        dataset = group.create_dataset(
            column.name,
            shape=(0, *column.shape),
            maxshape=(None, *column.shape),
            dtype=column.dtype,
            chunks=(rows, *column.shape),
            **FILTERS,
        )
        dataset.attrs["units"] = column.units
        return dataset

    def append(self, rows: Columns) -> None:
        """Append all rows of the columns."""
        parts = []
        for column, dataset in zip(self._columns, self._datasets, strict=True):
            values = getattr(rows, column.field)
            if column.component is not None:
                values = values[:, column.component]
            if len(values) != len(rows):
                raise TypeError(f"{column.field} has {len(values)} rows, others {len(rows)}")
            parts.append((dataset, values))
        write_rows(parts, self.rows)
        if self._sink is not None:
            self._sink.check()
        self.rows += len(rows)

    def places(self, row: int) -> tuple[ChunkPlace, ...]:
        """Return where the chunks that begin with a row lie in the file, in columns' order."""
        return tuple(place_of(dataset, row) for dataset in self._datasets)

    def flush(self) -> None:
        """Hand the rows over to the operating system, in the order of the columns."""
        for dataset in self._datasets:
            dataset.flush()


def check_table(
    file: h5py.File, table: schema.Table, source: Path, *, growing: bool = False
) -> int:
    """Return a table's number of rows after checking its datasets.

    Parameters
    ----------
    file : h5py.File
    table : Table
    source : Path
        To name in an error.
    growing : bool
        Whether a writer may be at work, so that some datasets are longer than others.

    Raises
    ------
    InputError
        If a dataset is missing, has a wrong type or shape, or another length than the first.
    """
    rows: int | None = None
    for column in table.columns:
        path = f"{table.path}/{column.name}"
        dataset = get_dataset(file, path, source)
        wanted = np.dtype(column.dtype)
        if dataset.shape[1:] != column.shape or dataset.ndim == 0:
            raise InputError(source, f"{path} has shape {dataset.shape}, not (n, *{column.shape})")
        if not np.can_cast(dataset.dtype, wanted, "same_kind"):
            raise InputError(source, f"{path} has type {dataset.dtype}, not {wanted}")
        if rows is not None and len(dataset) != rows and not growing:
            raise InputError(source, f"{path} has {len(dataset)} rows where others have {rows}")
        rows = len(dataset) if rows is None else min(rows, len(dataset))
    return rows or 0


def read_rows(
    file: h5py.File, table: schema.Table, start: int, stop: int
) -> dict[str, NDArray[Any]]:
    """Read rows of a checked table, as the fields of its holder."""
    found: dict[str, NDArray[Any]] = {}
    group = file[table.path]
    for column in table.columns:
        values = group[column.name][start:stop].astype(column.dtype, copy=False)
        if column.component is None:
            found[column.field] = values
            continue
        if column.component == 0:
            found[column.field] = np.empty((stop - start, 3), dtype=column.dtype)
        found[column.field][:, column.component] = values
    return found


def event_slices(
    file: h5py.File, table: schema.Table, rows: int, step: int
) -> Iterator[tuple[int, int]]:
    """Yield row ranges of about ``step`` rows that never part an event."""
    ids = file[table.path]["event_id"]
    start = 0
    while start < rows:
        stop = min(start + step, rows)
        while stop < rows:
            ahead = ids[stop - 1 : min(stop + 1024, rows)]
            change = np.flatnonzero(ahead[1:] != ahead[0])
            if len(change):
                stop += int(change[0])
                break
            stop = min(stop + 1024, rows)
        yield start, stop
        start = stop
