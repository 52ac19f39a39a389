"""Raw rows of strips as text."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.options import KERNEL, PART

#: Bytes that the numbers of a row can take.
ROW_BYTES = 64


@njit(**PART)
def _put_integer(text: NDArray[np.uint8], at: int, value: int, digits: int) -> int:
    """Write a whole number with at least so many digits; return the next free byte."""
    if value < 0:
        text[at] = 45
        at += 1
        value = -value
    length, rest = 1, value // 10
    while rest > 0:
        length += 1
        rest //= 10
    length = max(length, digits)
    for i in range(length):
        text[at + length - 1 - i] = 48 + value % 10
        value //= 10
    return at + length


@njit(**KERNEL)
def format_rows(  # type: ignore[no-untyped-def]
    names, starts, plane, channel, adc, time, text
):
    """Write rows ``plane,channel,adc,time_ns`` with whole counts and picoseconds.

    Parameters
    ----------
    names, starts : uint8, (k + 1,) int64
        The names of the planes, one after the other, and where each begins.
    plane, channel : (n,) int32; adc, time : (n,) float64
    text : uint8
        Receives the rows; as long as their names and `ROW_BYTES` a row.

    Returns
    -------
    int
        Bytes written.
    """
    at = 0
    for i in range(plane.size):
        for j in range(starts[plane[i]], starts[plane[i] + 1]):
            text[at] = names[j]
            at += 1
        text[at] = 44
        at = _put_integer(text, at + 1, channel[i], 1)
        text[at] = 44
        at = _put_integer(text, at + 1, int(np.rint(adc[i])), 1)
        text[at] = 44
        at += 1
        picoseconds = int(np.rint(1000.0 * time[i]))
        if picoseconds < 0:
            text[at] = 45
            at += 1
            picoseconds = -picoseconds
        at = _put_integer(text, at, picoseconds // 1000, 1)
        text[at] = 46
        at = _put_integer(text, at + 1, picoseconds % 1000, 3)
        text[at] = 10
        at += 1
    return at
