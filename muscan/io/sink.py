"""A file below HDF5 that keeps the first failure to write to itself."""

from __future__ import annotations

import io
from typing import Any


class Sink(io.FileIO):
    """A file that a library writes to which cannot bear failures.

    Where a write fails, as on a full disk, HDF5 can neither flush nor close its file any more: it
    complains at the end of the process, or crashes there. Here the first failure is kept, and
    everything after it is taken and thrown away, so that the library closes in peace.

    Attributes
    ----------
    error : OSError or None
        The first failure; the file is worthless then.
    """

    error: OSError | None = None
    _end = 0

    def check(self) -> None:
        """Raise the first failure."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; after a failure the end is where it would be."""
        if whence == io.SEEK_END and self.error is not None:
            return super().seek(self._end + offset)
        return super().seek(offset, whence)

    def write(self, data: Any) -> int:
        """Write all of the data, or nothing after a failure."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        self._end = max(self._end, self.tell() + size)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read; after a failure zeros for what was thrown away."""
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        if self.error is not None:
            view[count:] = bytes(len(view) - count)
            return len(view)
        return count

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file, or nothing after a failure."""
        size = self.tell() if size is None else size
        self._end = size
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size
