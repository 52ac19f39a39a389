"""Where muons went, what they crossed there, and their way through boxes and sets of voxels.

A muon goes in-track → vertex → out-track. What it crosses is summed in `BINS` bins of even length
along its path. T is the distance from a place on the path down to the reference point.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.paths import vertex_between
from muscan.kernels.traversal import clip, walk

#: Bins along a path.
BINS = 6


class Ways(NamedTuple):
    """Where muons went and what they showed.

    Attributes
    ----------
    point : (n, 3, 3) float64, start, bend and end of the path [mm]
    along : (n, 2) float64, distance along the path of the reference point, and the whole length
    data : (n, 4) float32, a and b in the first plane, then in the second [mrad, mrad mm]
    noise : (n, 6) float32, Maa, Mab, Mbb of the first plane, then of the second
    panels : (n, 2, 3) float32, elements of S of the panels above and below, whole factor included
    row : (n,) int32, first row of the muon's momentum table
    """

    point: np.ndarray
    along: np.ndarray
    data: np.ndarray
    noise: np.ndarray
    panels: np.ndarray
    row: np.ndarray


@njit(cache=True, nogil=True)
def bends(p, u, q, w, ways):
    """Fill the points of the paths and their lengths, the reference point halfway.

    Parameters
    ----------
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing tracks [mm].
    ways : Ways
        To be filled in ``point`` and ``along``.
    """
    for n in range(p.shape[0]):
        x, y, z = vertex_between(
            np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2]),
            np.float64(u[n, 0]), np.float64(u[n, 1]), np.float64(u[n, 2]),
            np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2]),
            np.float64(w[n, 0]), np.float64(w[n, 1]), np.float64(w[n, 2]),
        )  # fmt: skip
        point = ways.point[n]
        point[1, 0], point[1, 1], point[1, 2] = x, y, z
        upper = lower = 0.0
        for axis in range(3):
            point[0, axis], point[2, axis] = p[n, axis], q[n, axis]
            upper += (point[1, axis] - point[0, axis]) ** 2
            lower += (point[2, axis] - point[1, axis]) ** 2
        ways.along[n, 1] = math.sqrt(upper) + math.sqrt(lower)
        ways.along[n, 0] = 0.5 * ways.along[n, 1]


@njit(cache=True, nogil=True)
def panel_parts(p, u, q, w, p_panels, q_panels, factor, ways):
    """Fill the scattering in the panels above and below, at the reference point.

    Parameters
    ----------
    p, u, q, w : ndarray, shape (n, 3)
        As for `bends`.
    p_panels, q_panels : ndarray, shape (n, 3)
        Errors aa, ab, bb of the tracks by the panels' scattering [rad, mm].
    factor : float
        Highland's factor for the panels.
    ways : Ways
        To be filled in ``panels``.
    """
    for n in range(p.shape[0]):
        along = ways.along[n, 0]
        straight = gap = 0.0
        for axis in range(3):
            here = p[n, axis] + along * u[n, axis]
            straight += np.float64(w[n, axis]) * u[n, axis]
            gap += (q[n, axis] - here) * u[n, axis]
        for side in range(2):
            part = p_panels[n] if side == 0 else q_panels[n]
            distance = along if side == 0 else -gap / straight
            aa, ab, bb = np.float64(part[0]), np.float64(part[1]), np.float64(part[2])
            ways.panels[n, side, 0] = 1e6 * factor * aa
            ways.panels[n, side, 1] = 1e6 * factor * (ab + distance * aa)
            ways.panels[n, side, 2] = (
                1e6 * factor * (bb + 2.0 * distance * ab + distance * distance * aa)
            )


@njit(cache=True, nogil=True, inline="always")
def _add(bins, n, s, length, whole, reference, density, loss):
    """Add a piece of path, from s over a length, to the bin of its middle."""
    middle = s + 0.5 * length
    b = min(max(int(middle / whole * BINS), 0), BINS - 1)
    t = reference - middle
    weight = length * density
    bins[n, b, 0] += weight
    bins[n, b, 1] += weight * t
    bins[n, b, 2] += weight * (t * t + length * length / 12.0)
    bins[n, b, 3] += length * loss


@njit(cache=True, nogil=True)
def fill_bins(grid, density, loss, air, air_loss, panel_loss, ways, first, last, bins):
    """Sum what muons cross in the bins of their paths.

    Parameters
    ----------
    grid : Grid
    density, loss : ndarray, shape (voxels,)
        Scattering density [mrad²/mm] and loss at the minimum of ionisation [GeV/mm].
    air, air_loss : float
        The same outside the grid.
    panel_loss : float
        Loss in the panels on either side, at right angles [GeV].
    ways : Ways
    first, last : int
        Range of muons.
    bins : ndarray, shape (n, BINS, 4)
        Receives the elements of S and the loss.
    """
    room = grid.nx + grid.ny + grid.nz
    voxels, lengths = np.empty(room, np.int64), np.empty(room, np.float64)
    for n in range(first, last):
        bins[n] = 0.0
        whole, reference = ways.along[n, 1], ways.along[n, 0]
        done = 0.0
        for half in range(2):
            a, b = ways.point[n, half], ways.point[n, half + 1]
            total = math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + (b[2] - a[2]) ** 2)
            enter, leave = clip(grid, a[0], a[1], a[2], b[0], b[1], b[2])
            if enter >= leave:
                enter, leave = 1.0, 1.0
            _add(bins, n, done, enter * total, whole, reference, air, air_loss)
            used = walk(grid, a[0], a[1], a[2], b[0], b[1], b[2], voxels, lengths, 0)
            s = done + enter * total
            for m in range(used):
                voxel = voxels[m]
                _add(bins, n, s, lengths[m], whole, reference, density[voxel], loss[voxel])
                s += lengths[m]
            rest = (1.0 - leave) * total
            _add(bins, n, done + leave * total, rest, whole, reference, air, air_loss)
            done += total
        steepness = whole / max(ways.point[n, 0, 2] - ways.point[n, 2, 2], 0.1 * whole)
        bins[n, 0, 3] += panel_loss * steepness
        bins[n, BINS - 1, 3] += panel_loss * steepness


@njit(cache=True, nogil=True)
def chord(ways, n, low, high):
    """Return where a path enters and leaves a box, as distances along it; equal if it does not.

    A path that bends beside the box and enters it twice counts from the first to the last point.
    """
    done = 0.0
    enter = leave = -1.0
    for half in range(2):
        a, b = ways.point[n, half], ways.point[n, half + 1]
        first, last = 0.0, 1.0
        total = 0.0
        for axis in range(3):
            step = b[axis] - a[axis]
            total += step * step
            if abs(step) < 1e-9:
                if a[axis] < low[axis] or a[axis] >= high[axis]:
                    last = -1.0
                continue
            one, two = (low[axis] - a[axis]) / step, (high[axis] - a[axis]) / step
            first, last = max(first, min(one, two)), min(last, max(one, two))
        total = math.sqrt(total)
        if first < last:
            if enter < 0.0:
                enter = done + first * total
            leave = done + last * total
        done += total
    return enter, leave


@njit(cache=True, nogil=True)
def near(ways, low, high, rows):
    """Fill ``rows`` with the muons that cross a box, and return their number."""
    found = 0
    for n in range(ways.along.shape[0]):
        enter, leave = chord(ways, n, low, high)
        if leave > enter:
            rows[found] = n
            found += 1
    return found


@njit(cache=True, nogil=True)
def crossings(ways, rows, low, high, moments):
    """Fill ∫ (1, T, T²) dl inside a box, and its depth in bins; zeros where a path misses it.

    Parameters
    ----------
    ways : Ways
    rows : ndarray of int, shape (m,)
        Muons to take.
    low, high : ndarray, shape (3,)
        Corners of the box [mm].
    moments : ndarray, shape (m, 4)
        To be filled.
    """
    for i in range(rows.shape[0]):
        n = rows[i]
        enter, leave = chord(ways, n, low, high)
        length = max(leave - enter, 0.0)
        middle = 0.5 * (enter + leave)
        t = ways.along[n, 0] - middle
        moments[i, 0] = length
        moments[i, 1] = length * t
        moments[i, 2] = length * (t * t + length * length / 12.0)
        moments[i, 3] = middle / ways.along[n, 1] * BINS


@njit(cache=True, nogil=True)
def mask_crossings(grid, mask, ways, first, last, moments):
    """Fill ∫ (1, T, T²) dl inside a set of voxels, and the mean depth there in bins.

    Parameters
    ----------
    grid : Grid
    mask : ndarray of bool, shape (voxels,)
    ways : Ways
    first, last : int
        Range of muons.
    moments : ndarray, shape (n, 4)
        To be filled; zeros where a path misses the voxels.
    """
    room = grid.nx + grid.ny + grid.nz
    voxels, lengths = np.empty(room, np.int64), np.empty(room, np.float64)
    for n in range(first, last):
        moments[n] = 0.0
        whole, reference = ways.along[n, 1], ways.along[n, 0]
        done = 0.0
        for half in range(2):
            a, b = ways.point[n, half], ways.point[n, half + 1]
            total = math.sqrt((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2 + (b[2] - a[2]) ** 2)
            enter, _ = clip(grid, a[0], a[1], a[2], b[0], b[1], b[2])
            used = walk(grid, a[0], a[1], a[2], b[0], b[1], b[2], voxels, lengths, 0)
            s = done + enter * total
            for m in range(used):
                length = lengths[m]
                if mask[voxels[m]]:
                    t = reference - s - 0.5 * length
                    moments[n, 0] += length
                    moments[n, 1] += length * t
                    moments[n, 2] += length * (t * t + length * length / 12.0)
                s += length
            done += total
        if moments[n, 0] > 0.0:
            moments[n, 3] = (reference - moments[n, 1] / moments[n, 0]) / whole * BINS
