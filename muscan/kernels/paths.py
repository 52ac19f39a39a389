"""Paths of muons through voxels, in -> vertex -> out, and sums along them.

Each path is walked once, from face to face; the voxel and length of every visit are kept.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.poca import closest_approach
from muscan.kernels.traversal import clip, walk


class Paths(NamedTuple):
    """Voxels on the way of each muon, those of a muon adjacent, from top to bottom.

    Attributes
    ----------
    first : (n + 1,) int64, where each muon's voxels begin
    voxel : (visits,) int32, flat index
    length : (visits,) float32 [mm]
    top : (n,) float32, distance T where the path enters the grid [mm]
    """

    first: np.ndarray
    voxel: np.ndarray
    length: np.ndarray
    top: np.ndarray


@njit(cache=True, nogil=True)
def vertex_between(ax, ay, az, ux, uy, uz, bx, by, bz, wx, wy, wz):
    """Return a bend of the path between the points of two tracks: their vertex, or halfway."""
    x, y, z, s, t, _ = closest_approach(ax, ay, az, ux, uy, uz, bx, by, bz, wx, wy, wz)
    if s > 0.0 and t < 0.0:
        return x, y, z
    return 0.5 * (ax + bx), 0.5 * (ay + by), 0.5 * (az + bz)


@njit(cache=True, nogil=True)
def _bend(p, u, q, w, n):
    return vertex_between(
        np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2]),
        np.float64(u[n, 0]), np.float64(u[n, 1]), np.float64(u[n, 2]),
        np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2]),
        np.float64(w[n, 0]), np.float64(w[n, 1]), np.float64(w[n, 2]),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _walk_all(grid, p, q, n, x, y, z, voxels, lengths):
    bend = walk(grid, p[n, 0], p[n, 1], p[n, 2], x, y, z, voxels, lengths, 0)
    used = walk(grid, x, y, z, q[n, 0], q[n, 1], q[n, 2], voxels, lengths, bend)
    if bend == 0 or bend == used or voxels[bend] != voxels[bend - 1]:
        return used
    # The voxel of the bend is one visit, not two.
    lengths[bend - 1] += lengths[bend]
    for m in range(bend + 1, used):
        voxels[m - 1] = voxels[m]
        lengths[m - 1] = lengths[m]
    return used - 1


@njit(cache=True, nogil=True)
def count_visits(grid, p, u, q, w, counts):
    """Fill ``counts`` (n,) with the number of voxels on each muon's path."""
    room = 2 * (grid.nx + grid.ny + grid.nz)
    voxels, lengths = np.empty(room, np.int32), np.empty(room, np.float32)
    for n in range(p.shape[0]):
        x, y, z = _bend(p, u, q, w, n)
        counts[n] = _walk_all(grid, p, q, n, x, y, z, voxels, lengths)


@njit(cache=True, nogil=True)
def _entry(grid, p, q, n, x, y, z):
    """Distance along the path from its start to the grid, and the length of the path."""
    ax, ay, az = np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2])
    bx, by, bz = np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2])
    upper = math.sqrt((x - ax) ** 2 + (y - ay) ** 2 + (z - az) ** 2)
    lower = math.sqrt((x - bx) ** 2 + (y - by) ** 2 + (z - bz) ** 2)
    enter, leave = clip(grid, ax, ay, az, x, y, z)
    if enter < leave:
        return enter * upper, upper + lower
    enter, leave = clip(grid, x, y, z, bx, by, bz)
    return upper + enter * lower, upper + lower


@njit(cache=True, nogil=True)
def trace(grid, p, u, q, w, paths, reference):
    """Fill the paths of muons, and the distance of each one's reference point from its start.

    Parameters
    ----------
    grid : Grid
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing tracks [mm].
    paths : Paths
        Of these muons, with ``first`` set.
    reference : ndarray, shape (n, 2)
        Receives the distance along the incoming track from its point to the middle of the path
        in the grid, and the length of the whole path [mm].
    """
    room = 2 * (grid.nx + grid.ny + grid.nz)
    voxels, lengths = np.empty(room, np.int32), np.empty(room, np.float32)
    for n in range(p.shape[0]):
        x, y, z = _bend(p, u, q, w, n)
        used = _walk_all(grid, p, q, n, x, y, z, voxels, lengths)
        start = paths.first[n]
        inside = 0.0
        for m in range(used):
            paths.voxel[start + m] = voxels[m]
            paths.length[start + m] = lengths[m]
            inside += lengths[m]
        before, whole = _entry(grid, p, q, n, x, y, z)
        reference[n, 0] = before + 0.5 * inside
        reference[n, 1] = whole
        paths.top[n] = 0.5 * inside


