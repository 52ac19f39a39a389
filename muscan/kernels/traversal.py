"""Exact walk of a straight segment through a regular grid.

After Amanatides and Woo, "A Fast Voxel Traversal Algorithm for Ray Tracing", Eurographics 1987:
from face to face, so that the lengths in the voxels sum to the chord in the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit


class Grid(NamedTuple):
    """A grid as kernels see it: lowest corner, voxel size and number of voxels."""

    x0: float
    y0: float
    z0: float
    dx: float
    dy: float
    dz: float
    nx: int
    ny: int
    nz: int


@njit(cache=True, nogil=True)
def locate(grid, x, y, z):
    """Return the flat index of the voxel that holds a point, or -1 outside the grid.

    A voxel holds its lower faces but not its upper ones.
    """
    i = int(np.floor((x - grid.x0) / grid.dx))
    j = int(np.floor((y - grid.y0) / grid.dy))
    k = int(np.floor((z - grid.z0) / grid.dz))
    if i < 0 or j < 0 or k < 0 or i >= grid.nx or j >= grid.ny or k >= grid.nz:
        return -1
    return (i * grid.ny + j) * grid.nz + k


@njit(cache=True, nogil=True)
def _clip_axis(start, step, low, high, enter, leave):
    """Narrow the parameter range of a segment to a slab."""
    if step == 0.0:
        if start < low or start >= high:
            return 1.0, 0.0
        return enter, leave
    first, second = (low - start) / step, (high - start) / step
    if first > second:
        first, second = second, first
    return max(enter, first), min(leave, second)


@njit(cache=True, nogil=True)
def clip(grid, ax, ay, az, bx, by, bz):
    """Return the part of the segment a + t (b - a) inside the grid as (enter, leave).

    ``enter >= leave`` where there is none.
    """
    enter, leave = 0.0, 1.0
    enter, leave = _clip_axis(ax, bx - ax, grid.x0, grid.x0 + grid.nx * grid.dx, enter, leave)
    enter, leave = _clip_axis(ay, by - ay, grid.y0, grid.y0 + grid.ny * grid.dy, enter, leave)
    return _clip_axis(az, bz - az, grid.z0, grid.z0 + grid.nz * grid.dz, enter, leave)


@njit(cache=True, nogil=True)
def _axis_walk(start, step, enter, low, size, count):
    """Return (index, index step, parameter of the next face, parameter between faces)."""
    index = int(np.floor((start + enter * step - low) / size))
    index = min(max(index, 0), count - 1)
    if step > 0.0:
        return index, 1, (low + (index + 1) * size - start) / step, size / step
    if step < 0.0:
        return index, -1, (low + index * size - start) / step, -size / step
    return index, 0, np.inf, np.inf


@njit(cache=True, nogil=True)
def walk(grid, ax, ay, az, bx, by, bz, voxels, lengths, used):
    """Append the voxels that the segment from a to b crosses, with the length in each.

    Parameters
    ----------
    grid : Grid
    ax, ay, az, bx, by, bz : float
        Ends of the segment [mm].
    voxels, lengths : ndarray
        Receive flat voxel indices and lengths [mm] from position ``used`` on. A segment takes at
        most ``nx + ny + nz`` places.
    used : int
        Places already taken.

    Returns
    -------
    int
        Places taken afterwards.
    """
    sx, sy, sz = bx - ax, by - ay, bz - az
    enter, leave = clip(grid, ax, ay, az, bx, by, bz)
    if enter >= leave:
        return used
    i, istep, tx, wx = _axis_walk(ax, sx, enter, grid.x0, grid.dx, grid.nx)
    j, jstep, ty, wy = _axis_walk(ay, sy, enter, grid.y0, grid.dy, grid.ny)
    k, kstep, tz, wz = _axis_walk(az, sz, enter, grid.z0, grid.dz, grid.nz)
    total = np.sqrt(sx * sx + sy * sy + sz * sz)
    t = enter
    while True:
        following = min(tx, ty, tz, leave)
        if following > t:
            voxels[used] = (i * grid.ny + j) * grid.nz + k
            lengths[used] = (following - t) * total
            used += 1
            t = following
        if following >= leave:
            return used
        if tx <= ty and tx <= tz:
            i += istep
            tx += wx
            if i < 0 or i >= grid.nx:
                return used
        elif ty <= tz:
            j += jstep
            ty += wy
            if j < 0 or j >= grid.ny:
                return used
        else:
            k += kstep
            tz += wz
            if k < 0 or k >= grid.nz:
                return used
