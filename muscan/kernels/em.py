"""Likelihood of scatters given a volume: paths through voxels, mixture over momenta, gradient.

A muon shows, in each of two planes through its incoming direction, an angle a between the tracks
and an offset b between them at a reference point of its path. For a given momentum both are
normal with the covariance Σ = M + q S (Schultz et al., IEEE TIP 16:1985, 2007):

    S = Σ_v λ_v ∫ (1, T; T, T²) dl,

M from the errors of the tracks, T the distance from a place on the path down to the reference
point, q the scattering power of the momentum. That grows along the path as the muon loses
momentum, by 1 + c (u - 1/2) with u the share of the loss so far, so that S becomes S + c S' with
S' = Σ_v λ_v ∫ (u - 1/2) (1, T; T, T²) dl. Angles are in mrad, offsets in mrad mm and scattering
densities in mrad²/mm, so that all elements are of a similar size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.paths import project_tilted

_LOWEST = 1e-290
#: Scattering density times the radiation length [mrad²] at the reference momentum.
_MRAD2_PER_X0 = 25.0


class Mixture(NamedTuple):
    """Momentum classes: each muon has a row of scattering powers, and of their weights.

    Attributes
    ----------
    power, weight, tilt, gain : (rows, k) float64
        ``tilt`` is the slope c of the power along the path, ``gain`` the change of its logarithm
        with the loss [1/GeV].
    row : (n,) int32
    loss : (n,) float32, the loss for which the row holds [GeV]
    scale : (n,) float32, factor on S for what is in neither
    done : (visits,) uint8
        Share of a muon's loss at the middle of each voxel, in 255ths.
    outlier : float, fraction of muons that scatter once by any angle, or decay
    outlier_angle : float, its rms per plane [mrad]
    """

    power: np.ndarray
    weight: np.ndarray
    tilt: np.ndarray
    gain: np.ndarray
    row: np.ndarray
    loss: np.ndarray
    scale: np.ndarray
    done: np.ndarray
    outlier: float
    outlier_angle: float


class Field(NamedTuple):
    """A volume, as the likelihood sees it.

    Attributes
    ----------
    density : (voxels,) float64, scattering density [mrad²/mm]
    rate : (voxels,) float64, momentum lost [GeV/mm]
    rate_slope : (voxels,) float64, its derivative in the density
    """

    density: np.ndarray
    rate: np.ndarray
    rate_slope: np.ndarray


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
def log_density(data, noise, s, t, power, weight, tilt, gain, excess, outlier, once_aa, once_bb):
    """Log of the mixture density of one muon, and its derivatives in the elements of S.

    Parameters
    ----------
    data, noise : ndarray, shape (4,) and (6,)
        As in `Observed`.
    s, t : tuple of 3 float
        Elements aa, ab, bb of S and S' at the reference momentum.
    power, weight, tilt, gain : ndarray, shape (k,)
        Momentum classes, see `Mixture`.
    excess : float
        By how much the loss exceeds that for which they hold [GeV].
    outlier : float
        Fraction of outliers.
    once_aa, once_bb : float
        Elements of S of an outlier.

    Returns
    -------
    value : float
        The constant (2π)⁻² is left out.
    daa, dab, dbb, eaa, eab, ebb : float
        Derivatives in the elements of S and of S'.
    dloss : float
        Derivative in the loss [1/GeV].
    once : float
        Probability that the muon is an outlier.
    """
    saa, sab, sbb = s
    taa, tab, tbb = t
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
    single = outlier / math.sqrt(det1 * det2) * math.exp(-0.5 * (far1 + far2))
    total = single + _LOWEST
    daa = dab = dbb = eaa = eab = ebb = dloss = 0.0
    for k in range(power.shape[0]):
        # exp(gain excess), in a form that vectorises and stays positive.
        root = max(1.0 + 0.125 * gain[k] * excess, 0.5)
        fourth = root * root * root * root
        q, c = power[k] * fourth * fourth, tilt[k]
        caa, cab, cbb = saa + c * taa, sab + c * tab, sbb + c * tbb
        qaa, qab, qbb = q * caa, q * cab, q * cbb
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
        paa = part * (va * va - vbb * v_inverse + wa * wa - wbb * w_inverse)
        pab = part * (va * vb + vab * v_inverse + wa * wb + wab * w_inverse)
        pbb = part * (vb * vb - vaa * v_inverse + wb * wb - waa * w_inverse)
        daa += paa
        dab += pab
        dbb += pbb
        eaa += c * paa
        eab += c * pab
        ebb += c * pbb
        dloss += gain[k] / root * (0.5 * (paa * caa + pbb * cbb) + pab * cab)
    share = (1.0 - outlier) / total
    half = 0.5 * share
    return (
        math.log(total),
        half * daa, share * dab, half * dbb,
        half * eaa, share * eab, half * ebb,
        share * dloss,
        single / total,
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def _highland(thickness):
    """Highland's factor on S for a path in radiation lengths, and its derivative's logarithm."""
    x = min(max(thickness, 1e-3), 1e2)
    root = 13.6 / 15.0 * (1.0 + 0.038 * math.log(x))
    slope = 2.0 * 0.038 / (x * (1.0 + 0.038 * math.log(x))) if x == thickness else 0.0
    return root * root, slope


@njit(cache=True, nogil=True)
def _muon(paths, observed, mixture, field, n):
    """Log density of one muon, its derivatives in what its path sums up, the outlier's share.

    The derivatives are those in the elements of S and S', in the loss, and in the thickness
    [mrad²/mm × mm], all as far as the momentum classes allow them to change.
    """
    saa, sab, sbb, taa, tab, tbb, loss = project_tilted(
        paths, field.density, field.rate, mixture.done, n
    )
    factor, bend = _highland(saa / _MRAD2_PER_X0)
    scale, row = factor * mixture.scale[n], mixture.row[n]
    fixed = observed.fixed[n]
    # An outlier scatters once, anywhere on the path in the grid.
    once = mixture.outlier_angle * mixture.outlier_angle
    half = np.float64(paths.top[n])
    value, daa, dab, dbb, eaa, eab, ebb, dloss, single = log_density(
        observed.data[n], observed.noise[n],
        (scale * saa + fixed[0], scale * sab + fixed[1], scale * sbb + fixed[2]),
        (scale * taa, scale * tab, scale * tbb),
        mixture.power[row], mixture.weight[row], mixture.tilt[row], mixture.gain[row],
        loss - mixture.loss[n], mixture.outlier, once, once * half * half / 3.0,
    )  # fmt: skip
    daa, dab, dbb, eaa, eab, ebb = (
        scale * daa, scale * dab, scale * dbb, scale * eaa, scale * eab, scale * ebb,
    )  # fmt: skip
    # The factor changes with the thickness, and all elements with it.
    whole = daa * saa + dab * sab + dbb * sbb + eaa * taa + eab * tab + ebb * tbb
    slopes = daa + whole * bend / _MRAD2_PER_X0, dab, dbb, eaa, eab, ebb, dloss
    return value, slopes, single


@njit(cache=True, nogil=True, inline="always")
def _slope(slopes, rate_slope, u, length, middle):
    """Derivative of a muon's log density in the density of a voxel, over the length in it."""
    daa, dab, dbb, eaa, eab, ebb, dloss = slopes
    square = middle * middle + length * length / 12.0
    scattered = daa + u * eaa + middle * (dab + u * eab) + square * (dbb + u * ebb)
    return scattered + dloss * rate_slope


