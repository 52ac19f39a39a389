"""Rows of hits in global coordinates: what drivers of tables make of their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io.drivers.columns import FIELDS

#: Rows of an event may stand this far apart; rows kept in memory to put them together.
WINDOW: Final = 100_000
#: More panels than this in a table are taken for a mistake.
MAX_LABELS: Final = 4096


class Rows(NamedTuple):
    """Hits as they stand in a table.

    Attributes
    ----------
    event_id : (n,) uint64
    line : (n,) int64, line (from 1) or entry (from 0) of the file
    label : (n,) int64, index into `TableReader.labels`
    fields : (n, 9) float64, as `muscan.io.drivers.columns.FIELDS`, in native units
    """

    event_id: NDArray[np.uint64]
    line: NDArray[np.int64]
    label: NDArray[np.int64]
    fields: NDArray[np.float64]

    def take(self, rows: Any) -> Rows:
        """Return the rows of an index array, mask or slice."""
        return Rows(*(column[rows] for column in self))


def make_rows(
    event_id: NDArray[np.uint64],
    line: NDArray[np.int64],
    label: NDArray[np.int64],
    **fields: NDArray[Any],
) -> Rows:
    """Return rows from columns.

    Parameters
    ----------
    event_id, line, label : (n,) array
        See `Rows`.
    **fields : (n,) array
        Any of `muscan.io.drivers.columns.FIELDS` by name, in native units; the others are NaN.
    """
    table = np.full((len(event_id), len(FIELDS)), np.nan)
    for number, name in enumerate(FIELDS):
        if name in fields:
            table[:, number] = fields[name]
    return Rows(event_id, line, label, table)


class TableReader(Protocol):
    """Reads the files of one run, and gathers the names of the panels in them.

    Attributes
    ----------
    labels : list of str
        Panels in the order in which they were met.
    unit : str
        What `Rows.line` counts: ``"line"`` or ``"entry"``.
    """

    labels: list[str]
    unit: str

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns of the file that was read last which are not used."""

    def read(self, path: Path, advance: Callable[[float], None] | None = None) -> Iterator[Rows]:
        """Yield the rows of a file, a block at a time.

        Raises
        ------
        InputError
            If the file is wrong; the message names the line or entry.
        """


class EventOrder:
    """Puts the rows of events together that stand apart in a file, within `WINDOW` rows."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._kept: Rows | None = None
        self._emitted = -1

    def add(self, rows: Rows, path: Path) -> Rows:
        """Take rows in, and return those of events that are complete.

        Raises
        ------
        InputError
            If a row belongs to an event that was returned before.
        """
        if len(rows.event_id) and int(rows.event_id.min()) <= self._emitted:
            late = int(np.argmax(rows.event_id <= np.uint64(self._emitted)))
            raise InputError(
                path,
                f"{self._unit} {rows.line[late]}: event {rows.event_id[late]} stands more than "
                f"{WINDOW} rows after a later event",
                "sort the file by event",
            )
        if self._kept is not None and len(self._kept.event_id):
            rows = Rows(*(np.concatenate(pair) for pair in zip(self._kept, rows, strict=True)))
        if (rows.event_id[1:] < rows.event_id[:-1]).any():
            rows = rows.take(np.argsort(rows.event_id, kind="stable"))
        end = max(len(rows.event_id) - WINDOW, 0)
        if end:
            end = int(np.searchsorted(rows.event_id, rows.event_id[end]))
        return self._emit(rows, end)

    def rest(self) -> Rows | None:
        """Return the rows that are left at the end of a file."""
        return None if self._kept is None else self._emit(self._kept, len(self._kept.event_id))

    def _emit(self, rows: Rows, end: int) -> Rows:
        self._kept = rows.take(slice(end, None)) if end < len(rows.event_id) else None
        if end:
            self._emitted = int(rows.event_id[end - 1])
        return rows.take(slice(0, end))
