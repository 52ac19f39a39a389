"""Points of closest approach of incoming and outgoing tracks, and sums of them over voxels.

Muons are taken in blocks, and each step is done for a whole block: the compiler turns it into
vector instructions, and what waits for memory waits for many voxels at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.options import KERNEL, PART
from muscan.kernels.path_sums import (
    BLOCK,
    ENDS,
    INNER,
    LANES,
    TABLE,
    add_paths,
    aligned,
    segments,
)

#: Nodes by which a vertex is spread along the track where its place is uncertain: the three-point
#: Gauss-Hermite rule for a unit normal, whose weights are 1, 4 and 1 sixths.
_SPREAD = math.sqrt(3.0)
#: What the sums over vertices are counted in: sixths, and fractions of rad, rad² and rad². Sums of
#: whole numbers do not depend on their order, up to 2^53: some million muons of one voxel.
NUMBER_UNIT, ANGLE_UNIT, ANGLE2_UNIT, NOISE_UNIT = 1 / 6, 2.0**-30, 2.0**-38, 2.0**-48
#: Chord² below which the series for the angle is good to 3e-12 of it.
_SMALL_CHORD2 = 0.04

# Rows of the table of a block of muons: the tracks, sums of their covariances, what follows.
_P, _U, _Q, _W, _P_COV, _Q_COV = 0, 3, 6, 9, 12, 15
_ANGLE, _ANGLE2, _NOISE, _CHORD2, _VERTEX, _ROWS = 18, 19, 20, 21, 22, 25
#: Voxels beyond which it pays to order muons by place: fewer fit into a processor's own cache.
_MANY_VOXELS = 100_000
#: Muons that are ordered together, muons that are taken together where they are not, and places
#: across the grid in x and in y.
_ORDERED, _UNORDERED, _PLACES = 1 << 16, 16 * BLOCK, 32


class Scratch(NamedTuple):
    """Memory for `accumulate`, made once by `scratch`; nothing in it matters afterwards."""

    block: np.ndarray
    voxels: np.ndarray
    corners: np.ndarray
    place: np.ndarray
    order: np.ndarray
    start: np.ndarray
    ends: np.ndarray
    table: np.ndarray
    lanes: np.ndarray


def scratch(muons: int, voxels: int) -> Scratch:
    """Return what `accumulate` needs for so many muons at a time, and so many voxels."""
    together = min(muons, _ORDERED if voxels > _MANY_VOXELS else _UNORDERED)
    return Scratch(
        block=aligned(_ROWS * BLOCK, np.float64),
        voxels=aligned(4 * BLOCK, np.int64),
        corners=np.empty((together, 9)),
        place=np.empty(together, np.int64),
        order=np.empty(together, np.int64),
        start=np.empty(_PLACES**2 + 1, np.int64),
        ends=aligned(ENDS, np.float64),
        table=aligned(TABLE, np.int64),
        lanes=aligned(LANES, np.int64),
    )


@njit(**PART)
def _approach(px, py, pz, ux, uy, uz, qx, qy, qz, wx, wy, wz):
    """Return midpoint, distances along the lines, and the square of the chord of the angle."""
    hx, hy, hz = wx - ux, wy - uy, wz - uz
    chord2 = hx * hx + hy * hy + hz * hz
    # 1 - b² with b = u·w from the chord, which does not cancel at small angles.
    b = 1.0 - 0.5 * chord2
    sine2 = chord2 * (1.0 - 0.25 * chord2)
    rx, ry, rz = qx - px, qy - py, qz - pz
    ru = rx * ux + ry * uy + rz * uz
    rw = rx * wx + ry * wy + rz * wz
    # r·u - b r·w written with r·h, again so that small angles do not cancel.
    rh = rx * hx + ry * hy + rz * hz
    # Parallel: nothing tells where; halfway between the given points is as good as any.
    parallel = sine2 < 1e-24
    safe = 1.0 if parallel else sine2
    s = 0.5 * ru if parallel else (0.5 * chord2 * ru - b * rh) / safe
    t = -0.5 * rw if parallel else (-0.5 * chord2 * ru - rh) / safe
    x = 0.5 * (px + s * ux + qx + t * wx)
    y = 0.5 * (py + s * uy + qy + t * wy)
    z = 0.5 * (pz + s * uz + qz + t * wz)
    return x, y, z, s, t, chord2


@njit(cache=True, nogil=True)
def closest_approach(px, py, pz, ux, uy, uz, qx, qy, qz, wx, wy, wz):
    """Return where two lines come closest.

    Parameters
    ----------
    px, py, pz, qx, qy, qz : float
        A point of each line [mm].
    ux, uy, uz, wx, wy, wz : float
        Their unit vectors.

    Returns
    -------
    x, y, z : float
        Midpoint of the closest approach [mm].
    s, t : float
        Distance of the closest points along each line from its given point [mm].
    angle : float
        Angle between the lines [rad].
    """
    # Files hold single precision, in which the differences would cancel.
    x, y, z, s, t, chord2 = _approach(
        np.float64(px), np.float64(py), np.float64(pz),
        np.float64(ux), np.float64(uy), np.float64(uz),
        np.float64(qx), np.float64(qy), np.float64(qz),
        np.float64(wx), np.float64(wy), np.float64(wz),
    )  # fmt: skip
    return x, y, z, s, t, _angle(chord2)


@njit(**PART)
def _angle(chord2):
    return 2.0 * math.asin(min(1.0, 0.5 * math.sqrt(chord2)))


@njit(**PART)
def _small_angle(chord2):
    """The same by its series, without a call: 2 asin(c / 2) = c + c³/24 + 3 c⁵/640 + …"""
    rest = 5 / 7168 + chord2 * (35 / 294912)
    return math.sqrt(chord2) * (1.0 + chord2 * (1 / 24 + chord2 * (3 / 640 + chord2 * rest)))


@njit(**PART)
def _voxel(grid, x, y, z, nobody):
    """`muscan.kernels.traversal.locate`, with a place of its own for what is outside."""
    i = np.floor((x - grid.x0) / grid.dx)
    j = np.floor((y - grid.y0) / grid.dy)
    k = np.floor((z - grid.z0) / grid.dz)
    inside = (i >= 0.0) & (j >= 0.0) & (k >= 0.0)
    inside &= (i < grid.nx) & (j < grid.ny) & (k < grid.nz)
    return int((i * grid.ny + j) * grid.nz + k) if inside else nobody


@njit(**INNER)
def _read(first, count, p, u, q, w, block):
    """Copy the tracks of a block of muons into rows of double precision."""
    for i in range(count):
        for c in range(3):
            block[(_P + c) * BLOCK + i] = p[first + i, c]
            block[(_U + c) * BLOCK + i] = u[first + i, c]
            block[(_Q + c) * BLOCK + i] = q[first + i, c]
            block[(_W + c) * BLOCK + i] = w[first + i, c]


@njit(**PART)
def _sum_planes(cov, n, block, row, i):
    """Sums over both planes of the variances of offset, offset by angle, and angle."""
    block[row * BLOCK + i] = cov[n, 0, 0] + cov[n, 1, 1]
    block[(row + 1) * BLOCK + i] = cov[n, 0, 2] + cov[n, 1, 3]
    block[(row + 2) * BLOCK + i] = cov[n, 2, 2] + cov[n, 3, 3]


@njit(**KERNEL)
def vertices(grid, p, u, q, w, memory, counts, sums):
    """Add pairs of lines at the voxels of their vertices, without spread or track errors.

    Parameters
    ----------
    grid : Grid
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing lines [mm].
    memory : Scratch
    counts, sums : ndarray, shape (nx * ny * nz + 1,)
        Receive the number of vertices and the sum of their angles [rad]; in the last place, of
        those outside the grid.
    """
    block, voxels = memory.block, memory.voxels
    n, nobody = BLOCK, counts.shape[0] - 1
    for first in range(0, p.shape[0], n):
        count = min(n, p.shape[0] - first)
        _read(first, count, p, u, q, w, block)
        for i in range(count):
            x, y, z, _, _, chord2 = _approach(
                block[i], block[n + i], block[2 * n + i],
                block[3 * n + i], block[4 * n + i], block[5 * n + i],
                block[6 * n + i], block[7 * n + i], block[8 * n + i],
                block[9 * n + i], block[10 * n + i], block[11 * n + i],
            )  # fmt: skip
            block[_ANGLE * n + i] = _small_angle(chord2)
            block[_CHORD2 * n + i] = chord2
            voxels[i] = _voxel(grid, x, y, z, nobody)
        for i in range(count):
            if block[_CHORD2 * n + i] > _SMALL_CHORD2:
                block[_ANGLE * n + i] = _angle(block[_CHORD2 * n + i])
            counts[np.uint64(voxels[i])] += 1.0
            sums[np.uint64(voxels[i])] += block[_ANGLE * n + i]


@njit(**INNER)
def _find(grid, count, block, voxels, nobody):
    """Find vertices, what they count for and where, and the place of the path for the ordering."""
    n = BLOCK
    size = min(grid.dx, grid.dy, grid.dz)
    cx = grid.x0 + 0.5 * grid.nx * grid.dx
    cy = grid.y0 + 0.5 * grid.ny * grid.dy
    cz = grid.z0 + 0.5 * grid.nz * grid.dz
    per_x, per_y = _PLACES / (grid.nx * grid.dx), _PLACES / (grid.ny * grid.dy)
    for i in range(count):
        ax, ay, az = block[i], block[n + i], block[2 * n + i]
        ux, uy, uz = block[3 * n + i], block[4 * n + i], block[5 * n + i]
        bx, by, bz = block[6 * n + i], block[7 * n + i], block[8 * n + i]
        wx, wy, wz = block[9 * n + i], block[10 * n + i], block[11 * n + i]
        x, y, z, s, t, chord2 = _approach(ax, ay, az, ux, uy, uz, bx, by, bz, wx, wy, wz)
        angle = _small_angle(chord2)
        slopes = block[(_P_COV + 2) * n + i], block[(_Q_COV + 2) * n + i]
        block[_ANGLE * n + i] = np.rint(angle / ANGLE_UNIT)
        block[_ANGLE2 * n + i] = np.rint(angle * angle / ANGLE2_UNIT)
        block[_NOISE * n + i] = np.rint(0.5 * (slopes[0] + slopes[1]) / NOISE_UNIT)
        block[_CHORD2 * n + i] = chord2
        # Variance per plane of both tracks' offsets at the vertex.
        blur2 = block[_P_COV * n + i] + s * (2.0 * block[(_P_COV + 1) * n + i] + s * slopes[0])
        blur2 += block[_Q_COV * n + i] + t * (2.0 * block[(_Q_COV + 1) * n + i] + t * slopes[1])
        reach = _SPREAD * math.sqrt(0.5 * max(blur2, 0.0)) / max(angle, 1e-9)
        sharp = reach < 0.5 * size
        before, after = 0.0 if sharp else min(reach, s), 0.0 if sharp else min(reach, -t)
        between = (s > 0.0) & (t < 0.0)
        middle = _voxel(grid, x, y, z, nobody)
        above = _voxel(grid, x - before * ux, y - before * uy, z - before * uz, nobody)
        below = _voxel(grid, x + after * wx, y + after * wy, z + after * wz, nobody)
        voxels[i] = middle if between else nobody
        voxels[n + i] = above if between else nobody
        voxels[2 * n + i] = below if between else nobody
        # Without a vertex between the tracks the path is straight.
        block[_VERTEX * n + i] = x if between else bx
        block[(_VERTEX + 1) * n + i] = y if between else by
        block[(_VERTEX + 2) * n + i] = z if between else bz
        # Where the straight line is nearest to the middle of the grid.
        sx, sy, sz = bx - ax, by - ay, bz - az
        far = (cx - ax) * sx + (cy - ay) * sy + (cz - az) * sz
        share = far / (sx * sx + sy * sy + sz * sz)
        i_x = min(max(int((ax + share * sx - grid.x0) * per_x), 0), _PLACES - 1)
        i_y = min(max(int((ay + share * sy - grid.y0) * per_y), 0), _PLACES - 1)
        voxels[3 * n + i] = i_x * _PLACES + i_y


@njit(**INNER)
def _deposit(count, block, voxels, sums):
    """Add a block's vertices to their voxels."""
    n = BLOCK
    for i in range(count):
        if block[_CHORD2 * n + i] > _SMALL_CHORD2:
            angle = _angle(block[_CHORD2 * n + i])
            block[_ANGLE * n + i] = np.rint(angle / ANGLE_UNIT)
            block[_ANGLE2 * n + i] = np.rint(angle * angle / ANGLE2_UNIT)
        for part in range(3):
            voxel, sixths = np.uint64(voxels[part * n + i]), 4.0 if part == 0 else 1.0
            sums[voxel, 0] += sixths
            sums[voxel, 1] += sixths * block[_ANGLE * n + i]
            sums[voxel, 2] += sixths * block[_ANGLE2 * n + i]
            sums[voxel, 3] += sixths * block[_NOISE * n + i]


