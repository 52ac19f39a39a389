"""Likelihood of scatters given a volume: paths through voxels, mixture over momenta, gradient.

A muon shows, in each of two planes through its incoming direction, an angle a between the tracks
and an offset b between them at a reference point of its path. For a given momentum both are
normal with the covariance Σ = M + q S (Schultz et al., IEEE TIP 16:1985, 2007):

    S = Σ_v λ_v ∫ (1, T; T, T²) dl,

M from the errors of the tracks, T the distance from a place on the path down to the reference
point, q the scattering power of the momentum. Angles are in mrad, offsets in mrad mm and
scattering densities in mrad²/mm, so that all elements are of a similar size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.paths import project

_LOWEST = 1e-290


class Mixture(NamedTuple):
    """Momentum classes: each muon has a row of scattering powers, and of their weights.

    Attributes
    ----------
    power, weight : (rows, k) float64
    row : (n,) int32
    scale : (n,) float32
        Factor on S: Highland's logarithm of the thickness, and the loss where it is not in the row.
    outlier : float, fraction of muons that scatter once by any angle, or decay
    outlier_angle : float, its rms per plane [mrad]
    """

    power: np.ndarray
    weight: np.ndarray
    row: np.ndarray
    scale: np.ndarray
    outlier: float
    outlier_angle: float


@njit(cache=True, nogil=True, inline="always")
def _decay(x):
    """exp(-x) for x >= 0 to 1e-5 relative, and 0 beyond 80, in a form that vectorises.

    Taylor's series at x / 256, squared eight times.
    """
    y = -x * (1.0 / 256.0)
    e = 1.0 + y * (1.0 + y * (1 / 2 + y * (1 / 6 + y * (1 / 24 + y * (1 / 120 + y * (1 / 720))))))
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e if x < 80.0 else 0.0


# Without Python's check of every division the classes go through vector registers.
@njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
)
def log_density(data, noise, saa, sab, sbb, power, weight, outlier, once_aa, once_bb):
    """Log of the mixture density of one muon, and its derivatives in the elements of S.

    Parameters
    ----------
    data, noise : ndarray, shape (4,) and (6,)
        As in `Observed`.
    saa, sab, sbb : float
        Elements of S at the reference momentum.
    power, weight : ndarray, shape (k,)
        Momentum classes.
    outlier : float
        Fraction of outliers.
    once_aa, once_bb : float
        Elements of S of an outlier.

    Returns
    -------
    value, daa, dab, dbb : float
        The constant (2π)⁻² is left out.
    """
    a1, b1, a2, b2 = (
        np.float64(data[0]),
        np.float64(data[1]),
        np.float64(data[2]),
        np.float64(data[3]),
    )
    n0, n1, n2 = np.float64(noise[0]), np.float64(noise[1]), np.float64(noise[2])
    n3, n4, n5 = np.float64(noise[3]), np.float64(noise[4]), np.float64(noise[5])
    det1 = (n0 + once_aa) * (n2 + once_bb) - n1 * n1
    det2 = (n3 + once_aa) * (n5 + once_bb) - n4 * n4
    far1 = ((n2 + once_bb) * a1 * a1 - 2 * n1 * a1 * b1 + (n0 + once_aa) * b1 * b1) / det1
    far2 = ((n5 + once_bb) * a2 * a2 - 2 * n4 * a2 * b2 + (n3 + once_aa) * b2 * b2) / det2
    total = outlier / math.sqrt(det1 * det2) * math.exp(-0.5 * (far1 + far2)) + _LOWEST
    daa = dab = dbb = 0.0
    for k in range(power.shape[0]):
        q = power[k]
        qaa, qab, qbb = q * saa, q * sab, q * sbb
        vaa, vab, vbb = n0 + qaa, n1 + qab, n2 + qbb
        waa, wab, wbb = n3 + qaa, n4 + qab, n5 + qbb
        v_inverse = 1.0 / (vaa * vbb - vab * vab)
        w_inverse = 1.0 / (waa * wbb - wab * wab)
        # Σ⁻¹ d of each plane; the score in Σ is half of Σ⁻¹ d dᵀ Σ⁻¹ - Σ⁻¹.
        va, vb = (vbb * a1 - vab * b1) * v_inverse, (vaa * b1 - vab * a1) * v_inverse
        wa, wb = (wbb * a2 - wab * b2) * w_inverse, (waa * b2 - wab * a2) * w_inverse
        exponent = 0.5 * (a1 * va + b1 * vb + a2 * wa + b2 * wb)
        part = weight[k] * math.sqrt(v_inverse * w_inverse) * _decay(exponent)
        total += (1.0 - outlier) * part
        part *= q
        daa += part * (va * va - vbb * v_inverse + wa * wa - wbb * w_inverse)
        dab += part * (va * vb + vab * v_inverse + wa * wb + wab * w_inverse)
        dbb += part * (vb * vb - vaa * v_inverse + wb * wb - waa * w_inverse)
    share = (1.0 - outlier) / total
    return math.log(total), 0.5 * share * daa, share * dab, 0.5 * share * dbb


@njit(cache=True, nogil=True)
def _muon(paths, observed, mixture, density, n):
    """Log density of one muon and its derivatives in the sums of its path."""
    saa, sab, sbb = project(paths, density, n)
    scale, row = np.float64(mixture.scale[n]), mixture.row[n]
    fixed = observed.fixed[n]
    # An outlier scatters once, anywhere on the path in the grid.
    once = mixture.outlier_angle * mixture.outlier_angle
    half = np.float64(paths.top[n])
    value, daa, dab, dbb = log_density(
        observed.data[n], observed.noise[n],
        scale * saa + fixed[0], scale * sab + fixed[1], scale * sbb + fixed[2],
        mixture.power[row], mixture.weight[row], mixture.outlier, once, once * half * half / 3.0,
    )  # fmt: skip
    return value, scale * daa, scale * dab, scale * dbb


@njit(cache=True, nogil=True)
def likelihood(paths, observed, mixture, density, first, last, gradient):
    """Return the log likelihood of muons and add its gradient in the scattering densities.

    Parameters
    ----------
    paths : Paths
    observed : Observed
    mixture : Mixture
    density : ndarray, shape (voxels,)
        Scattering densities [mrad²/mm].
    first, last : int
        Range of muons.
    gradient : ndarray, shape (voxels,) float64
        Receives the sum.
    """
    total = 0.0
    for n in range(first, last):
        value, daa, dab, dbb = _muon(paths, observed, mixture, density, n)
        total += value
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            middle = t - 0.5 * length
            gradient[paths.voxel[m]] += length * (
                daa + middle * dab + (middle * middle + length * length / 12.0) * dbb
            )
            t -= length
    return total


@njit(cache=True, nogil=True)
def information(paths, observed, mixture, density, first, last, squares, muons):
    """Add the squared scores of the densities, whose sum is the observed information.

    Parameters
    ----------
    paths, observed, mixture, density, first, last
        As for `likelihood`.
    squares : ndarray, shape (voxels,) float64
        Receives the squares of each muon's derivative of its log likelihood.
    muons : ndarray of integer, shape (voxels,)
        Receives the number of paths.
    """
    for n in range(first, last):
        _, daa, dab, dbb = _muon(paths, observed, mixture, density, n)
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length = np.float64(paths.length[m])
            middle = t - 0.5 * length
            score = length * (daa + middle * dab + (middle * middle + length * length / 12.0) * dbb)
            squares[paths.voxel[m]] += score * score
            muons[paths.voxel[m]] += 1
            t -= length
