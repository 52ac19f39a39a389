"""What the transport kernels share: tables on a grid of octaves."""

from __future__ import annotations

import numpy as np
from numba import njit

from muscan.kernels.options import PART


@njit(**PART)
def octaves(x: float) -> float:
    """Return log2 x where it is whole, and between them a straight line in x, from x's bits."""
    return np.float64(x).view(np.int64) * 2.0**-52 - 1023.0


@njit(**PART)
def locate(x: float, first: int, per_octave: int, rows: int) -> tuple[int, float]:
    """Return the row at or below x and the part of the way to the next.

    Parameters
    ----------
    x : float
        Positive; outside the grid it counts as the nearest end.
    first : int
        log2 of the grid's first x.
    per_octave, rows : int
        Rows in an octave, evenly spaced in x, and in all.
    """
    row = min(max((octaves(x) - first) * per_octave, 0.0), rows - 1.000001)
    i = int(row)
    return i, row - i
