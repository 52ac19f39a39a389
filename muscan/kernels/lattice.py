"""Likelihood ratios of boxes on a fine lattice, all in one pass over the muons.

Boxes of one size overlap: their middles are a fraction of it apart. A layer of boxes of one height
shares what a muon gains from matter in it; the boxes differ in how much of the way through the
layer is inside, so the gain is computed for a fifth and for all of that way and interpolated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.region import (
    AFTER,
    CLASSES,
    INCOMING,
    MRAD2_PER_X0,
    VECTOR,
    classes,
    crossed,
    depth_loss,
    highland,
    mixture_log_density,
    new_work,
    outlier_density,
    root_power,
)
from muscan.kernels.ways import BINS

#: Part of the way through a layer at which the gain is computed, besides all of it; and the ratio
#: of the densities that are tried, so that the gain of one is that of the next for this part.
PART = 0.2
#: Densities that are tried.
LEVELS = 3
#: Most boxes along an axis that one muon crosses in a layer: with boxes a quarter of an edge apart,
#: even a muon at 1° to the horizontal meets no more.
_MOST = 256


class Lattice(NamedTuple):
    """Middles of boxes.

    Attributes
    ----------
    first : (3,) float64, lowest middle [mm]
    pitch : (3,) float64, distance between middles [mm]
    shape : (3,) int64, number of middles
    half : float, half an edge [mm]
    """

    first: np.ndarray
    pitch: np.ndarray
    shape: np.ndarray
    half: float


@njit(cache=True, nogil=True, inline="always")
def _at_height(point, upper, lower, z):
    """Return x and y of a path at a height, and the distance along it.

    ``upper`` and ``lower`` are the lengths of its halves.
    """
    half, done, length = (0, 0.0, upper) if z > point[1, 2] else (1, upper, lower)
    a, b = point[half], point[half + 1]
    drop = b[2] - a[2]
    part = (z - a[2]) / drop if drop < -1e-6 else 0.5
    x, y = a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])
    return x, y, done + part * length


@njit(cache=True, nogil=True, inline="always")
def _overlaps(start, end, first, pitch, half, count, enter, leave):
    """Fill which part of a way from start to end is inside each box along an axis.

    Returns
    -------
    low, number : int
        First box that is met, and how many are.
    """
    near, far = min(start, end), max(start, end)
    low = max(math.ceil((near - half - first) / pitch), 0)
    high = min(math.floor((far + half - first) / pitch), count - 1)
    number = min(high - low + 1, enter.shape[0])
    step = end - start
    # A way that does not move along the axis is inside a box all the way, or nowhere.
    inverse = 1.0 / (step if abs(step) >= 1e-6 else 1e-6)
    for i in range(number):
        middle = first + (low + i) * pitch - start
        one, two = (middle - half) * inverse, (middle + half) * inverse
        enter[i] = max(min(one, two), 0.0)
        leave[i] = min(max(one, two), 1.0)
    return low, number


@njit(cache=True, nogil=True, inline="always")
def _length(a, b):
    return math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + (b[2] - a[2]) ** 2)


@njit(cache=True, nogil=True, **VECTOR)
def _powers_after(work, entering, leaving, lowest):
    """Fill the scattering powers of the classes between two depths, given by what was lost."""
    for k in range(CLASSES):
        one = max(work[INCOMING + k] - entering, lowest)
        two = max(work[INCOMING + k] - leaving, lowest)
        work[AFTER + k] = root_power(one) * root_power(two)


@njit(cache=True, nogil=True)
def lattice_ratios(ways, bins, momenta, base, lattice, increases, rows, ratios):
    """Add the log likelihood ratios of boxes of one size against the background.

    What a box takes of the momentum is left out: it changes the ratios little, and the fit of a
    candidate has it.

    Parameters
    ----------
    ways, bins, momenta
        See `muscan.kernels.region`.
    base : ndarray, shape (n,)
        Log densities without a box.
    lattice : Lattice
    increases : ndarray, shape (LEVELS,)
        Densities above the background's that are tried, each 1/`PART` times the one before
        [mrad²/mm].
    rows : ndarray of int
        Muons. Fastest where those that follow each other are near each other.
    ratios : ndarray, shape (nz, nx, ny, LEVELS)
        Receives the sums over the muons; layer by layer, so that what a muon adds to lies together.
    """
    work = new_work()
    slope, bend = np.empty(LEVELS), np.empty(LEVELS)
    x_in, x_out = np.empty(_MOST), np.empty(_MOST)
    y_in, y_out = np.empty(_MOST), np.empty(_MOST)
    half = lattice.half
    for n in rows:
        point = ways.point[n]
        first, second = _length(point[0], point[1]), _length(point[1], point[2])
        scale = highland(crossed(bins[n]) / MRAD2_PER_X0)
        row = classes(momenta, ways.row[n], bins[n], ways.panels[n], scale, 0.5 * BINS, 0.0, work)
        single = outlier_density(ways, n, momenta)
        weight = momenta.weight[row]
        for layer in range(lattice.shape[2]):
            z = lattice.first[2] + layer * lattice.pitch[2]
            ax, ay, upper = _at_height(point, first, second, min(z + half, point[0, 2]))
            bx, by, lower = _at_height(point, first, second, max(z - half, point[2, 2]))
            length = lower - upper
            if length <= 0.0:
                continue
            i0, ni = _overlaps(
                ax, bx, lattice.first[0], lattice.pitch[0], half, lattice.shape[0], x_in, x_out
            )
            j0, nj = _overlaps(
                ay, by, lattice.first[1], lattice.pitch[1], half, lattice.shape[1], y_in, y_out
            )
            if ni <= 0 or nj <= 0:
                continue
            middle = 0.5 * (upper + lower)
            t = ways.along[n, 0] - middle
            lost = depth_loss(bins[n], middle / ways.along[n, 1] * BINS)
            _powers_after(work, lost, lost, momenta.lowest)
            before = 0.0
            for m in range(-1, LEVELS):
                part = PART if m < 0 else 1.0
                w = scale * increases[max(m, 0)] * part * length
                square = t * t + (part * length) ** 2 / 12.0
                gain = -base[n] + mixture_log_density(
                    ways.data[n], ways.noise[n], weight, work,
                    w, w * t, w * square, single, momenta.outlier,
                )  # fmt: skip
                if m >= 0:
                    # f (a + f b) through the gains for a part f and for all of the way.
                    bend[m] = (gain - before / PART) / (1.0 - PART)
                    slope[m] = gain - bend[m]
                before = gain
            slope0, slope1, slope2 = slope[0], slope[1], slope[2]
            bend0, bend1, bend2 = bend[0], bend[1], bend[2]
            for i in range(ni):
                cells, enter, leave = ratios[layer, i0 + i], x_in[i], x_out[i]
                for j in range(nj):
                    part = min(leave, y_out[j]) - max(enter, y_in[j])
                    if part > 0.0:
                        cells[j0 + j, 0] += part * (slope0 + part * bend0)
                        cells[j0 + j, 1] += part * (slope1 + part * bend1)
                        cells[j0 + j, 2] += part * (slope2 + part * bend2)
