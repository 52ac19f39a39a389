"""HDF5 files with a format name and version, and tables of columns in them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io import schema, superblock
from muscan.io.atomic import whole_file
from muscan.io.chunks import FILTERS, ChunkPlace, place_of, write_rows
from muscan.io.heaps import damaged_heap
from muscan.io.sink import Sink
from muscan.model.detector import Detector, parse_detector
from muscan.model.events import Columns, Run

CHUNK_ROWS = 65_536
#: Compression takes data down by no more than this (gzip by 1032), but for what a writer has not
#: written yet [bytes]. What claims to be larger is damaged, and reading it could fill the memory.
MAX_COMPRESSION = 1100
UNWRITTEN_BYTES = 16_000_000
#: A file that was not written to for this long has no writer any more [s].
WRITER_PATIENCE_S = 10.0
_NOT_CLOSED = ("was not closed by its writer", "get what is whole by 'muscan recover'")
_RUN_FIELDS = ("live_time_s", "start_time", "run_id", "source")


def now() -> str:
    """Return the time as ISO 8601 in UTC; ``SOURCE_DATE_EPOCH`` overrides the clock."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")


@contextmanager
def create(path: Path, format_name: str) -> Iterator[h5py.File]:
    """Create a file of a format; it appears under its name only when the block succeeds."""
    with whole_file(path) as part, Sink(part, "w+b") as sink:
        with h5py.File(sink, "w", libver="v110") as file:
            file.sink = sink
            file.attrs["format"] = format_name
            file.attrs["format_version"] = schema.VERSIONS[format_name]
            file.attrs["muscan_version"] = version("muscan")
            file.attrs["created"] = now()
            yield file
        sink.check()


@contextmanager
def open_checked(path: Path, format_name: str | None = None) -> Iterator[h5py.File]:
    """Open a file for reading after checking what it is.

    A file that is being written by a writer that lets others follow, or was when it was killed,
    is opened too: its tables may have rows that are not whole yet.

    Raises
    ------
    InputError
        If it is missing, empty, not HDF5, truncated, of another format or of a newer version;
        or if HDF5 fails on its content while the block reads.
    """
    if not path.is_file():
        raise InputError(path, "no such file")
    if path.stat().st_size == 0:
        raise InputError(path, "is empty", "record or simulate it again")
    try:
        is_hdf5 = bool(h5py.is_hdf5(path))
        flags = superblock.read_flags(path)
        heap = damaged_heap(path)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    if not is_hdf5:
        raise InputError(path, "is not an HDF5 file", "convert recorded data by 'muscan import'")
    if heap is not None:
        raise InputError(
            path, f"is damaged (texts at byte {heap} have no end)", "restore it from its source"
        )
    try:
        with ExitStack() as stack:
            left = superblock.is_followable(flags)
            alive = left and time.time() - path.stat().st_mtime < WRITER_PATIENCE_S
            # A follower tries damaged parts again, for hours: only where a writer may mend them.
            dead = left and not alive
            source = stack.enter_context(superblock.RepairedFile(path)) if dead else path
            file = stack.enter_context(h5py.File(source, "r", swmr=alive))
            check_format(file, path, format_name)
            yield file
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        if superblock.is_open(flags) and not superblock.is_followable(flags):
            raise InputError(path, *_NOT_CLOSED) from error
        raise InputError(
            path, f"is damaged or truncated ({_first_line(error)})", "restore it from its source"
        ) from error


def format_of(path: Path) -> str:
    """Return the name of a file's format, after checking that this version reads it."""
    with open_checked(path) as file:
        return str(file.attrs["format"])


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else error).splitlines()[0].strip("'\"")


def check_format(file: h5py.File, path: Path, wanted: str | None) -> None:
    """Raise InputError unless an open file is of a (given) format and a version that we read."""
    found = file.attrs.get("format")
    if not isinstance(found, str) or found not in schema.VERSIONS:
        raise InputError(path, "is not a muscan file (no known 'format' attribute)")
    if wanted is not None and found != wanted:
        raise InputError(path, f"is a {found} file where a {wanted} file is needed")
    number = file.attrs.get("format_version")
    if not isinstance(number, (int, np.integer)) or number < 1:
        raise InputError(path, "has no valid format_version")
    if number > schema.VERSIONS[found]:
        raise InputError(
            path,
            f"has {found} version {number}; this muscan reads up to {schema.VERSIONS[found]}",
            "update muscan",
        )


