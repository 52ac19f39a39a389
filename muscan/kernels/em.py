"""Likelihood of scatters given a volume: paths through voxels, mixture over momenta, gradient.

A muon shows, in each of two planes through its incoming direction, an angle a between the tracks
and an offset b between them at a reference point of its path. For a given momentum both are
normal with the covariance Σ = M + q S (Schultz et al., IEEE TIP 16:1985, 2007):

    S = Σ_v λ_v ∫ (1, T; T, T²) dl,

M from the errors of the tracks, T the distance from a place on the path down to the reference
point, q the scattering power of the momentum. That grows along the path as the muon loses
momentum, by 1 + c (u - 1/2) with u the share of the loss so far, so that S becomes S + c S' with
S' = Σ_v λ_v ∫ (u - 1/2) (1, T; T, T²) dl. Angles are in mrad, offsets in mrad mm and
scattering densities in mrad²/mm, so that all elements are of a similar size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.exponential import exp_minus
from muscan.kernels.lookup import octaves
from muscan.kernels.options import KERNEL

_LOWEST = 1e-290
#: Visits that are summed, and muons that are taken, at a time.
BLOCK, BATCH = 16, 16
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
    done: np.ndarray
    outlier: float
    outlier_angle: float


class Batch(NamedTuple):
    """The visits of a few muons, so laid out that sums over them go through vector registers.

    Muons are taken together, step by step, so that memory is asked for one while another waits.
    Those of the visits are (room,) float32; each muon begins at a multiple of `BLOCK`, and the
    length is zero beyond its last visit.

    Attributes
    ----------
    start : (BATCH + 1,) int64, where each muon's visits begin
    length : path in the voxel [mm]
    middle : distance T at its middle [mm]
    share : share of the loss so far, less one half
    density : scattering density [mrad²/mm]
    slope : derivative of the momentum lost in the density
    score : derivative of the muon's log density in the density
    loss : (BATCH,) float64, momentum lost on the path [GeV]
    value : (BATCH,) float64, log density of the muon
    sums : (BATCH, 6) float64, elements of S and S' of the path
    slopes : (BATCH, 7) float32
        Its derivatives in S, in S', all with the thickness, and in the loss.
    single : (BATCH,) float64, probability to be an outlier
    """

    start: np.ndarray
    length: np.ndarray
    middle: np.ndarray
    share: np.ndarray
    density: np.ndarray
    slope: np.ndarray
    score: np.ndarray
    loss: np.ndarray
    value: np.ndarray
    sums: np.ndarray
    slopes: np.ndarray
    single: np.ndarray


@njit(**KERNEL)
def fill_field(density, unit, per_octave, lines, field):
    """Fill a volume as `likelihood` wants it, with the momentum lost by straight lines.

    Parameters
    ----------
    density : ndarray, shape (voxels,) float32
        Scattering density [mrad²/mm].
    unit : float
        Density at which the second line begins.
    per_octave : int
        Lines in each octave from there on, evenly spaced.
    lines : ndarray, shape (lines, 2)
        Momentum lost at no density [GeV/mm], and its slope. The first line is for all below the
        second, the last for all beyond.
    field : ndarray, shape (voxels, 4) float32
        To be filled.
    """
    last = len(lines) - 1.0
    for v in range(len(density)):
        x = np.float64(density[v])
        i = np.uint64(min(max(octaves(x / unit) * per_octave + 1.0, 0.0), last))
        field[v, 0] = density[v]
        field[v, 1] = lines[i, 0] + lines[i, 1] * x
        field[v, 2] = lines[i, 1]
        field[v, 3] = 0.0


@njit(cache=True, nogil=True, inline="always")
def _highland(thickness):
    """Highland's factor on S for a path in radiation lengths, and its derivative's logarithm."""
    x = min(max(thickness, 1e-3), 1e2)
    root = 13.6 / 15.0 * (1.0 + 0.038 * math.log(x))
    slope = 2.0 * 0.038 / (x * (1.0 + 0.038 * math.log(x))) if x == thickness else 0.0
    return root * root, slope


@njit(cache=True, nogil=True)
def _room(paths, first, last):
    """Return room for any few of some muons."""
    most = 0
    for n in range(first, last):
        most = max(most, paths.first[n + 1] - paths.first[n])
    room = (most // BLOCK + 1) * BLOCK * BATCH
    columns = np.zeros((6, room), np.float32)
    return Batch(
        np.zeros(BATCH + 1, np.int64),
        columns[0], columns[1], columns[2], columns[3], columns[4], columns[5],
        np.zeros(BATCH), np.zeros(BATCH), np.zeros((BATCH, 6)), np.zeros((BATCH, 7), np.float32),
        np.zeros(BATCH),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _gather(paths, done, field, first, last, batch):
    """Fill the visits of a few muons, and the momentum that they lose."""
    i = np.uint64(0)
    one = np.uint64(1)
    for n in range(first, last):
        batch.start[n - first] = i
        loss, t = 0.0, np.float64(paths.top[n])
        for m in range(paths.first[n], paths.first[n + 1]):
            voxel, length = np.uint64(paths.voxel[m]), np.float64(paths.length[m])
            batch.length[i] = paths.length[m]
            batch.middle[i] = t - 0.5 * length
            batch.share[i] = np.float32(done[m]) * np.float32(1 / 255) - np.float32(0.5)
            batch.density[i] = field[voxel, 0]
            batch.slope[i] = field[voxel, 2]
            loss += length * field[voxel, 1]
            t -= length
            i += one
        while i % np.uint64(BLOCK):
            batch.length[i] = 0.0
            i += one
        batch.loss[n - first] = loss
    batch.start[last - first] = i


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sum(batch, count):
    """Fill the elements of S and S' of the paths."""
    for k in range(count):
        saa = sab = sbb = taa = tab = tbb = np.float32(0.0)
        for i in range(batch.start[k], batch.start[k + 1]):
            length, middle = batch.length[i], batch.middle[i]
            value, u = batch.density[i] * length, batch.share[i]
            lever = value * middle
            square = value * (middle * middle + length * length * np.float32(1 / 12))
            saa += value
            sab += lever
            sbb += square
            taa += u * value
            tab += u * lever
            tbb += u * square
        batch.sums[k, 0], batch.sums[k, 1], batch.sums[k, 2] = saa, sab, sbb
        batch.sums[k, 3], batch.sums[k, 4], batch.sums[k, 5] = taa, tab, tbb


