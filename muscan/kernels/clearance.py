"""Log likelihood ratio, cell by cell, of an object against none."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from muscan.kernels.poca import closest_approach
from muscan.kernels.traversal import walk


@njit(cache=True, nogil=True)
def _look_up(table, first_u, step_u, first_x, step_x, u, x):
    """Bilinear in the logarithms of both; the ends are held."""
    a = (math.log(max(u, 1e-30)) - first_u) / step_u
    b = (math.log(max(x, 1e-30)) - first_x) / step_x
    a = min(max(a, 0.0), table.shape[0] - 1.000001)
    b = min(max(b, 0.0), table.shape[1] - 1.000001)
    i, j = int(a), int(b)
    a -= i
    b -= j
    return (1.0 - a) * ((1.0 - b) * table[i, j] + b * table[i, j + 1]) + a * (
        (1.0 - b) * table[i + 1, j] + b * table[i + 1, j + 1]
    )


@njit(cache=True, nogil=True)
def observe(grid, p, u, p_cov, q, w, q_cov, density, largest, data):
    """Fill what a muon measured: squared angle, its noise, and the scattering of the cargo.

    Parameters
    ----------
    grid : Grid
        Of the cargo.
    p, u, q, w : ndarray, shape (n, 3)
        Point and unit vector of incoming and outgoing tracks [mm].
    p_cov, q_cov : ndarray, shape (n, 4, 4)
        Their covariances [mm, rad].
    density : ndarray, shape (cells,)
        Scattering density of the cargo [rad²/mm at the reference momentum].
    largest : float
        Muons with a larger angle are not used [rad].
    data : ndarray, shape (n, 6)
        Receives squared angle [rad²] (−1 where not used), variance of an angle's projection
        [rad²], scattering of the cargo [rad²], and the point where the path bends [mm].
    """
    room = 2 * (grid.nx + grid.ny + grid.nz)
    path = np.empty(room, np.int64)
    steps = np.empty(room)
    for n in range(p.shape[0]):
        ax, ay, az = np.float64(p[n, 0]), np.float64(p[n, 1]), np.float64(p[n, 2])
        bx, by, bz = np.float64(q[n, 0]), np.float64(q[n, 1]), np.float64(q[n, 2])
        x, y, z, s, t, angle = closest_approach(
            ax, ay, az, u[n, 0], u[n, 1], u[n, 2], bx, by, bz, w[n, 0], w[n, 1], w[n, 2]
        )
        if not (s > 0.0 and t < 0.0):
            x, y, z = 0.5 * (ax + bx), 0.5 * (ay + by), 0.5 * (az + bz)
        used = walk(grid, ax, ay, az, x, y, z, path, steps, 0)
        used = walk(grid, x, y, z, bx, by, bz, path, steps, used)
        total = 0.0
        for m in range(used):
            total += steps[m] * density[path[m]]
        data[n, 0] = angle * angle if angle < largest else -1.0
        data[n, 1] = 0.5 * (p_cov[n, 2, 2] + p_cov[n, 3, 3] + q_cov[n, 2, 2] + q_cov[n, 3, 3])
        data[n, 2] = total
        data[n, 3], data[n, 4], data[n, 5] = x, y, z


@njit(cache=True, nogil=True)
def log_densities(data, scale, table, first_u, step_u, first_x, step_x, out):
    """Fill each muon's log density for the cargo times ``scale``; see `add_ratios`."""
    for n in range(data.shape[0]):
        noise = data[n, 1]
        x = scale * data[n, 2] / noise
        out[n] = 0.0
        if data[n, 0] >= 0.0:
            out[n] = _look_up(table, first_u, step_u, first_x, step_x, data[n, 0] / noise, x)


@njit(cache=True, nogil=True)
def add_ratios(
    grid, p, q, data, scale, object_density, table, first_u, step_u, first_x, step_x, ratio, muons
):
    """Add each muon's log likelihood ratio to the cells that it crosses.

    Parameters
    ----------
    grid : Grid
        Of the cells.
    p, q : ndarray, shape (n, 3)
        Points of the incoming and the outgoing track [mm].
    data : ndarray, shape (n, 6)
        From `observe`.
    scale : float
        Factor on the scattering of the cargo.
    object_density : float
        By which an object adds to the cargo [rad²/mm at the reference momentum].
    table : ndarray
        Log density of squared angle over noise (rows) at a scattering over noise (columns), both in
        even steps of their logarithm, from ``first_u`` and ``first_x`` on.
    ratio : ndarray, shape (cells,)
        Receives the sums.
    muons : ndarray of integer, shape (cells,)
        Receives the number of muons.
    """
    room = 2 * (grid.nx + grid.ny + grid.nz)
    path = np.empty(room, np.int64)
    steps = np.empty(room)
    for n in range(p.shape[0]):
        if data[n, 0] < 0.0:
            continue
        x, y, z = data[n, 3], data[n, 4], data[n, 5]
        used = walk(grid, p[n, 0], p[n, 1], p[n, 2], x, y, z, path, steps, 0)
        used = walk(grid, x, y, z, q[n, 0], q[n, 1], q[n, 2], path, steps, used)
        noise = data[n, 1]
        u, cargo = data[n, 0] / noise, scale * data[n, 2] / noise
        without = _look_up(table, first_u, step_u, first_x, step_x, u, cargo)
        m = 0
        while m < used:
            length, voxel = steps[m], path[m]
            if m + 1 < used and path[m + 1] == voxel:
                m += 1
                length += steps[m]
            added = cargo + object_density * length / noise
            ratio[voxel] += _look_up(table, first_u, step_u, first_x, step_x, u, added) - without
            muons[voxel] += 1
            m += 1
