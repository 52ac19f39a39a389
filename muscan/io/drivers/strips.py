"""The ``strips`` driver: raw channels, amplitudes and times of strips, without events.

A table ``plane,channel,adc,time_ns``, a row a strip over threshold, plain or compressed with gzip,
in the order of time but for some microseconds: see `muscan.io.drivers.strip_mapping` for what else
may be said. Pedestals are subtracted, adjacent strips joined to clusters, clusters along u and v
to hits, and hits of several panels to events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from muscan.errors import InputError, nearest
from muscan.io.drivers import Progress
from muscan.io.drivers.blocks import text_blocks
from muscan.io.drivers.strip_mapping import (
    Names,
    build_readout,
    read_strip_mapping,
    unknown_board,
)
from muscan.kernels import clustering as kernel
from muscan.kernels import text
from muscan.kernels.event_building import find_hits
from muscan.model.detector import Detector
from muscan.model.events import Hits, Run

_TIMES: Final = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
#: Rows that wait for later ones to be put in order, at most.
MOST_WAITING: Final = 4_000_000
_ROWS: Final = ("rows_used", "rows_not_finite", "rows_unknown_channel", "rows_dead_channel",
                "rows_below_threshold")  # fmt: skip
_HITS: Final = ("clusters", "clusters_u_unmatched", "clusters_v_unmatched", "hits_lone", "hits",
                "events", "bursts_cut")  # fmt: skip


class RawRows(NamedTuple):
    """Rows as they stand in a file: (n,) each."""

    board: NDArray[np.int64]
    channel: NDArray[np.uint64]
    adc: NDArray[np.float64]
    time: NDArray[np.float64]


def read_strips(
    files: Sequence[Path],
    *,
    detector: Detector | None = None,
    mapping: Path | None = None,
    progress: Progress | None = None,
) -> StripSource:
    """Open raw data of strips; see `muscan.io.drivers.Driver` and this module.

    Raises
    ------
    InputError
        If there is no layout, or a file or the mapping is wrong; the message names the line.
    """
    if detector is None:
        raise InputError("strips", "this driver needs a layout", "give one with --detector")
    return StripSource(files, detector, mapping, progress)


class StripSource:
    """Hits from strips; a `muscan.io.drivers.HitSource`."""

    def __init__(
        self,
        files: Sequence[Path],
        detector: Detector,
        mapping: Path | None,
        progress: Progress | None,
    ) -> None:
        self._files, self._detector, self._progress = list(files), detector, progress
        self._mapping = read_strip_mapping(mapping)
        self._readout = build_readout(detector, self._mapping, mapping or detector.name)
        self._notes: list[str] = []
        self._fate = np.zeros(len(_ROWS), np.int64)
        self._counts = np.zeros(kernel.N_COUNTS, np.int64)
        self._rows = self._late = self._event = 0
        self._waiting: list[kernel.StripColumns] = []
        self._done_until = self._last = -np.inf
        self._span = (np.inf, -np.inf)
        size = kernel.MOST_ROWS
        self._clusters = kernel.ClusterColumns(
            np.empty(size, np.int32), np.empty(size), np.empty(size), np.empty(size),
            np.empty(size), np.empty(size, np.int32), np.empty(size, np.bool_),
        )  # fmt: skip

    @property
    def detector(self) -> Detector:
        """The layout."""
        return self._detector

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know."""
        return tuple(self._notes)

    @property
    def run(self) -> Run:
        """The run, from the first event to the last; final when all chunks have been read."""
        counts = {"rows": self._rows, "rows_late": self._late}
        counts |= dict(zip(_ROWS, self._fate.tolist(), strict=True))
        counts |= dict(zip(_HITS, self._counts.tolist(), strict=True))
        span = (self._span[1] - self._span[0]) * 1e-9
        name = self._files[0].name.split(".")[0]
        live_time = span if span > 0 else float("nan")
        return Run(live_time, run_id=name, source="strips", counts=counts)

    def chunks(self) -> Iterator[Hits]:
        """Yield the hits, events never parted, ids increasing."""
        for number, path in enumerate(self._files):
            shift = 0.0
            reader = read_rows(
                path, self._readout.names, self._mapping.columns, self._advance(number)
            )
            for index, rows in enumerate(reader):
                time = rows.time * _TIMES[self._mapping.time_unit]
                finite = time[np.isfinite(time)]
                if number and not index and len(finite) and finite[0] < self._last:
                    shift = self._last - finite[0] + 1e3 * self._mapping.disorder_us
                    self._notes.append(
                        f"{path.name}: times start anew and are shifted by {shift * 1e-9:.6g} s"
                    )
                self._take(rows._replace(time=time + shift))
                yield self._finish(flush=False)
        yield self._finish(flush=True)

    def _advance(self, number: int) -> Callable[[float], None] | None:
        if self._progress is None:
            return None
        progress, files = self._progress, len(self._files)
        return lambda fraction: progress("import", (number + fraction) / files)

    def _take(self, rows: RawRows) -> None:
        """Let the rows wait that show a signal and are not late."""
        n = len(rows.time)
        self._rows += n
        strips = _strip_columns(n)
        kept = kernel.select_rows(
            self._readout.tables, self._readout.boards, rows.board, rows.channel, rows.adc,
            rows.time, strips, self._fate,
        )  # fmt: skip
        strips = _taken(strips, slice(kept))
        in_time = strips.time >= self._done_until
        if not in_time.all():
            self._late += int(np.count_nonzero(~in_time))
            strips = _taken(strips, in_time)
        if len(strips.time):
            self._last = max(self._last, float(strips.time.max()))
            self._waiting.append(strips)

    def _finish(self, flush: bool) -> Hits:
        """Return the hits of the rows that nothing earlier can follow."""
        if not self._waiting:
            return self._hits(_strip_columns(0), flush)
        strips = kernel.StripColumns(
            *(np.concatenate(column) for column in zip(*self._waiting, strict=True))
        )
        if (strips.time[1:] < strips.time[:-1]).any():
            order = np.argsort(strips.time, kind="stable")
            strips = _taken(strips, order)
        ready = len(strips.time)
        if not flush and ready <= MOST_WAITING:
            until = self._last - 1e3 * self._mapping.disorder_us
            ready = int(np.searchsorted(strips.time, until))
        self._waiting = [_taken(strips, slice(ready, None))]
        return self._hits(_taken(strips, slice(ready)), flush)

    def _hits(self, strips: kernel.StripColumns, flush: bool) -> Hits:
        n = len(strips.time)
        found = kernel.FoundColumns(
            np.empty(n, np.uint64), np.empty(n, np.uint16), *(np.empty(n) for _ in range(6))
        )
        used, rows, self._event = find_hits(
            self._readout.tables, strips, n, flush, self._readout.limits, self._clusters, found,
            self._event, self._counts,
        )  # fmt: skip
        if used < n:
            self._waiting.insert(0, _taken(strips, slice(used, None)))
        if used:
            self._done_until = float(strips.time[used - 1])
        if rows:
            times = found.time[:rows]
            first, last = self._span
            self._span = min(first, float(times.min())), max(last, float(times.max()))
        columns = {name: column[:rows] for name, column in found._asdict().items()}
        for name in ("u", "v", "sigma_u", "sigma_v", "amplitude"):
            columns[name] = columns[name].astype(np.float32)
        return Hits(**columns, detector=self._detector)


