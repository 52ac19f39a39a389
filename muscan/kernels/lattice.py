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
    box_power,
    classes,
    highland,
    mixture_log_density,
    outlier_density,
)
from muscan.kernels.ways import BINS

#: Part of the way through a layer at which the gain is computed, besides all of it; and the ratio
#: of the densities that are tried, so that the gain of one is that of the next for this part.
PART = 0.2
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
def _at_height(point, z):
    """Return x and y of a path at a height, and the distance along it."""
    upper = math.sqrt(
        (point[1, 0] - point[0, 0]) ** 2
        + (point[1, 1] - point[0, 1]) ** 2
        + (point[1, 2] - point[0, 2]) ** 2
    )
    half, done = (0, 0.0) if z > point[1, 2] else (1, upper)
    a, b = point[half], point[half + 1]
    drop = b[2] - a[2]
    part = (z - a[2]) / drop if drop < -1e-6 else 0.5
    x, y = a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])
    length = upper
    if half == 1:
        length = math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + drop * drop)
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
    for i in range(number):
        middle = first + (low + i) * pitch
        if abs(step) < 1e-6:
            enter[i], leave[i] = 0.0, 1.0
            continue
        one, two = (middle - half - start) / step, (middle + half - start) / step
        enter[i] = max(min(one, two), 0.0)
        leave[i] = min(max(one, two), 1.0)
    return low, number


@njit(cache=True, nogil=True)
def lattice_ratios(ways, bins, momenta, base, lattice, increases, first, last, step, ratios):
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
    increases : ndarray, shape (m,)
        Densities above the background's that are tried, each 1/`PART` times the one before
        [mrad²/mm].
    first, last, step : int
        Range of muons.
    ratios : ndarray, shape (nx, ny, nz, m)
        Receives the sums over the muons.
    """
    k = momenta.reach.shape[1]
    s, incoming, after = np.empty((3, k)), np.empty(k), np.empty(k)
    powers = np.empty((BINS, k))
    levels = increases.shape[0]
    slope, bend = np.empty(levels), np.empty(levels)
    x_in, x_out = np.empty(_MOST), np.empty(_MOST)
    y_in, y_out = np.empty(_MOST), np.empty(_MOST)
    half = lattice.half
    for n in range(first, last, step):
        point = ways.point[n]
        whole = ways.along[n, 1]
        thickness = 0.0
        for b in range(BINS):
            thickness += bins[n, b, 0]
        scale = highland(thickness / 25.0)
        row = classes(
            momenta, ways.row[n], bins[n], ways.panels[n], scale, 0.5 * BINS, 0.0,
            s, incoming, after, powers,
        )  # fmt: skip
        single = outlier_density(ways, n, momenta)
        weight = momenta.weight[row]
        for layer in range(lattice.shape[2]):
            z = lattice.first[2] + layer * lattice.pitch[2]
            ax, ay, upper = _at_height(point, min(z + half, point[0, 2]))
            bx, by, lower = _at_height(point, max(z - half, point[2, 2]))
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
            box_power(momenta, bins[n], middle / whole * BINS, incoming, after)
            before = 0.0
            for m in range(-1, levels):
                part = PART if m < 0 else 1.0
                w = scale * increases[max(m, 0)] * part * length
                second = t * t + (part * length) ** 2 / 12.0
                gain = -base[n] + mixture_log_density(
                    ways.data[n], ways.noise[n], weight, s, after,
                    w, w * t, w * second, single, momenta.outlier,
                )  # fmt: skip
                if m >= 0:
                    # f (a + f b) through the gains for a part f and for all of the way.
                    bend[m] = (gain - before / PART) / (1.0 - PART)
                    slope[m] = gain - bend[m]
                before = gain
            for i in range(ni):
                for j in range(nj):
                    part = min(x_out[i], y_out[j]) - max(x_in[i], y_in[j])
                    if part > 0.0:
                        cell = ratios[i0 + i, j0 + j, layer]
                        for m in range(levels):
                            cell[m] += part * (slope[m] + part * bend[m])
