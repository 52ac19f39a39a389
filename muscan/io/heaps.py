"""Global heaps of HDF5 files, where texts of variable length stand: what the library trips over.

A collection is ``GCOL``, a version, its size, and objects of 16 bytes and their data; object 0 is
the free space at the end (HDF5 file format specification, III.E). The library never returns from
a collection whose free space has the size zero, so such a file must not be opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: ``GCOL``, version 1 and three bytes of zero: by chance in 1 of 10^19 places.
_SIGNATURE: Final = b"GCOL\x01\0\0\0"
_HEADER, _OBJECT = 16, 16
#: Of larger files only the two ends are searched, where writers put texts [bytes].
SEARCHED: Final = 8_000_000


def damaged_heap(path: Path) -> int | None:
    """Return the place of a global heap that the HDF5 library would never return from.

    Parameters
    ----------
    path : Path
        Of a file that is not empty.

    Returns
    -------
    int or None
        The byte at which the heap begins; None where all are sound.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    # Not mapped into memory: a writer may cut the file meanwhile.
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for begin in sorted({0, max(size - SEARCHED, 0)}):
            file.seek(begin)
            heap = _endless_heap(file.read(SEARCHED))
            if heap is not None:
                return begin + heap
    return None


def _endless_heap(data: bytes) -> int | None:
    """Return where a heap begins that has no end."""
    begin = data.find(_SIGNATURE)
    while begin >= 0:
        size = int.from_bytes(data[begin + 8 : begin + _HEADER], "little")
        if _is_endless(data, begin + _HEADER, min(begin + size, len(data))):
            return begin
        begin = data.find(_SIGNATURE, begin + 1)
    return None


def _is_endless(data: bytes, at: int, end: int) -> bool:
    """Tell whether going from object to object stands still."""
    while at + _OBJECT <= end:
        number = int.from_bytes(data[at : at + 2], "little")
        size = int.from_bytes(data[at + 8 : at + _OBJECT], "little")
        step = _OBJECT + -(-size // 8) * 8 if number else size
        if step == 0:
            return True
        at += step
    return False
