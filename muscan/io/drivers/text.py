"""Delimited text to rows of hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError
from muscan.io.drivers.blocks import text_blocks
from muscan.io.drivers.columns import FIELDS, MappingSpec, TableFormat, X, Y, Z, table_format
from muscan.io.drivers.rows import MAX_LABELS, Rows
from muscan.kernels import text as kernel


class TextReader:
    """Reads delimited text; a `muscan.io.drivers.rows.TableReader`.

    Parameters
    ----------
    mapping : MappingSpec, optional
        See `muscan.io.drivers.columns.read_mapping`.

    Attributes
    ----------
    labels : list of str
        Panels in the order in which they were met.
    unit : str
        ``"line"``.
    format : TableFormat
        That of the table which is read.
    """

    unit = "line"

    def __init__(self, mapping: MappingSpec | None = None) -> None:
        self._mapping = mapping
        self.labels: list[str] = []
        self.format: TableFormat

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns of the table that are not read."""
        return self.format.ignored

    def read(self, path: Path, advance: Callable[[float], None] | None = None) -> Iterator[Rows]:
        """Yield the rows of a file, a block at a time.

        Raises
        ------
        InputError
            If the file is empty or a line is wrong; the message names the line.
        """
        line = 0
        for number, block in enumerate(text_blocks(path, advance)):
            begin = 0
            if number == 0:
                self.format = table_format(block, path, self._mapping)
                for _ in range(self.format.header_line):
                    begin = block.index(b"\n", begin) + 1
                line = self.format.header_line
                self._labels_of(self.format.labels)
            rows, lines = self._parse(np.frombuffer(block, np.uint8), begin, line, path)
            yield self._hits(rows)
            line += lines
        if line == 0:
            raise InputError(path, "is empty")

    def _labels_of(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of panels, new ones included."""
        self.labels += [name for name in names if name not in self.labels]
        return np.array([self.labels.index(name) for name in names], dtype=np.int64)

    def _parse(
        self, block: NDArray[np.uint8], begin: int, line: int, path: Path
    ) -> tuple[Rows, int]:
        """Parse a block; ``line`` lines stand before ``begin``. Returns rows and lines read."""
        form = self.format
        room = int(np.count_nonzero(block == ord("\n")))
        rows = Rows(
            np.zeros(room, np.uint64),
            np.empty(room, np.int64),
            np.zeros(room, np.int64),
            np.empty((room, form.n_slots)),
        )
        where = np.zeros(5, np.int64)
        done = lines = 0
        while True:
            names, starts = self._label_bytes()
            event_id, at, label, fields = rows.take(slice(done, None))
            n, reason = kernel.parse_rows(
                block,
                begin,
                len(block),
                ord(form.delimiter),
                form.kinds,
                form.slots,
                names,
                starts,
                at,
                event_id,
                label,
                fields,
                where,
            )
            at[:n] += line + lines + 1
            done += n
            lines += int(where[1])
            begin = int(where[0])
            if reason == kernel.DONE:
                break
            text = bytes(block[where[3] : where[4]]).decode("utf-8", "backslashreplace")
            new = text.encode() == bytes(block[where[3] : where[4]]) and text.isprintable()
            if reason != kernel.NEW_LABEL or not (text and new) or len(self.labels) >= MAX_LABELS:
                raise self._fault(reason, text, int(where[2]), line + lines + 1, path)
            self.labels.append(text)
        rows = rows.take(slice(0, done))
        if not form.numbered:
            rows = rows._replace(event_id=(rows.line - form.header_line - 1).astype(np.uint64))
        return rows, lines

    def _label_bytes(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        encoded = [label.encode() for label in self.labels]
        starts = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
        return np.frombuffer(b"".join(encoded) or b"\0", np.uint8), starts

    def _fault(self, reason: int, text: str, column: int, line: int, path: Path) -> InputError:
        names = self.format.columns
        name = names[column] if column < len(names) else ""
        shown = repr(text[:40])
        expected = f"the header has {len(names)} columns"
        problem = {
            kernel.TOO_FEW_COLUMNS: f"{column + 1} columns, but {expected}",
            kernel.TOO_MANY_COLUMNS: f"more columns than the header ({len(names)})",
            kernel.NOT_A_NUMBER: f"{name} {shown} is not a number",
            kernel.NOT_AN_IDENTIFIER: f"{name} {shown} is not a whole number from 0 on",
            kernel.NEW_LABEL: f"{name} {shown} is not a name",
        }[reason]
        if reason == kernel.NEW_LABEL and len(self.labels) >= MAX_LABELS:
            problem = f"more than {MAX_LABELS} panels"
        return InputError(path, f"line {line}: {problem}")

    def _hits(self, rows: Rows) -> Rows:
        """Return a row for every hit: those of the wide form hold one hit for each panel."""
        form = self.format
        n, hits = len(rows.event_id), len(form.fields)
        padded = np.column_stack([rows.fields, np.full(n, np.nan)])
        fields = padded[:, form.fields.ravel()].reshape(n * hits, len(FIELDS)) * form.scale
        if not form.labels:
            return rows._replace(fields=fields)
        label = np.tile(self._labels_of(form.labels), n)
        every = Rows(np.repeat(rows.event_id, hits), np.repeat(rows.line, hits), label, fields)
        # A panel that was not crossed has empty fields; z alone may be written as a constant.
        known = np.isfinite(fields[:, [X, Y]]).any(axis=1)
        only_z = (form.fields[:, [X, Y]] == form.n_slots).all(axis=1)
        known |= np.tile(only_z, n) & np.isfinite(fields[:, Z])
        return every.take(known)