def read_rows(
    path: Path,
    boards: Sequence[str],
    columns: Names,
    advance: Callable[[float], None] | None = None,
) -> Iterator[RawRows]:
    """Yield the rows of a file, a block at a time.

    Raises
    ------
    InputError
        If the file is empty or a line is wrong; the message names the line.
    """
    encoded = [name.encode() for name in boards]
    names = np.frombuffer(b"".join(encoded), np.uint8)
    starts = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    line = 0
    for number, block in enumerate(text_blocks(path, advance)):
        begin = 0
        if number == 0:
            begin, line, delimiter, header = _header(block, path, columns)
            kinds, slots = _kinds(header, columns)
        n = block.count(b"\n")
        board, channel = np.empty(n, np.int64), np.empty(n, np.uint64)
        values, at, where = np.empty((n, 2)), np.empty(n, np.int64), np.zeros(5, np.int64)
        rows, reason = text.parse_rows(
            np.frombuffer(block, np.uint8), begin, len(block), ord(delimiter), kinds, slots,
            names, starts, at, channel, board, values, where,
        )  # fmt: skip
        if reason != text.DONE:
            shown = block[where[3] : where[4]].decode("utf-8", "backslashreplace")[:40]
            raise _fault(
                path, reason, line + int(where[1]) + 1, header, int(where[2]), shown, boards
            )
        yield RawRows(
            board[:rows], channel[:rows], values[:rows, 0].copy(), values[:rows, 1].copy()
        )
        line += int(where[1])
    if line == 0:
        raise InputError(path, "is empty")