@njit(cache=True, nogil=True)
def count_merged(paths, parent, start, step, counts):
    """Fill ``counts`` (m,) with the voxels of a coarser grid on muons start, start + step, …"""
    for i in range(counts.shape[0]):
        n = start + step * i
        found, here = 0, -1
        for m in range(paths.first[n], paths.first[n + 1]):
            if parent[paths.voxel[m]] != here:
                here = parent[paths.voxel[m]]
                found += 1
        counts[i] = found


@njit(cache=True, nogil=True)
def merge(paths, parent, start, step, merged, first, last):
    """Fill the paths of muons start, start + step, … through a coarser grid.

    Parameters
    ----------
    paths : Paths
        Through the fine grid.
    parent : ndarray of int32, shape (voxels,)
        Coarse voxel that holds each fine one.
    start, step : int
        Muons to take.
    merged : Paths
        To be filled, with ``first`` set.
    first, last : int
        Range of muons of ``merged``.
    """
    for i in range(first, last):
        n = start + step * i
        merged.top[i] = paths.top[n]
        place, here = merged.first[i] - 1, -1
        for m in range(paths.first[n], paths.first[n + 1]):
            if parent[paths.voxel[m]] != here:
                here = parent[paths.voxel[m]]
                place += 1
                merged.voxel[place] = here
                merged.length[place] = 0.0
            merged.length[place] += paths.length[m]


@njit(cache=True, nogil=True)
def pick(paths, order, picked, first, last):
    """Fill the paths of muons ``order[first:last]``, with ``picked.first`` set."""
    for i in range(first, last):
        n = order[i]
        shift = picked.first[i] - paths.first[n]
        picked.top[i] = paths.top[n]
        for m in range(paths.first[n], paths.first[n + 1]):
            picked.voxel[m + shift] = paths.voxel[m]
            picked.length[m + shift] = paths.length[m]


@njit(cache=True, nogil=True)
def project(paths, density, n):
    """Return the elements of S of one muon's path through a volume [mrad², mm]."""
    saa = sab = sbb = 0.0
    t = np.float64(paths.top[n])
    for m in range(paths.first[n], paths.first[n + 1]):
        length = np.float64(paths.length[m])
        value = density[paths.voxel[m]] * length
        middle = t - 0.5 * length
        saa += value
        sab += value * middle
        sbb += value * (middle * middle + length * length / 12.0)
        t -= length
    return saa, sab, sbb


@njit(cache=True, nogil=True)
def project_all(paths, density, first, last, sums):
    """Fill ``sums[first:last]`` (n, 3) with the elements of S of each muon's path."""
    for n in range(first, last):
        sums[n, 0], sums[n, 1], sums[n, 2] = project(paths, density, n)


@njit(cache=True, nogil=True)
def loss_shares(paths, rate, losses, first, last, done):
    """Fill the share of each muon's loss at the middle of every voxel, in 255ths.

    Parameters
    ----------
    paths : Paths
    rate : ndarray, shape (voxels,)
        Momentum lost [GeV/mm].
    losses : ndarray, shape (n,)
        The integral of ``rate`` over each path.
    first, last : int
        Range of muons.
    done : (visits,) uint8
        To be filled.
    """
    for n in range(first, last):
        total = 0.0
        per_loss = 255.0 / max(losses[n], 1e-30)
        for m in range(paths.first[n], paths.first[n + 1]):
            step = np.float64(paths.length[m]) * rate[paths.voxel[m]]
            done[m] = np.uint8(min((total + 0.5 * step) * per_loss + 0.5, 255.0))
            total += step


@njit(cache=True, nogil=True)
def line_integrals(paths, field, first, last, sums):
    """Fill ``sums[first:last]`` with the integral of a field over each muon's path."""
    for n in range(first, last):
        total = 0.0
        for m in range(paths.first[n], paths.first[n + 1]):
            total += np.float64(paths.length[m]) * field[paths.voxel[m]]
        sums[n] = total


@njit(cache=True, nogil=True)
def spread(paths, values, sums, numbers):
    """Add one value of each muon, and the muon itself, to every voxel of its path."""
    for n in range(values.shape[0]):
        for m in range(paths.first[n], paths.first[n + 1]):
            sums[paths.voxel[m]] += values[n]
            numbers[paths.voxel[m]] += 1
