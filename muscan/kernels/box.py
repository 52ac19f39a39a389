"""Likelihood of upright boxes among the muons near a place.

A fit tries hundreds of boxes on the same few thousand muons, of which a tenth cross the box. So
all are asked first where they enter and leave it, which goes through vector registers with one
number of all muons after the other in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.region import (
    MRAD2_PER_X0,
    classes,
    crossed,
    highland,
    mixture_log_density,
    new_work,
    outlier_density,
)
from muscan.kernels.ways import BINS, Ways, chord


class Near(NamedTuple):
    """Muons near a place.

    Attributes
    ----------
    ways : Ways
    bins : (n, BINS, 4) float32
        What they cross, see `muscan.kernels.ways.fill_bins`.
    base, single : (n,) float64
        Log densities without the box, and densities as outliers.
    start, inverse : (2, 3, n) float64
        Where each half of a path starts [mm], and one over its extent along each axis [1/mm].
    length : (2, n) float64
        Of each half [mm].
    """

    ways: Ways
    bins: np.ndarray
    base: np.ndarray
    single: np.ndarray
    start: np.ndarray
    inverse: np.ndarray
    length: np.ndarray


@njit(cache=True, nogil=True)
def near(ways, low, high, first, last, rows):
    """Fill ``rows`` with those muons of a range that cross a box, and return their number."""
    found = 0
    for n in range(first, last):
        point = ways.point[n]
        beside = False
        for axis in range(3):
            a, b, c = point[0, axis], point[1, axis], point[2, axis]
            if max(a, b, c) < low[axis] or min(a, b, c) > high[axis]:
                beside = True
        if beside:
            continue
        enter, leave = chord(ways, n, low, high)
        if leave > enter:
            rows[found] = n
            found += 1
    return found


@njit(cache=True, nogil=True)
def outlier_densities(ways, momenta, values):
    """Fill the densities of muons as outliers."""
    for n in range(values.shape[0]):
        values[n] = outlier_density(ways, n, momenta)


@njit(cache=True, nogil=True)
def _slab(low, high, start, inverse, first, last):
    """Narrow the parts of lines from start to start + 1/inverse to a slab."""
    for n in range(start.shape[0]):
        one, two = (low - start[n]) * inverse[n], (high - start[n]) * inverse[n]
        first[n] = max(first[n], min(one, two))
        last[n] = min(last[n], max(one, two))


@njit(cache=True, nogil=True)
def chords(near, low, high, enter, leave):
    """Fill where paths enter and leave a box, as distances along them; equal if they do not.

    As `muscan.kernels.ways.chord`, for all muons.
    """
    first, last = np.empty(enter.shape[0]), np.empty(enter.shape[0])
    enter[:], leave[:] = -1.0, -1.0
    for half in range(2):
        first[:], last[:] = 0.0, 1.0
        for axis in range(3):
            _slab(
                low[axis], high[axis], near.start[half, axis], near.inverse[half, axis],
                first, last,
            )  # fmt: skip
        length = near.length[half]
        for n in range(enter.shape[0]):
            if first[n] < last[n]:
                done = near.length[0, n] if half == 1 else 0.0
                if enter[n] < 0.0:
                    enter[n] = done + first[n] * length[n]
                leave[n] = done + last[n] * length[n]


@njit(cache=True, nogil=True)
def box_gains(near, momenta, low, high, increases, extras, gains):
    """Fill the log likelihood ratios of a box of several densities, and return who crosses it.

    Parameters
    ----------
    near : Near
    momenta : Momenta
    low, high : ndarray, shape (3,)
        Corners of the box [mm].
    increases, extras : ndarray, shape (m,)
        Densities [mrad²/mm] and losses [GeV/mm] above the background's.
    gains : ndarray, shape (m,)
        Receives the sums over the muons.

    Returns
    -------
    int
        Number of muons through the box.
    """
    ways, bins = near.ways, near.bins
    count = near.base.shape[0]
    enter, leave = np.empty(count), np.empty(count)
    chords(near, low, high, enter, leave)
    work = new_work()
    gains[:] = 0.0
    crossing = 0
    for n in range(count):
        length = leave[n] - enter[n]
        if not length > 0.0:
            continue
        crossing += 1
        middle = 0.5 * (enter[n] + leave[n])
        t = ways.along[n, 0] - middle
        split = middle / ways.along[n, 1] * BINS
        first, second = length * t, length * (t * t + length * length / 12.0)
        background = crossed(bins[n])
        for m in range(gains.shape[0]):
            scale = highland((background + increases[m] * length) / MRAD2_PER_X0)
            here = classes(
                momenta, ways.row[n], bins[n], ways.panels[n], scale, split,
                extras[m] * length, work,
            )  # fmt: skip
            more = scale * increases[m]
            gains[m] -= near.base[n]
            gains[m] += mixture_log_density(
                ways.data[n], ways.noise[n], momenta.weight[here], work,
                more * length, more * first, more * second, near.single[n], momenta.outlier,
            )  # fmt: skip
    return crossing


@njit(cache=True, nogil=True)
def mean_inside(values, lower, spacing, low, high):
    """Return the mean of voxels over a box; outside the grid the nearest ones count.

    Parameters
    ----------
    values : ndarray, shape (nx, ny, nz)
    lower, spacing : ndarray, shape (3,)
        Corner of the grid and edges of its voxels [mm].
    low, high : ndarray, shape (3,)
        Corners of the box [mm].
    """
    i0, i1 = _voxels(values.shape[0], lower[0], spacing[0], low[0], high[0])
    j0, j1 = _voxels(values.shape[1], lower[1], spacing[1], low[1], high[1])
    k0, k1 = _voxels(values.shape[2], lower[2], spacing[2], low[2], high[2])
    total = volume = 0.0
    for i in range(i0, i1):
        x = _inside(i, lower[0], spacing[0], low[0], high[0])
        for j in range(j0, j1):
            y = _inside(j, lower[1], spacing[1], low[1], high[1])
            for k in range(k0, k1):
                weight = x * y * _inside(k, lower[2], spacing[2], low[2], high[2])
                total += weight * values[i, j, k]
                volume += weight
    return total / volume


@njit(cache=True, nogil=True, inline="always")
def _voxels(count, lower, spacing, low, high):
    """Return the first and last voxel (exclusive) that an interval meets along an axis."""
    first = min(max(int(np.floor((low - lower) / spacing + 1e-9)), 0), count - 1)
    last = min(max(int(np.ceil((high - lower) / spacing - 1e-9)), first + 1), count)
    return first, last


@njit(cache=True, nogil=True, inline="always")
def _inside(index, lower, spacing, low, high):
    """Return how much of a voxel is in an interval [mm], never nothing."""
    start = lower + index * spacing
    return max(min(start + spacing, high) - max(start, low), 1e-6)
