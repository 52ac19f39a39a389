"""Angle statistics: for every voxel, the scattering angles of muons that may have bent in it."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def angle_histograms(paths, observed, reach, lowest, width, first, last, histogram):
    """Count muons in every voxel of their path by the logarithm of their angles in both planes.

    A muon counts where its incoming and outgoing lines, both prolonged, are near one another:
    there it may have scattered (Stapleton et al., JINST 9 P11019, 2014).

    Parameters
    ----------
    paths, observed
        See `muscan.kernels.paths`.
    reach : float
        Largest distance between the lines [mm].
    lowest, width : float
        Lower end and width of the bins in ln(angle / mrad); the end bins take what is outside.
    first, last : int
        Range of muons.
    histogram : ndarray of integer, shape (voxels, bins)
        Receives the counts.
    """
    bins = histogram.shape[1]
    for n in range(first, last):
        a1, b1 = np.float64(observed.data[n, 0]), np.float64(observed.data[n, 1])
        a2, b2 = np.float64(observed.data[n, 2]), np.float64(observed.data[n, 3])
        one = int((np.log(max(abs(a1), 1e-9)) - lowest) / width)
        two = int((np.log(max(abs(a2), 1e-9)) - lowest) / width)
        one, two = min(max(one, 0), bins - 1), min(max(two, 0), bins - 1)
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            middle = t - 0.5 * length
            # Offsets are in mrad mm.
            gap1, gap2 = 1e-3 * (b1 - a1 * middle), 1e-3 * (b2 - a2 * middle)
            if gap1 * gap1 + gap2 * gap2 < reach * reach:
                histogram[paths.voxel[m], one] += 1
                histogram[paths.voxel[m], two] += 1
            t -= length
