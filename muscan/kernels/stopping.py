"""Likelihood of muons coming out of matter or not, and its derivative in every voxel."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit


class Arrivals(NamedTuple):
    """Muons that should come out, and whether they did.

    Attributes
    ----------
    passed : (n,) bool
    chance : (n,) float32
        Probability to be seen again for a muon that is not stopped.
    row : (n,) int32
        Of the table of survival.
    table : (rows, m) float64
        Probability of a muon to get through, at the thicknesses.
    thickness : (m,) float64
        0, then rising by a constant factor [g/cm² of water].
    """

    passed: np.ndarray
    chance: np.ndarray
    row: np.ndarray
    table: np.ndarray
    thickness: np.ndarray


@njit(cache=True, nogil=True)
def _survival(arrivals, n, crossed):
    """Return the probability to get through a thickness, and its derivative."""
    grid = arrivals.thickness
    place = 0
    if crossed >= grid[1]:
        place = 1 + int(math.log(crossed / grid[1]) / math.log(grid[2] / grid[1]))
        place = min(place, grid.shape[0] - 2)
    row = arrivals.row[n]
    low = arrivals.table[row, place]
    slope = (arrivals.table[row, place + 1] - low) / (grid[place + 1] - grid[place])
    return max(low + slope * (crossed - grid[place]), 1e-9), slope


@njit(cache=True, nogil=True)
def log_probability(arrivals, n, crossed):
    """Return the log probability of what a muon did, its derivative and its information.

    Parameters
    ----------
    arrivals : Arrivals
    n : int
        The muon.
    crossed : float
        Matter on its way [g/cm² of water].
    """
    survival, slope = _survival(arrivals, n, crossed)
    chance = np.float64(arrivals.chance[n])
    seen = chance * survival
    lost = max(1.0 - seen, 1e-9)
    information = chance * slope * chance * slope / (seen * lost)
    if arrivals.passed[n]:
        return math.log(seen), slope / survival, information
    return math.log(lost), -chance * slope / lost, information


@njit(cache=True, nogil=True)
def _crossed(paths, density, n):
    total = 0.0
    for m in range(paths.first[n], paths.first[n + 1]):
        total += np.float64(paths.length[m]) * density[paths.voxel[m]]
    return total


@njit(cache=True, nogil=True)
def likelihood(paths, arrivals, density, first, last, parity, step, gradient):
    """Return the log likelihood of muons and add its gradient in the stopping densities.

    Parameters
    ----------
    paths : Paths
        See `muscan.kernels.paths`.
    arrivals : Arrivals
    density : ndarray, shape (voxels,)
        Stopping densities [g/cm² a mm].
    first, last : int
        Range of muons.
    parity, step : int
        Of them those with numbers parity, parity + step, … count.
    gradient : ndarray, shape (voxels,) float64
        Receives the sum.
    """
    total = 0.0
    for n in range(first + (parity - first) % step, last, step):
        value, slope, _ = log_probability(arrivals, n, _crossed(paths, density, n))
        total += value
        if slope == 0.0:
            continue
        for m in range(paths.first[n], paths.first[n + 1]):
            gradient[paths.voxel[m]] += slope * np.float64(paths.length[m])
    return total


@njit(cache=True, nogil=True)
def information(paths, arrivals, density, first, last, squares, muons):
    """Add the Fisher information on every stopping density and the number of paths through it."""
    for n in range(first, last):
        _, _, known = log_probability(arrivals, n, _crossed(paths, density, n))
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            squares[paths.voxel[m]] += known * length * length
            muons[paths.voxel[m]] += 1


@njit(cache=True, nogil=True)
def profile(arrivals, rows, outside, inside, density):
    """Return the log likelihood of one region's density.

    Parameters
    ----------
    arrivals : Arrivals
    rows : ndarray of int, shape (m,)
        Muons through the region.
    outside, inside : ndarray, shape (n,)
        Matter elsewhere on the way [g/cm²], and the length in the region [mm].
    density : float
        Stopping density of the region [g/cm² a mm].
    """
    total = 0.0
    for n in rows:
        value, _, _ = log_probability(arrivals, n, outside[n] + density * inside[n])
        total += value
    return total