# Without Python's check of every division the classes go through vector registers.
@njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
)
def _judge(paths, observed, mixture, first, count, batch):
    """Find the log densities of a few muons, and their derivatives in what their paths sum up.

    The constant (2π)⁻² is left out. The derivatives are taken as far as the momentum classes
    allow S, S' and the loss to change.
    """
    data, noise, fixed = observed
    power, weight, tilt, gain = mixture.power, mixture.weight, mixture.tilt, mixture.gain
    once, outlier = mixture.outlier_angle * mixture.outlier_angle, mixture.outlier
    for i in range(count):
        n = first + i
        row = mixture.row[n]
        excess = batch.loss[i] - mixture.loss[n]
        paa, pab, pbb = batch.sums[i, 0], batch.sums[i, 1], batch.sums[i, 2]
        raa, rab, rbb = batch.sums[i, 3], batch.sums[i, 4], batch.sums[i, 5]
        # What is known around the grid counts in the thickness as what is crossed in it does.
        paa, pab, pbb = paa + fixed[n, 0], pab + fixed[n, 1], pbb + fixed[n, 2]
        scale, bend = _highland(paa / _MRAD2_PER_X0)
        saa, sab, sbb = scale * paa, scale * pab, scale * pbb
        taa, tab, tbb = scale * raa, scale * rab, scale * rbb
        a1, b1 = np.float64(data[n, 0]), np.float64(data[n, 1])
        a2, b2 = np.float64(data[n, 2]), np.float64(data[n, 3])
        n0, n1, n2 = np.float64(noise[n, 0]), np.float64(noise[n, 1]), np.float64(noise[n, 2])
        n3, n4, n5 = np.float64(noise[n, 3]), np.float64(noise[n, 4]), np.float64(noise[n, 5])
        # An outlier scatters once, anywhere on the path in the grid.
        half = np.float64(paths.top[n])
        once_bb = once * half * half / 3.0
        det1 = (n0 + once) * (n2 + once_bb) - n1 * n1
        det2 = (n3 + once) * (n5 + once_bb) - n4 * n4
        far1 = ((n2 + once_bb) * a1 * a1 - 2 * n1 * a1 * b1 + (n0 + once) * b1 * b1) / det1
        far2 = ((n5 + once_bb) * a2 * a2 - 2 * n4 * a2 * b2 + (n3 + once) * b2 * b2) / det2
        single = outlier / math.sqrt(det1 * det2) * math.exp(-0.5 * (far1 + far2))
        total = daa = dab = dbb = eaa = eab = ebb = dloss = 0.0
        for k in range(power.shape[1]):
            # exp(gain excess), in a form that vectorises and stays positive.
            g = gain[row, k]
            root = max(1.0 + 0.125 * g * excess, 0.5)
            fourth = root * root * root * root
            q, c = power[row, k] * fourth * fourth, tilt[row, k]
            caa, cab, cbb = saa + c * taa, sab + c * tab, sbb + c * tbb
            vaa, vab, vbb = n0 + q * caa, n1 + q * cab, n2 + q * cbb
            waa, wab, wbb = n3 + q * caa, n4 + q * cab, n5 + q * cbb
            v_det, w_det = vaa * vbb - vab * vab, waa * wbb - wab * wab
            v_inverse, w_inverse = 1.0 / v_det, 1.0 / w_det
            # Σ⁻¹ d of each plane; the score in Σ is half of Σ⁻¹ d dᵀ Σ⁻¹ - Σ⁻¹.
            va, vb = (vbb * a1 - vab * b1) * v_inverse, (vaa * b1 - vab * a1) * v_inverse
            wa, wb = (wbb * a2 - wab * b2) * w_inverse, (waa * b2 - wab * a2) * w_inverse
            exponent = 0.5 * (a1 * va + b1 * vb + a2 * wa + b2 * wb)
            part = weight[row, k] * math.sqrt(v_inverse * w_inverse) * exp_minus(exponent)
            total += part
            part *= q
            xaa = part * (va * va - vbb * v_inverse + wa * wa - wbb * w_inverse)
            xab = part * (va * vb + vab * v_inverse + wa * wb + wab * w_inverse)
            xbb = part * (vb * vb - vaa * v_inverse + wb * wb - waa * w_inverse)
            daa += xaa
            dab += xab
            dbb += xbb
            eaa += c * xaa
            eab += c * xab
            ebb += c * xbb
            dloss += g / root * (0.5 * (xaa * caa + xbb * cbb) + xab * cab)
        total = (1.0 - outlier) * total + single + _LOWEST
        share = (1.0 - outlier) / total
        full, half = scale * share, 0.5 * scale * share
        daa, dab, dbb = half * daa, full * dab, half * dbb
        eaa, eab, ebb = half * eaa, full * eab, half * ebb
        # Highland's factor changes with the thickness, and all elements with it.
        whole = daa * paa + dab * pab + dbb * pbb + eaa * raa + eab * rab + ebb * rbb
        slopes = batch.slopes
        slopes[i, 0] = daa + whole * bend / _MRAD2_PER_X0
        slopes[i, 1], slopes[i, 2] = dab, dbb
        slopes[i, 3], slopes[i, 4], slopes[i, 5] = eaa, eab, ebb
        slopes[i, 6] = share * dloss
        batch.value[i], batch.single[i] = math.log(total), single / total


