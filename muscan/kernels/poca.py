"""Points of closest approach of incoming and outgoing tracks, and sums of them over voxels."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from muscan.kernels.traversal import locate, walk

#: Nodes and weights by which a vertex is spread along the track where its place is uncertain:
#: the three-point Gauss-Hermite rule for a unit normal.
_SPREAD = math.sqrt(3.0)
_SIDE_WEIGHT = 1.0 / 6.0


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
    # Files hold single precision, in which the differences below would cancel.
    px, py, pz = np.float64(px), np.float64(py), np.float64(pz)
    ux, uy, uz = np.float64(ux), np.float64(uy), np.float64(uz)
    qx, qy, qz = np.float64(qx), np.float64(qy), np.float64(qz)
    wx, wy, wz = np.float64(wx), np.float64(wy), np.float64(wz)
    hx, hy, hz = wx - ux, wy - uy, wz - uz
    chord2 = hx * hx + hy * hy + hz * hz
    # 1 - b² with b = u·w from the chord, which does not cancel at small angles.
    b = 1.0 - 0.5 * chord2
    sine2 = chord2 * (1.0 - 0.25 * chord2)
    rx, ry, rz = qx - px, qy - py, qz - pz
    ru = rx * ux + ry * uy + rz * uz
    rw = rx * wx + ry * wy + rz * wz
    if sine2 < 1e-24:
        # Parallel: nothing tells where; halfway between the given points is as good as any.
        s, t = 0.5 * ru, -0.5 * rw
    else:
        # r·u - b r·w written with r·h, again so that small angles do not cancel.
        rh = rx * hx + ry * hy + rz * hz
        s = (0.5 * chord2 * ru - b * rh) / sine2
        t = (-0.5 * chord2 * ru - rh) / sine2
    x = 0.5 * (px + s * ux + qx + t * wx)
    y = 0.5 * (py + s * uy + qy + t * wy)
    z = 0.5 * (pz + s * uz + qz + t * wz)
    angle = 2.0 * math.asin(min(1.0, 0.5 * math.sqrt(chord2)))
    return x, y, z, s, t, angle


@njit(cache=True, nogil=True)
def vertices(grid, p, u, q, w, counts, sums):
    """Add pairs of lines at the voxels of their vertices, without spread or track errors.

    Parameters
    ----------
    grid : Grid
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing lines [mm].
    counts, sums : ndarray, shape (nx * ny * nz,)
        Receive the number of vertices and the sum of their angles [rad].
    """
    for n in range(p.shape[0]):
        x, y, z, _, _, angle = closest_approach(
            p[n, 0], p[n, 1], p[n, 2], u[n, 0], u[n, 1], u[n, 2],
            q[n, 0], q[n, 1], q[n, 2], w[n, 0], w[n, 1], w[n, 2],
        )  # fmt: skip
        voxel = locate(grid, x, y, z)
        if voxel >= 0:
            counts[voxel] += 1.0
            sums[voxel] += angle


@njit(cache=True, nogil=True)
def _offset_variance(cov, distance):
    """Variance per plane of a line's offset at a distance from where it is given [mm²]."""
    place = cov[0, 0] + cov[1, 1]
    mixed = cov[0, 2] + cov[1, 3]
    slope = cov[2, 2] + cov[3, 3]
    return 0.5 * (place + 2.0 * distance * mixed + distance * distance * slope)


@njit(cache=True, nogil=True)
def _deposit(grid, sums, weight, x, y, z, angle, noise):
    voxel = locate(grid, x, y, z)
    if voxel >= 0:
        sums[voxel, 0] += weight
        sums[voxel, 1] += weight * angle
        sums[voxel, 2] += weight * angle * angle
        sums[voxel, 3] += weight * noise


@njit(cache=True, nogil=True)
def accumulate(grid, p, u, p_cov, q, w, q_cov, sums, lengths, muons):
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
    sums : ndarray, shape (voxels, 4)
        Receives number, angle [rad], angle² and angle error² per plane of the vertices.
    lengths : ndarray, shape (voxels,)
        Receives the path length [mm].
    muons : ndarray of integer, shape (voxels,)
        Receives the number of paths.
    """
    room = 2 * (grid.nx + grid.ny + grid.nz)
    path = np.empty(room, np.int64)
    steps = np.empty(room)
    size = min(grid.dx, grid.dy, grid.dz)
    for n in range(p.shape[0]):
        ax, ay, az = np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2])
        bx, by, bz = np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2])
        ux, uy, uz = np.float64(u[n, 0]), np.float64(u[n, 1]), np.float64(u[n, 2])
        wx, wy, wz = np.float64(w[n, 0]), np.float64(w[n, 1]), np.float64(w[n, 2])
        x, y, z, s, t, angle = closest_approach(ax, ay, az, ux, uy, uz, bx, by, bz, wx, wy, wz)
        noise = 0.5 * (p_cov[n, 2, 2] + p_cov[n, 3, 3] + q_cov[n, 2, 2] + q_cov[n, 3, 3])
        if s > 0.0 and t < 0.0:
            blur = math.sqrt(_offset_variance(p_cov[n], s) + _offset_variance(q_cov[n], t))
            reach = _SPREAD * blur / max(angle, 1e-9)
            if reach < 0.5 * size:
                _deposit(grid, sums, 1.0, x, y, z, angle, noise)
            else:
                before, after = min(reach, s), min(reach, -t)
                _deposit(grid, sums, 1.0 - 2.0 * _SIDE_WEIGHT, x, y, z, angle, noise)
                _deposit(
                    grid, sums, _SIDE_WEIGHT,
                    x - before * ux, y - before * uy, z - before * uz, angle, noise,
                )  # fmt: skip
                _deposit(
                    grid, sums, _SIDE_WEIGHT,
                    x + after * wx, y + after * wy, z + after * wz, angle, noise,
                )  # fmt: skip
            used = walk(grid, ax, ay, az, x, y, z, path, steps, 0)
            used = walk(grid, x, y, z, bx, by, bz, path, steps, used)
        else:
            used = walk(grid, ax, ay, az, bx, by, bz, path, steps, 0)
        previous = -1
        for m in range(used):
            lengths[path[m]] += steps[m]
            if path[m] != previous:
                muons[path[m]] += 1
            previous = path[m]