@njit(**INNER)
def _order(count, place, start, order):
    """Order muons by place: neighbours then find their voxels in the cache."""
    for i in range(start.shape[0]):
        start[i] = 0
    for i in range(count):
        start[place[i] + 1] += 1
    for i in range(1, start.shape[0]):
        start[i] += start[i - 1]
    for i in range(count):
        order[start[place[i]]] = i
        start[place[i]] += 1


@njit(**KERNEL)
def accumulate(grid, p, u, p_cov, q, w, q_cov, memory, sums, packed):
    """Add scatters to the voxels of their vertices and of their paths.

    The vertex is known to about the tracks' error over the angle along the track; it is spread
    over three points where that exceeds a voxel, within the stretch between the two tracks.

    Parameters
    ----------
    grid : Grid
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing tracks [mm].
    p_cov, q_cov : ndarray, shape (n, 4, 4)
        Their covariances (offsets, angles) [mm, rad].
    memory : Scratch
        For these voxels.
    sums : ndarray, shape (voxels + 1, 4)
        Receives number, angle, angle² and angle error² per plane of the vertices, in
        `NUMBER_UNIT`, `ANGLE_UNIT`, …, each with the sixths that it counts for. The last row is for
        vertices outside the grid.
    packed : ndarray of int64, shape (voxels + 1,)
        Receives lengths and number of the paths (`muscan.kernels.path_sums.unpack`); to be emptied
        after `muscan.kernels.path_sums.MOST_PATHS`.
    """
    block, voxels, corners, ends = memory.block, memory.voxels, memory.corners, memory.ends
    n, nobody = BLOCK, packed.shape[0] - 1
    together = memory.order.shape[0]
    for base in range(0, p.shape[0], together):
        muons = min(together, p.shape[0] - base)
        for first in range(0, muons, n):
            count = min(n, muons - first)
            _read(base + first, count, p, u, q, w, block)
            for i in range(count):
                _sum_planes(p_cov, base + first + i, block, _P_COV, i)
                _sum_planes(q_cov, base + first + i, block, _Q_COV, i)
            _find(grid, count, block, voxels, nobody)
            _deposit(count, block, voxels, sums)
            for i in range(count):
                for c in range(3):
                    corners[first + i, c] = block[(_P + c) * n + i]
                    corners[first + i, 3 + c] = block[(_VERTEX + c) * n + i]
                    corners[first + i, 6 + c] = block[(_Q + c) * n + i]
                memory.place[first + i] = voxels[3 * n + i] if nobody > _MANY_VOXELS else 0
        _order(muons, memory.place, memory.start, memory.order)
        for first in range(0, muons, n):
            count = min(n, muons - first)
            for i in range(count):
                muon = memory.order[first + i]
                for c in range(6):
                    row = 2 * n * c + 2 * i
                    ends[row] = corners[muon, c]
                    ends[row + 1] = corners[muon, c + 3]
            segments(grid, ends, memory.table, 2 * count)
            add_paths(memory.table, 2 * count, memory.lanes, packed)