@njit(cache=True, nogil=True)
def _take(paths, observed, mixture, field, first, last, batch):
    """Find the log densities of a few muons, and their derivatives."""
    _gather(paths, mixture.done, field, first, last, batch)
    _sum(batch, last - first)
    _judge(paths, observed, mixture, first, last - first, batch)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _score(batch, count):
    """Fill the derivatives of muons' log densities in the densities of their voxels."""
    slopes = batch.slopes
    for k in range(count):
        daa, dab, dbb = slopes[k, 0], slopes[k, 1], slopes[k, 2]
        eaa, eab, ebb, dloss = slopes[k, 3], slopes[k, 4], slopes[k, 5], slopes[k, 6]
        for i in range(batch.start[k], batch.start[k + 1]):
            length, middle, u = batch.length[i], batch.middle[i], batch.share[i]
            square = middle * middle + length * length * np.float32(1 / 12)
            scattered = daa + u * eaa + middle * (dab + u * eab) + square * (dbb + u * ebb)
            batch.score[i] = length * (scattered + dloss * batch.slope[i])


@njit(cache=True, nogil=True)
def likelihood(paths, observed, mixture, field, first, last, gradient):
    """Return the log likelihood of muons and add its gradient in the scattering densities.

    Parameters
    ----------
    paths : Paths
    observed : Observed
    mixture : Mixture
    field : ndarray, shape (voxels, 4) float32
        The volume: scattering density [mrad²/mm], momentum lost [GeV/mm], the derivative of that
        in the density, nothing. What a change of density does to losses and thicknesses is in
        the gradient.
    first, last : int
        Range of muons.
    gradient : ndarray, shape (voxels,) float64
        Receives the sum.
    """
    total = 0.0
    batch = _room(paths, first, last)
    for begin in range(first, last, BATCH):
        end = min(begin + BATCH, last)
        _take(paths, observed, mixture, field, begin, end, batch)
        _score(batch, end - begin)
        for n in range(begin, end):
            total += batch.value[n - begin]
            shift = batch.start[n - begin] - paths.first[n]
            for m in range(paths.first[n], paths.first[n + 1]):
                gradient[np.uint64(paths.voxel[m])] += batch.score[np.uint64(m + shift)]
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
    batch = _room(paths, first, last)
    for begin in range(first, last, BATCH):
        end = min(begin + BATCH, last)
        _take(paths, observed, mixture, field, begin, end, batch)
        _score(batch, end - begin)
        for n in range(begin, end):
            shift = batch.start[n - begin] - paths.first[n]
            for m in range(paths.first[n], paths.first[n + 1]):
                score = np.float64(batch.score[m + shift])
                squares[paths.voxel[m]] += score * score
                muons[paths.voxel[m]] += 1


@njit(cache=True, nogil=True)
def each(paths, observed, mixture, field, first, last, logs, outliers):
    """Fill the log densities (m,) of muons, and their probabilities (m,) to be outliers.

    Parameters
    ----------
    paths, observed, mixture, field, first, last
        As for `likelihood`.
    logs, outliers : ndarray, shape (last - first,)
    """
    batch = _room(paths, first, last)
    for begin in range(first, last, BATCH):
        end = min(begin + BATCH, last)
        _take(paths, observed, mixture, field, begin, end, batch)
        for n in range(begin, end):
            logs[n - first] = batch.value[n - begin]
            outliers[n - first] = batch.single[n - begin]
