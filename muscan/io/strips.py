"""Raw data of strips as text: what `muscan.io.drivers.strips` reads."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np

from muscan.io.atomic import whole_file
from muscan.kernels import strip_text as kernel
from muscan.model.detector import Detector
from muscan.model.strips import AXES, StripRows

#: The columns, in this order.
HEADER: Final = ("plane", "channel", "adc", "time_ns")
#: Rows turned into text at a time.
_ROWS: Final = 1 << 18


def plane_names(detector: Detector) -> list[str]:
    """Return the names of the planes of strips, by number: the panel's name and the axis."""
    return [f"{panel.name}/{axis}" for panel in detector.panels for axis in AXES]


class StripsWriter:
    """Writes raw rows of strips; the file appears when the block succeeds.

    Parameters
    ----------
    path : Path
        Of the file; compressed if its name ends with ``.gz``.
    detector : Detector
        Whose panels name the planes.
    """

    def __init__(self, path: Path, detector: Detector) -> None:
        self._path = path
        names = [name.encode() for name in plane_names(detector)]
        self._names = np.frombuffer(b"".join(names), np.uint8)
        self._starts = np.cumsum([0, *map(len, names)]).astype(np.int64)
        self._row_bytes = max(map(len, names)) + kernel.ROW_BYTES
        self._stack = ExitStack()
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        part = self._stack.enter_context(whole_file(self._path))
        if self._path.suffix == ".gz":
            # Without a time stamp, the same rows are the same bytes.
            plain = self._stack.enter_context(part.open("wb"))
            packed: Any = gzip.GzipFile("", "wb", compresslevel=4, fileobj=plain, mtime=0)
            self._file = self._stack.enter_context(packed)
        else:
            self._file = self._stack.enter_context(part.open("wb"))
        self._file.write((",".join(HEADER) + "\n").encode())
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def append(self, rows: StripRows) -> None:
        """Append rows."""
        for start in range(0, len(rows), _ROWS):
            part = rows.take(slice(start, start + _ROWS))
            text = np.empty(len(part) * self._row_bytes, np.uint8)
            used = kernel.format_rows(
                self._names, self._starts, part.plane, part.channel, part.adc, part.time, text
            )
            self._file.write(text[:used].tobytes())
