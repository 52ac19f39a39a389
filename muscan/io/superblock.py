"""The first 48 bytes of an HDF5 file: was it closed, and how long should it be?

A writer marks the file while it has it open; where it is killed, the mark stays, and HDF5 then
refuses the file. Layout and checksum of the superblock (versions 2 and 3) are those of the HDF5
File Format Specification, version 3.0, section II.A.
"""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path
from typing import Final

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
SIZE: Final = 48
_FLAGS_AT: Final = 11
_END_AT: Final = 28
_CHECKSUM_AT: Final = 44
_WRITING: Final = 1
_SWMR: Final = 4
_MASK: Final = 0xFFFFFFFF
#: Bytes by which a file may grow while a reader has it open: 20 s at 100 times a portal's rate.
_MOST_GROWTH: Final = 1 << 30


def read_flags(path: Path) -> int:
    """Return the consistency flags of a file, 0 where it has none."""
    with path.open("rb") as file:
        return _flags(file.read(SIZE))


def is_followable(flags: int) -> bool:
    """Tell whether the file is marked by a writer that lets others read (SWMR)."""
    return bool(flags & _SWMR)


def is_open(flags: int) -> bool:
    """Tell whether the file is marked by a writer, alive or not."""
    return bool(flags & (_WRITING | _SWMR))


def repaired(head: bytes, length: int) -> bytes:
    """Return a superblock without marks, that ends where the file does.

    Parameters
    ----------
    head : bytes
        The first `SIZE` bytes of the file.
    length : int
        Of the file [byte].
    """
    if not _is_known(head):
        return head
    changed = bytearray(head)
    changed[_FLAGS_AT] = 0
    changed[_END_AT : _END_AT + 8] = struct.pack("<Q", length)
    changed[_CHECKSUM_AT:SIZE] = struct.pack("<I", lookup3(bytes(changed[:_CHECKSUM_AT])))
    return bytes(changed)


def clear_marks(path: Path) -> None:
    """Take a dead writer's marks off a file, in place."""
    with path.open("r+b") as file:
        head = file.read(SIZE)
        file.seek(0)
        file.write(repaired(head, path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())


class RepairedFile(io.FileIO):
    """A file read as if its superblock were repaired; nothing is changed on disk.

    Parameters
    ----------
    path : Path
    growing : bool
        Whether a writer may be at work: what it appends after the file was opened is then inside
        of the file, too. Bytes that are not there yet are zero.
    """

    def __init__(self, path: Path, *, growing: bool = False) -> None:
        super().__init__(path, "rb")
        head = super().read(SIZE) or b""
        self._beyond = _MOST_GROWTH if growing else 0
        self._head = repaired(head, path.stat().st_size + self._beyond)
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place; the end is that which the superblock tells.

        Raises
        ------
        OSError
            If it is a place that no file has.
        """
        if offset >> 63:
            raise OSError(errno.EINVAL, "an address is beyond any file's end")
        if whence == os.SEEK_END and self._beyond:
            end = super().seek(0, os.SEEK_END) + self._beyond
            return super().seek(end + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer, the superblock from memory."""
        view = memoryview(buffer).cast("B")
        start = self.tell()
        count = super().readinto(view) or 0
        if start < len(self._head):
            known = self._head[start : start + count]
            view[: len(known)] = known
        if self._beyond and count < len(view):
            view[count:] = bytes(len(view) - count)
            count = len(view)
        return count


def _is_known(head: bytes) -> bool:
    """Tell whether these are bytes of a superblock as our writers make it."""
    return len(head) == SIZE and head.startswith(SIGNATURE) and head[8] in (2, 3) and head[9] == 8


def _flags(head: bytes) -> int:
    return head[_FLAGS_AT] if _is_known(head) else 0


def _turn(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def lookup3(data: bytes) -> int:
    """Return Bob Jenkins' hash of 2006 with seed 0, by which HDF5 checks its metadata.

    Source: the author's public description, burtleburtle.net/bob/hash/doobs.html.
    """
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    whole = max((len(data) - 1) // 12, 0) * 12
    for start in range(0, whole, 12):
        x, y, z = struct.unpack_from("<3I", data, start)
        a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
        for first, second in ((4, 6), (8, 16), (19, 4)):
            a = ((a - c) & _MASK) ^ _turn(c, first)
            c = (c + b) & _MASK
            b = ((b - a) & _MASK) ^ _turn(a, second)
            a = (a + c) & _MASK
            # The three roles move on by one; after three rounds of two they are as before.
            a, b, c = c, a, b
    if not data:
        return c
    x, y, z = struct.unpack("<3I", data[whole:].ljust(12, b"\0"))
    a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turn(b, bits)) & _MASK
        a, b, c = b, c, a
    return int(b)
