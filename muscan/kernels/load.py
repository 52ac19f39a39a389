"""The likelihood of what muons did behind a load, by a tabulated law of angles and survival."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Share of muons whose angles no law lets expect, wrong pairs among them, and their variance in a
#: plane [mrad²].
OUTLIER, WIDE = 3e-4, 1e4
_PER_ROOT = 0.7071067811865476
_TALL = 0.3989422804014327


class Law(NamedTuple):
    """A law of angles as the kernels read it; meaning as in `muscan.model.angle_law.AngleLaw`.

    Attributes
    ----------
    first, step : float
        Logarithm of the first thickness, and from one to the next.
    power : (k,) float64
    weight : (cosines, thicknesses, k) float64
    survival : (cosines, thicknesses) float64
    seen : float
        Share of the muons that come out that is found.
    largest : float
        Muons with a larger angle in either plane count as not seen [mrad].
    """

    first: float
    step: float
    power: NDArray[np.float64]
    weight: NDArray[np.float64]
    survival: NDArray[np.float64]
    seen: float
    largest: float


class Seen(NamedTuple):
    """Muons that aim at the panels below, and what was seen of them.

    Attributes
    ----------
    row : (n,) int32, cosine in the law
    square : (n, 2) float32, squared angles in two planes [mrad²]; negative where none was seen
    noise : (n, 2) float32, variances of their errors [mrad²]
    known : (n,) float32, thickness of what is known on the way [mrad²]
    first, voxel, length : see `muscan.kernels.paths.Paths`
    """

    row: NDArray[np.int32]
    square: NDArray[np.float32]
    noise: NDArray[np.float32]
    known: NDArray[np.float32]
    first: NDArray[np.int64]
    voxel: NDArray[np.int32]
    length: NDArray[np.float32]


@njit(cache=True, nogil=True, error_model="numpy")
def log_density(law, row, total, ax2, ay2, nx, ny):  # type: ignore[no-untyped-def]
    """Return the log density of what became of a muon, and its slope in the thickness.

    Parameters
    ----------
    law : Law
    row : int
        Of the muon's cosine.
    total : float
        Thickness [mrad²].
    ax2, ay2 : float
        Squared angles in two planes [mrad²]; negative if the muon was not seen again.
    nx, ny : float
        Variances of the tracks' errors in them [mrad²].
    """
    place = (math.log(total) - law.first) / law.step
    last = law.weight.shape[1] - 2
    i = min(max(int(place), 0), last)
    f = place - i
    per = 1.0 / (law.step * total)
    if f < 0.0 or f > 1.0:
        f, per = min(max(f, 0.0), 1.0), 0.0
    low, high = law.survival[row, i], law.survival[row, i + 1]
    out, out_slope = law.seen * (low + f * (high - low)), law.seen * (high - low) * per
    if ax2 >= 0.0:
        top = slope = 0.0
        for k in range(law.power.size):
            low, high = law.weight[row, i, k], law.weight[row, i + 1, k]
            weight, change, u = low + f * (high - low), (high - low) * per, law.power[k]
            vx, vy = 1.0 / (nx + u * total), 1.0 / (ny + u * total)
            x, y = ax2 * vx, ay2 * vy
            value = math.exp(-0.5 * (x + y)) * math.sqrt(vx * vy)
            top += weight * value
            slope += value * (change + 0.5 * u * weight * ((x - 1.0) * vx + (y - 1.0) * vy))
        single = OUTLIER * math.exp(-0.5 * (ax2 + ay2) / WIDE) / WIDE
        mixed = (1.0 - OUTLIER) * top + single
        return math.log(mixed * out), (1.0 - OUTLIER) * slope / mixed + out_slope / out
    inside = inside_slope = 0.0
    for k in range(law.power.size):
        low, high = law.weight[row, i, k], law.weight[row, i + 1, k]
        weight, change, u = low + f * (high - low), (high - low) * per, law.power[k]
        variance = 0.5 * (nx + ny) + u * total
        part, part_slope = 1.0, 0.0
        if 25.0 * variance > law.largest * law.largest:
            z = law.largest / math.sqrt(variance)
            share = math.erf(z * _PER_ROOT)
            part = share * share
            part_slope = -2.0 * share * _TALL * math.exp(-0.5 * z * z) * z * u / variance
        inside += weight * part
        inside_slope += change * part + weight * part_slope
    lost = max(1.0 - out * inside, 1e-9)
    return math.log(lost), -(out_slope * inside + out * inside_slope) / lost


@njit(cache=True, nogil=True)
def scores(law, seen, density, start, stop, gradient, slopes):  # type: ignore[no-untyped-def]
    """Return the log likelihood of some muons and add its gradient.

    Parameters
    ----------
    law : Law
    seen : Seen
    density : (voxels,) float64, [mrad²/mm]
    start, stop : int
        Range of muons.
    gradient : (voxels,) float64
        Added to.
    slopes : (n,) float32
        Filled with the slope of each muon's log density in its thickness.
    """
    total = 0.0
    for n in range(start, stop):
        thickness = np.float64(seen.known[n])
        for m in range(seen.first[n], seen.first[n + 1]):
            thickness += density[seen.voxel[m]] * np.float64(seen.length[m])
        value, slope = log_density(
            law, seen.row[n], thickness,
            np.float64(seen.square[n, 0]), np.float64(seen.square[n, 1]),
            np.float64(seen.noise[n, 0]), np.float64(seen.noise[n, 1]),
        )  # fmt: skip
        total += value
        slopes[n] = slope
        for m in range(seen.first[n], seen.first[n + 1]):
            gradient[seen.voxel[m]] += slope * np.float64(seen.length[m])
    return total


@njit(cache=True, nogil=True)
def information(seen, slopes, vector, start, stop, product):  # type: ignore[no-untyped-def]
    """Add the product of the muons' information with a vector over the voxels."""
    for n in range(start, stop):
        along = 0.0
        for m in range(seen.first[n], seen.first[n + 1]):
            along += vector[seen.voxel[m]] * np.float64(seen.length[m])
        along *= np.float64(slopes[n]) * np.float64(slopes[n])
        for m in range(seen.first[n], seen.first[n + 1]):
            product[seen.voxel[m]] += along * np.float64(seen.length[m])


@njit(cache=True, nogil=True)
def box_sums(point, low, high, density, sums):  # type: ignore[no-untyped-def]
    """Add to each muon the thickness of boxes on its way.

    Parameters
    ----------
    point : (n, 3, 3) float64, start, bend and end of the way [mm]
    low, high : (b, 3) float64, corners [mm]
    density : (b,) float64, [mrad²/mm]; negative for a hollow
    sums : (n,) float64, [mrad²]
    """
    for n in range(point.shape[0]):
        for part in range(2):
            a, b = point[n, part], point[n, part + 1]
            length = math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + (b[2] - a[2]) ** 2)
            for k in range(low.shape[0]):
                enter, leave = 0.0, 1.0
                for axis in range(3):
                    way = b[axis] - a[axis]
                    if abs(way) < 1e-9:
                        way = 1e-9
                    first, second = (low[k, axis] - a[axis]) / way, (high[k, axis] - a[axis]) / way
                    enter = max(enter, min(first, second))
                    leave = min(leave, max(first, second))
                if leave > enter:
                    sums[n] += density[k] * length * (leave - enter)
