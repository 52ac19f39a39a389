"""Likelihood of one region's density against a background, straight from the muons."""

from __future__ import annotations

import numpy as np
from numba import njit

from muscan.kernels.em import log_density
from muscan.kernels.paths import project


@njit(cache=True, nogil=True)
def region_sums(paths, background, mask, first, last, outside, inside):
    """Fill the elements of S of each muon outside a region, and those of a unit density inside.

    Parameters
    ----------
    paths : Paths
        See `muscan.kernels.em`.
    background : ndarray, shape (voxels,)
        Scattering density around the region [mrad²/mm].
    mask : ndarray of bool, shape (voxels,)
        The region.
    first, last : int
        Range of muons.
    outside, inside : ndarray, shape (n, 3)
        Receive the sums.
    """
    for n in range(first, last):
        outside[n] = 0.0
        inside[n] = 0.0
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            voxel = paths.voxel[m]
            middle = t - 0.5 * length
            second = middle * middle + length * length / 12.0
            if mask[voxel]:
                inside[n, 0] += length
                inside[n, 1] += length * middle
                inside[n, 2] += length * second
            else:
                value = length * background[voxel]
                outside[n, 0] += value
                outside[n, 1] += value * middle
                outside[n, 2] += value * second
            t -= length


@njit(cache=True, nogil=True)
def _once(paths, mixture, n):
    angle2 = mixture.outlier_angle * mixture.outlier_angle
    half = np.float64(paths.top[n])
    return angle2, angle2 * half * half / 3.0


@njit(cache=True, nogil=True)
def profile(paths, observed, mixture, rows, outside, inside, density):
    """Return the log likelihood of a region's density, its derivative and the squared scores.

    Parameters
    ----------
    paths, observed, mixture
        See `muscan.kernels.em`.
    rows : ndarray of int, shape (m,)
        Muons that cross the region.
    outside, inside : ndarray, shape (n, 3)
        From `region_sums`.
    density : float
        Scattering density of the region [mrad²/mm].
    """
    total = slope = squares = 0.0
    for n in rows:
        scale, row = np.float64(mixture.scale[n]), mixture.row[n]
        fixed = observed.fixed[n]
        once_aa, once_bb = _once(paths, mixture, n)
        value, daa, dab, dbb = log_density(
            observed.data[n], observed.noise[n],
            scale * (outside[n, 0] + density * inside[n, 0]) + fixed[0],
            scale * (outside[n, 1] + density * inside[n, 1]) + fixed[1],
            scale * (outside[n, 2] + density * inside[n, 2]) + fixed[2],
            mixture.power[row], mixture.weight[row], mixture.outlier, once_aa, once_bb,
        )  # fmt: skip
        score = scale * (daa * inside[n, 0] + dab * inside[n, 1] + dbb * inside[n, 2])
        total += value
        slope += score
        squares += score * score
    return total, slope, squares


@njit(cache=True, nogil=True)
def block_ratios(paths, observed, mixture, background, block, increase, first, last, ratios):
    """Add, for every block of voxels, the log likelihood ratio of a higher density in it.

    The blocks divide the grid, so one pass over the paths tests all of them, each against the
    background everywhere else.

    Parameters
    ----------
    paths, observed, mixture
        See `muscan.kernels.em`.
    background : ndarray, shape (voxels,)
        Scattering density [mrad²/mm].
    block : ndarray of int32, shape (voxels,)
        The block of each voxel, or -1.
    increase : float
        What is added in the block under test [mrad²/mm].
    first, last : int
        Range of muons.
    ratios : ndarray, shape (blocks,)
        Receives the sums over the muons.
    """
    for n in range(first, last):
        saa, sab, sbb = project(paths, background, n)
        scale, row = np.float64(mixture.scale[n]), mixture.row[n]
        fixed = observed.fixed[n]
        once_aa, once_bb = _once(paths, mixture, n)
        saa, sab, sbb = scale * saa + fixed[0], scale * sab + fixed[1], scale * sbb + fixed[2]
        data, noise = observed.data[n], observed.noise[n]
        power, weight, outlier = mixture.power[row], mixture.weight[row], mixture.outlier
        base, _, _, _ = log_density(
            data, noise, saa, sab, sbb, power, weight, outlier, once_aa, once_bb
        )
        t = np.float64(paths.top[n])
        waa = wab = wbb = 0.0
        stop = paths.first[n + 1]
        for m in range(paths.first[n], stop):
            length = np.float64(paths.length[m])
            middle = t - 0.5 * length
            waa += length
            wab += length * middle
            wbb += length * (middle * middle + length * length / 12.0)
            t -= length
            here = block[paths.voxel[m]]
            if m + 1 < stop and block[paths.voxel[m + 1]] == here:
                continue
            if here >= 0:
                extra = scale * increase
                value, _, _, _ = log_density(
                    data, noise, saa + extra * waa, sab + extra * wab, sbb + extra * wbb,
                    power, weight, outlier, once_aa, once_bb,
                )  # fmt: skip
                ratios[here] += value - base
            waa = wab = wbb = 0.0