def _header(block: bytes, path: Path, columns: Names) -> tuple[int, int, str, list[str]]:
    """Return where the rows begin, lines before them, the delimiter, and the columns' names."""
    begin = number = 0
    while begin < len(block):
        end = block.index(b"\n", begin) + 1
        number += 1
        line = block[begin:end].decode("utf-8-sig", "backslashreplace").strip()
        begin = end
        if line and not line.startswith("#"):
            delimiter = max(",;\t", key=line.count)
            header = [name.strip().strip('"').strip() for name in line.split(delimiter)]
            for wanted in columns.model_dump().values():
                if header.count(wanted) != 1:
                    times = "twice" if wanted in header else "not"
                    hint = nearest(wanted, [name[:40] for name in header if name])
                    problem = f"line {number}: column '{wanted}' is {times} in the header"
                    raise InputError(path, problem, f"{hint}; or name it under [columns]")
            return begin, number, delimiter, header
    raise InputError(path, "has no header line", f"begin with {','.join(columns.model_dump())}")


def _kinds(header: list[str], columns: Names) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return what each column holds, as `muscan.kernels.text.parse_rows` wants it."""
    kinds = np.full(len(header), text.SKIP, np.int8)
    slots = np.zeros(len(header), np.int64)
    kinds[header.index(columns.plane)] = text.LABEL
    kinds[header.index(columns.channel)] = text.IDENTIFIER
    for slot, name in enumerate((columns.adc, columns.time)):
        kinds[header.index(name)] = text.NUMBER
        slots[header.index(name)] = slot
    return kinds, slots


def _fault(
    path: Path,
    reason: int,
    line: int,
    header: list[str],
    column: int,
    shown: str,
    boards: Sequence[str],
) -> InputError:
    name = header[column] if column < len(header) else ""
    remedy = ""
    if reason == text.NEW_LABEL:
        remedy = unknown_board(shown, tuple(boards))
    problem = {
        text.TOO_FEW_COLUMNS: f"{column + 1} columns, but the header has {len(header)}",
        text.TOO_MANY_COLUMNS: f"more columns than the header ({len(header)})",
        text.NOT_A_NUMBER: f"{name} '{shown}' is not a number",
        text.NOT_AN_IDENTIFIER: f"{name} '{shown}' is not a whole number from 0 on",
        text.NEW_LABEL: f"{name} '{shown}' is not known",
    }[reason]
    return InputError(path, f"line {line}: {problem}", remedy)


def _strip_columns(n: int) -> kernel.StripColumns:
    return kernel.StripColumns(
        np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n), np.empty(n)
    )


def _taken(strips: kernel.StripColumns, rows: Any) -> kernel.StripColumns:
    return kernel.StripColumns(*(column[rows] for column in strips))
