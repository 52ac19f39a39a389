"""Derivatives of the muons' likelihood in the level of the background, cell by cell."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from muscan.kernels.exponential import exp_minus
from muscan.kernels.region import (
    CLASSES,
    LEAST_DENSITY,
    MRAD2_PER_X0,
    POWERS,
    SAA,
    SAB,
    SBB,
    VECTOR,
    classes,
    crossed,
    highland,
    new_work,
    outlier_density,
)
from muscan.kernels.ways import BINS


@njit(cache=True, nogil=True)
def bin_scores(ways, bins, momenta, cells, factors, first, last, gradient):
    """Return the log likelihood with the bins scaled, and add its derivatives in the factors' logs.

    Losses and Highland's factor are those without the factors.

    Parameters
    ----------
    ways, bins, momenta
        See `muscan.kernels.region`.
    cells : ndarray of int32, shape (n, BINS)
        Which factor holds in each bin.
    factors : ndarray, shape (cells,)
    first, last : int
        Range of muons.
    gradient : ndarray, shape (cells,)
        Receives the sum.
    """
    work, share = new_work(), np.empty(3 * CLASSES)
    scaled, scores = np.empty((BINS, 4)), np.empty(BINS)
    total = 0.0
    for n in range(first, last):
        scale = highland(crossed(bins[n]) / MRAD2_PER_X0)
        for b in range(BINS):
            for j in range(3):
                scaled[b, j] = factors[cells[n, b]] * bins[n, b, j]
            scaled[b, 3] = bins[n, b, 3]
        here = classes(momenta, ways.row[n], scaled, ways.panels[n], scale, 0.5 * BINS, 0.0, work)
        single = outlier_density(ways, n, momenta)
        total += _score(
            ways.data[n], ways.noise[n], momenta.weight[here], work, single, momenta.outlier, share
        )
        _spread(work, scaled, share, scores)
        for b in range(BINS):
            gradient[cells[n, b]] += scale * scores[b]
    return total


@njit(cache=True, nogil=True, **VECTOR)
def _spread(work, scaled, share, scores):
    """Fill the derivatives in the logarithm of what is crossed in each bin."""
    for b in range(BINS):
        aa, ab, bb = scaled[b, 0], scaled[b, 1], scaled[b, 2]
        score = 0.0
        for k in range(CLASSES):
            part = share[k] * aa + share[CLASSES + k] * ab + share[2 * CLASSES + k] * bb
            score += work[POWERS + b * CLASSES + k] * part
        scores[b] = score


@njit(cache=True, nogil=True, **VECTOR)
def _score(data, noise, weight, work, single, outlier, share):
    """Log density of one muon, and its derivatives in each class's elements of S."""
    a1, b1 = np.float64(data[0]), np.float64(data[1])
    a2, b2 = np.float64(data[2]), np.float64(data[3])
    n0, n1, n2 = np.float64(noise[0]), np.float64(noise[1]), np.float64(noise[2])
    n3, n4, n5 = np.float64(noise[3]), np.float64(noise[4]), np.float64(noise[5])
    sum_ = 0.0
    for k in range(CLASSES):
        saa, sab, sbb = work[SAA + k], work[SAB + k], work[SBB + k]
        vaa, vab, vbb = n0 + saa, n1 + sab, n2 + sbb
        waa, wab, wbb = n3 + saa, n4 + sab, n5 + sbb
        v_inverse = 1.0 / (vaa * vbb - vab * vab)
        w_inverse = 1.0 / (waa * wbb - wab * wab)
        va, vb = (vbb * a1 - vab * b1) * v_inverse, (vaa * b1 - vab * a1) * v_inverse
        wa, wb = (wbb * a2 - wab * b2) * w_inverse, (waa * b2 - wab * a2) * w_inverse
        exponent = 0.5 * (a1 * va + b1 * vb + a2 * wa + b2 * wb)
        part = weight[k] * math.sqrt(v_inverse * w_inverse) * exp_minus(exponent)
        sum_ += part
        share[k] = 0.5 * part * (va * va - vbb * v_inverse + wa * wa - wbb * w_inverse)
        share[CLASSES + k] = part * (va * vb + vab * v_inverse + wa * wb + wab * w_inverse)
        share[2 * CLASSES + k] = (
            0.5 * part * (vb * vb - vaa * v_inverse + wb * wb - waa * w_inverse)
        )
    total = (1.0 - outlier) * sum_ + outlier * single + LEAST_DENSITY
    for i in range(3 * CLASSES):
        share[i] *= (1.0 - outlier) / total
    return math.log(total)