@njit(cache=True, nogil=True)
def likelihood(paths, observed, mixture, field, first, last, gradient):
    """Return the log likelihood of muons and add its gradient in the scattering densities.

    Parameters
    ----------
    paths : Paths
    observed : Observed
    mixture : Mixture
    field : Field
        The volume; what a change of density does to losses and thicknesses is in the gradient.
    first, last : int
        Range of muons.
    gradient : ndarray, shape (voxels,) float64
        Receives the sum.
    """
    total = 0.0
    for n in range(first, last):
        value, slopes, _ = _muon(paths, observed, mixture, field, n)
        total += value
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length, voxel = np.float64(paths.length[m]), paths.voxel[m]
            u = np.float64(mixture.done[m]) * (1.0 / 255.0) - 0.5
            gradient[voxel] += length * _slope(
                slopes, field.rate_slope[voxel], u, length, t - 0.5 * length
            )
            t -= length
    return total


@njit(cache=True, nogil=True)
def information(paths, observed, mixture, field, first, last, squares, muons):
    """Add the squared scores of the densities, whose sum is the observed information.

    Parameters
    ----------
    paths, observed, mixture, field, first, last
        As for `likelihood`.
    squares : ndarray, shape (voxels,) float64
        Receives the squares of each muon's derivative of its log likelihood.
    muons : ndarray of integer, shape (voxels,)
        Receives the number of paths.
    """
    for n in range(first, last):
        _, slopes, _ = _muon(paths, observed, mixture, field, n)
        t = np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            length, voxel = np.float64(paths.length[m]), paths.voxel[m]
            u = np.float64(mixture.done[m]) * (1.0 / 255.0) - 0.5
            score = length * _slope(slopes, field.rate_slope[voxel], u, length, t - 0.5 * length)
            squares[voxel] += score * score
            muons[voxel] += 1
            t -= length


@njit(cache=True, nogil=True)
def outliers(paths, observed, mixture, field, first, last, probability):
    """Fill the probability (m,) of muons ``first`` to ``last`` to be outliers, given a volume."""
    for n in range(first, last):
        _, _, probability[n - first] = _muon(paths, observed, mixture, field, n)
