"""Sums over voxels of the lengths and of the number of paths: many paths, several in lockstep.

A path has a kink or none, so one or two straight segments. The walk from face to face is that of
`muscan.kernels.traversal`, in whole numbers: places along a segment are counted in units of a
fraction of a voxel's diagonal. So the sums do not depend on the order of the paths, and length and
number fit into one word a voxel, which is one access to memory where it would be two.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from muscan.kernels.options import KERNEL, PART

#: For kernels that only kernels call: no way in from Python, which would take time to compile.
INNER: Final[dict[str, Any]] = {**KERNEL, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: Low bits of a voxel's word that hold the length; the number of paths is in those above.
_LENGTH_BITS = 46
_ONE = 1 << _LENGTH_BITS
#: Paths after which the words must be emptied (`unpack`), lest a number or a length overflow.
MOST_PATHS = 1 << 17
#: Units in a voxel's diagonal: two diagonals of each of `MOST_PATHS` paths fit the bits.
_UNITS = float(1 << 28)

#: Paths that are prepared together. No power of two: rows of the tables below would else lie in
#: the same places of the cache.
BLOCK = 240
#: Segments that are walked at a time, which hides how long a step waits for the one before, and
#: lets the compiler use vector registers.
_LANES = 8
#: A face that no segment reaches, and the most that lies between two faces.
_FAR = 1 << 60
_WIDE = float(1 << 48)

# Rows of the tables of segments and of lanes. A table is one array, rows of which the compiler
# sees not to overlap: place, end, next faces, widths between faces, steps to the next voxel, voxel.
_T, _END, _NEXT, _WIDTH, _STEP, _VOXEL, _FIELDS = 0, 1, 2, 5, 8, 11, 12
#: Of lanes only: the voxel that was just crossed, what it gets, and the segment's number.
_HERE, _ADDED, _SEGMENT = 12, 13, 14
_N = 2 * BLOCK
#: Size of a table of segments, of their ends, and of the lanes.
TABLE, ENDS, LANES = _FIELDS * _N, 6 * _N, 15 * _LANES


@njit(**PART)
def _unit(grid):
    return math.sqrt(grid.dx**2 + grid.dy**2 + grid.dz**2) / _UNITS


@njit(**PART)
def _within(a, per, low, high, enter, leave):
    """Narrow the part of a segment, as fractions, to a slab."""
    first, second = (low - a) * per, (high - a) * per
    return max(enter, min(first, second)), min(leave, max(first, second))


@njit(**PART)
def _axis(a, s, per, enter, low, size, count):
    """Return first voxel, next face, width and step between faces, and the face out of the grid."""
    index = min(max(int(np.floor((a + enter * s - low) / size)), 0), count - 1)
    up = 1 if s > 0.0 else 0
    following = int(max(min((low + (index + up) * size - a) * per, 1e18), -1e18))
    width = int(min(abs(size * per), _WIDE))
    left = count - 1 - index if s > 0.0 else index
    return index, following, width, 2 * up - 1, following + left * width


@njit(**INNER)
def segments(grid, ends, table, count):
    """Fill the table of segments; those outside the grid end where they start.

    Parameters
    ----------
    grid : Grid
    ends : ndarray, shape (ENDS,)
        x, y and z of the first points of all segments, then of the last points [mm].
    table : ndarray of int64, shape (TABLE,)
    count : int
        How many segments there are, at most 2 `BLOCK`.
    """
    n = _N
    xh, yh = grid.x0 + grid.nx * grid.dx, grid.y0 + grid.ny * grid.dy
    zh = grid.z0 + grid.nz * grid.dz
    scale = 1.0 / _unit(grid)
    for i in range(count):
        ax, ay, az = ends[i], ends[n + i], ends[2 * n + i]
        sx, sy, sz = ends[3 * n + i] - ax, ends[4 * n + i] - ay, ends[5 * n + i] - az
        total = math.sqrt(sx * sx + sy * sy + sz * sz) * scale
        # Across an axis means a little upwards: then no case is special.
        sx = sx if sx != 0.0 else 1e-12
        sy = sy if sy != 0.0 else 1e-12
        sz = sz if sz != 0.0 else 1e-12
        px, py, pz = 1.0 / sx, 1.0 / sy, 1.0 / sz
        enter, leave = _within(ax, px, grid.x0, xh, 0.0, 1.0)
        enter, leave = _within(ay, py, grid.y0, yh, enter, leave)
        enter, leave = _within(az, pz, grid.z0, zh, enter, leave)
        vx, tx, wx, ix, ex = _axis(ax, sx, total * px, enter, grid.x0, grid.dx, grid.nx)
        vy, ty, wy, iy, ey = _axis(ay, sy, total * py, enter, grid.y0, grid.dy, grid.ny)
        vz, tz, wz, iz, ez = _axis(az, sz, total * pz, enter, grid.z0, grid.dz, grid.nz)
        ix, iy = ix * grid.ny * grid.nz, iy * grid.nz
        t = int(enter * total)
        # The end is before any face out of the grid, whatever was rounded; NaN is not valid.
        valid = (enter < leave) and (total < 1e17)
        end = min(min(int(leave * total), ex), min(ey, ez))
        # A face not beyond the start is one that rounding put the start on the wrong side of.
        bx, by, bz = tx <= t, ty <= t, tz <= t
        table[_T * n + i] = t if valid else 0
        table[_END * n + i] = end if valid else 0
        table[_NEXT * n + i] = tx + (wx if bx else 0)
        table[(_NEXT + 1) * n + i] = ty + (wy if by else 0)
        table[(_NEXT + 2) * n + i] = tz + (wz if bz else 0)
        table[_WIDTH * n + i] = wx
        table[(_WIDTH + 1) * n + i] = wy
        table[(_WIDTH + 2) * n + i] = wz
        table[_STEP * n + i] = ix
        table[(_STEP + 1) * n + i] = iy
        table[(_STEP + 2) * n + i] = iz
        voxel = (vx * grid.ny + vy) * grid.nz + vz
        voxel += (ix if bx else 0) + (iy if by else 0) + (iz if bz else 0)
        table[_VOXEL * n + i] = voxel


@njit(**PART)
def _step(lanes):
    """Take every lane to its next face, or to its end."""
    n = _LANES
    for i in range(n):
        tx, ty, tz = lanes[_NEXT * n + i], lanes[(_NEXT + 1) * n + i], lanes[(_NEXT + 2) * n + i]
        following = min(min(tx, ty), min(tz, lanes[_END * n + i]))
        x, y, z = tx == following, ty == following, tz == following
        voxel = lanes[_VOXEL * n + i]
        lanes[_HERE * n + i] = voxel
        lanes[_ADDED * n + i] = _ONE + following - lanes[_T * n + i]
        lanes[_T * n + i] = following
        voxel += lanes[_STEP * n + i] if x else 0
        voxel += lanes[(_STEP + 1) * n + i] if y else 0
        lanes[_VOXEL * n + i] = voxel + (lanes[(_STEP + 2) * n + i] if z else 0)
        lanes[_NEXT * n + i] = tx + (lanes[_WIDTH * n + i] if x else 0)
        lanes[(_NEXT + 1) * n + i] = ty + (lanes[(_WIDTH + 1) * n + i] if y else 0)
        lanes[(_NEXT + 2) * n + i] = tz + (lanes[(_WIDTH + 2) * n + i] if z else 0)


@njit(**PART)
def _rest(lanes, lane, nobody):
    """Let a lane stand still: what it does counts for nobody."""
    for field in range(_FIELDS):
        lanes[field * _LANES + lane] = _FAR if _NEXT <= field < _WIDTH else 0
    lanes[_END * _LANES + lane] = _FAR + 1
    lanes[_VOXEL * _LANES + lane] = nobody


@njit(**INNER)
def add_paths(table, count, lanes, packed):
    """Walk the segments of a table, of which 2 k and 2 k + 1 are one path.

    Parameters
    ----------
    table : ndarray of int64, shape (TABLE,)
        See `segments`.
    count : int
        Twice the number of paths.
    lanes : ndarray of int64, shape (LANES,)
        Scratch.
    packed : ndarray of int64, shape (voxels + 1,)
        Receives lengths and numbers (`unpack`); the last place is for what counts for nobody.
    """
    n, nobody = _N, packed.shape[0] - 1
    for lane in range(_LANES):
        lanes[_T * _LANES + lane] = lanes[_END * _LANES + lane] = 0
        lanes[_SEGMENT * _LANES + lane] = -1
        lanes[_HERE * _LANES + lane] = nobody
    waiting, busy, ended, which = 0, _LANES, 0, 0
    while True:
        # Mostly it is one lane that has ended, and its number is known.
        first, last = (which, which + 1) if ended == 1 else (0, _LANES)
        for lane in range(first, last):
            if lanes[_T * _LANES + lane] != lanes[_END * _LANES + lane]:
                continue
            # The second part of the lane's path, if there is one, else another path.
            k, here = lanes[_SEGMENT * _LANES + lane] + 1, lanes[_HERE * _LANES + lane]
            goes_on = (k & 1) & (table[_T * n + k] < table[_END * n + k])
            # The voxel where the first part ended has counted this path already.
            packed[np.uint64(here)] -= _ONE * (goes_on & (table[_VOXEL * n + k] == here))
            while waiting < count and table[_T * n + waiting] >= table[_END * n + waiting]:
                waiting += 1
            k = k if goes_on else waiting
            waiting = waiting if goes_on else k - (k & 1) + 2
            if k < count:
                for field in range(_FIELDS):
                    lanes[field * _LANES + lane] = table[field * n + k]
                lanes[_SEGMENT * _LANES + lane] = k
            else:
                _rest(lanes, lane, nobody)
                busy -= 1
        if busy == 0:
            return
        ended, which = 0, 0
        while ended == 0:
            _step(lanes)
            for lane in range(_LANES):
                packed[np.uint64(lanes[_HERE * _LANES + lane])] += lanes[_ADDED * _LANES + lane]
            for lane in range(_LANES):
                at_end = lanes[_T * _LANES + lane] == lanes[_END * _LANES + lane]
                ended += 1 if at_end else 0
                which += lane if at_end else 0


@njit(**KERNEL)
def unpack(packed, lengths, muons):
    """Move the sums out of the voxels' words.

    Parameters
    ----------
    packed : ndarray of int64, shape (voxels + 1,)
        Empty afterwards.
    lengths : ndarray of int64, shape (voxels,)
        Receives the lengths of the paths in units of `length_unit`.
    muons : ndarray of uint32, shape (voxels,)
        Receives the number of the paths.
    """
    for voxel in range(lengths.shape[0]):
        lengths[voxel] += packed[voxel] & (_ONE - 1)
        muons[voxel] += np.uint32(np.uint64(packed[voxel]) >> np.uint64(_LENGTH_BITS))
    for voxel in range(packed.shape[0]):
        packed[voxel] = 0


def aligned(size: int, dtype: Any) -> np.ndarray:
    """Return an empty array that begins where a line of the cache does.

    A vector register is as long as such a line: from elsewhere, each load would take two.
    """
    line, each = 64, np.dtype(dtype).itemsize
    room = np.empty(size + line // each, dtype)
    first = -room.ctypes.data % line // each
    return room[first : first + size]


def length_unit(spacing: Any) -> float:
    """Return the length [mm] that counts as one, of voxels of a size [mm]."""
    return float(np.linalg.norm(spacing)) / _UNITS
