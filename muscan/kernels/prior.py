"""Edge-preserving smoothness on a grid: cost, gradient and a bound on its curvature."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Power of the difference with which the cost of an edge grows, where it does: the eighths of a
#: square come by roots, which go through vector registers as powers do not.
GROWTH = 0.75
#: And where it is bounded.
BOUNDED = -1.0


# Without Python's check of every division the pairs go through vector registers.
@njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
)
def _pairs(first, second, bounded, slopes, pulls):
    """Fill derivative and curvature of pairs of neighbours and return Σ power - 1."""
    total = 0.0
    for k in range(len(first)):
        d = first[k] - second[k]
        square = 1.0 + d * d
        root = math.sqrt(square)
        fourth = math.sqrt(root)
        power = 1.0 / root if bounded else fourth * math.sqrt(fourth)
        pull = power / square
        slopes[k], pulls[k] = d * pull, pull
        total += power - 1.0
    return total


@njit(cache=True, nogil=True)
def _spread(first, second, values, sign, sums):
    """Add what was found of pairs to both voxels of each; the ranges may overlap."""
    n = len(values)
    for k in range(n):
        sums[first + k] += values[k]
    for k in range(n):
        sums[second + k] += sign * values[k]


@njit(cache=True, nogil=True)
def edge_cost(values, nx, ny, nz, bounded, gradient, curvature):
    """Return Σ ((1 + d²)^(g/2) - 1) / g over pairs of voxels that share a face.

    Parameters
    ----------
    values : ndarray, shape (nx * ny * nz,)
        In units of the difference that counts as an edge.
    nx, ny, nz : int
        Shape of the grid.
    bounded : bool
        Whether g is `BOUNDED`, else `GROWTH`.
    gradient : ndarray, shape (nx * ny * nz,)
        Receives the derivative.
    curvature : ndarray, shape (nx * ny * nz,) or (0,)
        Receives the curvature of the parabolas that bound the pairs' costs, if there is room.
    """
    cost = 0.0
    room = np.empty((2, ny * nz))
    for i in range(nx):
        plane = i * ny * nz
        # Rows along z, then neighbours along y and along x of the whole plane.
        for j in range(ny):
            first, count = plane + j * nz, nz - 1
            cost += _step(values, first, 1, count, bounded, room, gradient, curvature)
        cost += _step(values, plane, nz, (ny - 1) * nz, bounded, room, gradient, curvature)
        if i + 1 < nx:
            cost += _step(values, plane, ny * nz, ny * nz, bounded, room, gradient, curvature)
    return cost / (BOUNDED if bounded else GROWTH)


@njit(cache=True, nogil=True)
def _step(values, first, step, count, bounded, room, gradient, curvature):
    """Add the pairs of ``count`` voxels from ``first`` on with those a step further."""
    slopes, pulls = room[0, :count], room[1, :count]
    second = first + step
    here, there = values[first : first + count], values[second : second + count]
    cost = _pairs(here, there, bounded, slopes, pulls)
    _spread(first, second, slopes, -1.0, gradient)
    if len(curvature):
        _spread(first, second, pulls, 1.0, curvature)
    return cost
