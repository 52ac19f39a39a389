"""HDF5 files with a format name and version, and what every file of ours has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io import schema, superblock
from muscan.io.atomic import whole_file
from muscan.io.chunks import FILTERS
from muscan.io.heaps import damaged_heap
from muscan.io.sink import Sink
from muscan.model.detector import Detector, parse_detector
from muscan.model.events import Run

#: Compression takes data down by no more than this (gzip by 1032), but for what a writer has not
#: written yet [bytes]. What claims to be larger is damaged, and reading it could fill the memory.
MAX_COMPRESSION = 1100
UNWRITTEN_BYTES = 16_000_000
_NOT_CLOSED = ("was not closed by its writer", "get what is whole by 'muscan recover'")
#: What makes files of each format.
_MADE_BY: Final = {
    schema.HITS: "'muscan simulate' or 'muscan import'",
    schema.TRACKS: "'muscan track'",
    schema.VOLUME: "'muscan reconstruct'",
    schema.MATERIALS: "'muscan identify'",
}
_RUN_FIELDS = ("live_time_s", "start_time", "run_id", "source")


def now() -> str:
    """Return the time as ISO 8601 in UTC; ``SOURCE_DATE_EPOCH`` overrides the clock."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")


@contextmanager
def create(path: str | Path, format_name: str) -> Iterator[h5py.File]:
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
def open_checked(path: str | Path, format_name: str | None = None) -> Iterator[h5py.File]:
    """Open a file for reading after checking what it is.

    A file that is being written by a writer that lets others follow, or was when it was killed,
    is opened too: its tables may have rows that are not whole yet.

    Raises
    ------
    InputError
        If it is missing, empty, not HDF5, truncated, of another format or of a newer version;
        or if HDF5 fails on its content while the block reads.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(path, "no such file")
        if path.stat().st_size == 0:
            raise InputError(path, "is empty", "record or simulate it again")
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
            # Not as HDF5 follows files: it tries damaged parts again, for hours. What is torn
            # because it is being written is an error here, and whoever follows comes again.
            left = superblock.is_followable(flags)
            source: Any = path
            if left:
                source = stack.enter_context(superblock.RepairedFile(path, growing=True))
            file = stack.enter_context(h5py.File(source, "r"))
            check_format(file, path, format_name)
            yield file
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
        if superblock.is_open(flags) and not superblock.is_followable(flags):
            raise InputError(path, *_NOT_CLOSED) from error
        raise InputError(
            path, f"is damaged or truncated ({first_line(error)})", "restore it from its source"
        ) from error


def format_of(path: str | Path) -> str:
    """Return the name of a file's format, after checking that this version reads it."""
    with open_checked(path) as file:
        return str(file.attrs["format"])


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    text = getattr(error, "strerror", None) or str(error.args[0] if error.args else error)
    return (text.splitlines() or [type(error).__name__])[0].strip("'\"")


def check_format(file: h5py.File, path: Path, wanted: str | None) -> None:
    """Raise InputError unless an open file is of a (given) format and a version that we read."""
    found = file.attrs.get("format")
    if not isinstance(found, str) or found not in schema.VERSIONS:
        raise InputError(path, "is not a muscan file (no known 'format' attribute)")
    if wanted is not None and found != wanted:
        problem = f"is a {found} file where a {wanted} file is needed"
        raise InputError(path, problem, f"make one by {_MADE_BY[wanted]}")
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
    return None if text is None else detector_of(text, f"{source}:{schema.DETECTOR}")


def detector_of(text: str, source: str) -> Detector:
    """Return the detector of a layout's text; what is wrong with it is the source's fault."""
    try:
        return parse_detector(text, source)
    except InputError as error:
        if str(error.source).startswith(source):
            raise
        raise InputError(source, f"{error.source}: {error.problem}", error.remedy) from error


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


class EventsWriter:
    """Base of what writes events chunk by chunk; the file appears when the block succeeds.

    Attributes
    ----------
    run : Run
        How the events came to be; set it before the block ends.
    """

    def __init__(self, path: str | Path, format_name: str, detector: Detector | None) -> None:
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