def write_dataset(
    file: h5py.File, path: str, values: Any, units: str, **attributes: Any
) -> h5py.Dataset:
    """Write a whole dataset with its unit; arrays are compressed."""
    array = np.asarray(values)
    options = FILTERS if array.size > 1 and array.dtype.kind in "fiub" else {}
    if array.dtype.kind in "UO":
        dataset = file.create_dataset(path, data=values, dtype=h5py.string_dtype())
    else:
        dataset = file.create_dataset(path, data=array, **options)
    dataset.attrs["units"] = units
    for name, value in attributes.items():
        dataset.attrs[name] = value
    return dataset


def read_array(file: h5py.File, path: str, kinds: str, ndim: int, source: Path) -> NDArray[Any]:
    """Read a dataset after checking its type (numpy kinds) and number of dimensions."""
    dataset = get_dataset(file, path, source)
    if dataset.dtype.kind not in kinds or dataset.ndim != ndim:
        raise InputError(
            source, f"{path} has type {dataset.dtype} and {dataset.ndim} dimensions, not as needed"
        )
    return np.asarray(dataset[()])


def get_dataset(file: h5py.File, path: str, source: Path) -> h5py.Dataset:
    """Return a dataset, or say that it is missing."""
    found = file.get(path)
    if not isinstance(found, h5py.Dataset):
        raise InputError(source, f"has no dataset {path}", "write it as docs/formats describes")
    if found.nbytes > MAX_COMPRESSION * found.id.get_storage_size() + UNWRITTEN_BYTES:
        raise InputError(
            source,
            f"is damaged: {path} claims {found.nbytes:.3g} bytes and holds "
            f"{found.id.get_storage_size()}",
            "restore it from its source",
        )
    return found


def write_text_dataset(file: h5py.File, path: str, text: str) -> None:
    """Write a text as a scalar dataset."""
    dataset = file.create_dataset(path, data=text, dtype=h5py.string_dtype())
    dataset.attrs["units"] = ""


def read_text_dataset(file: h5py.File, path: str, source: Path) -> str | None:
    """Read a scalar text, None where there is none."""
    if path not in file:
        return None
    value = get_dataset(file, path, source)[()]
    if not isinstance(value, bytes):
        raise InputError(source, f"{path} is not a text")
    return value.decode("utf-8")


def write_detector(file: h5py.File, detector: Detector | None) -> None:
    """Write the layout's text."""
    if detector is not None:
        write_text_dataset(file, schema.DETECTOR, detector.text)


def read_detector(file: h5py.File, source: Path) -> Detector | None:
    """Read the detector from the layout's text, None where there is none."""
    text = read_text_dataset(file, schema.DETECTOR, source)
    return None if text is None else parse_detector(text, f"{source}:{schema.DETECTOR}")


def write_run(file: h5py.File, run: Run) -> None:
    """Write how the events came to be, replacing what was written before."""
    group = file.require_group(schema.RUN)
    for name in _RUN_FIELDS:
        group.attrs[name] = getattr(run, name)
    counts = file.require_group(schema.COUNTS)
    for name, count in run.counts.items():
        counts.attrs[name] = np.int64(count)


def read_run(file: h5py.File, source: Path) -> Run:
    """Read how the events came to be."""
    group = file.get(schema.RUN)
    if not isinstance(group, h5py.Group):
        return Run()
    texts = {name: str(group.attrs.get(name, "")) for name in _RUN_FIELDS[1:]}
    counts = file.get(schema.COUNTS)
    try:
        found = {} if counts is None else {str(k): int(v) for k, v in counts.attrs.items()}
    except (TypeError, ValueError, OverflowError):
        raise InputError(source, f"{schema.COUNTS} has a count that is no number") from None
    try:
        live_time = float(group.attrs.get("live_time_s", np.nan))
    except (TypeError, ValueError):
        raise InputError(source, f"{schema.RUN} live_time_s is not a number") from None
    return Run(live_time, counts=found, **texts)


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


class EventsWriter:
    """Base of what writes events chunk by chunk; the file appears when the block succeeds.

    Attributes
    ----------
    run : Run
        How the events came to be; set it before the block ends.
    """

    def __init__(self, path: Path, format_name: str, detector: Detector | None) -> None:
        self._context = create(path, format_name)
        self._detector = detector
        self.run = Run()

    def __enter__(self) -> Self:
        self._file = self._context.__enter__()
        write_detector(self._file, self._detector)
        self._begin()
        return self

    def _begin(self) -> None:
        """Make the tables in the file that was just created."""
        raise NotImplementedError

    def _end(self) -> None:
        """Write what is left to write."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self._end()
                write_run(self._file, self.run)
            except BaseException as own:
                self._context.__exit__(type(own), own, own.__traceback__)
                raise
        self._context.__exit__(kind, error, trace)


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
