"""Likelihood of a box against what is around it, straight from the muons.

A momentum p stands for a reach u(p), what matter the muon could still cross, in units of the
momentum lost at the minimum of ionisation: so the reach at any depth is the first one less what
was crossed, and slow muons lose more (`reach_of`). The scattering power in a bin of the path
(`muscan.kernels.ways`) is the geometric mean of those at its two ends: for β near 1 the mean of
1/p² between two momenta is one over their product. Angles are in mrad, offsets in mrad mm and
scattering densities in mrad²/mm.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from muscan.kernels.exponential import exp_minus
from muscan.kernels.ways import BINS

_LOWEST = 1e-290
_MASS2 = 0.1056583755**2
_REFERENCE2 = 9.0
#: Width of the angles of wrongly paired tracks over that of single scatters.
_WRONG = 6.0
#: Scale of the reach [GeV]: a muon of 0.42 GeV just crosses 132 g/cm² of water (PDG, muon ranges).
REACH = 0.25


class Momenta(NamedTuple):
    """Momenta of the classes.

    Attributes
    ----------
    reach : (rows, k) float64
        Reach of the incoming momentum; for each kind of muon one row a loss [GeV].
    weight : (rows, k) float64
    steps : int
        Rows a kind of muon: the losses are 0 and ``first`` times powers of ``ratio``.
    first, ratio : float
    lowest : float
        Reach below which a muon is not tracked [GeV].
    outlier, outlier_angle : float
        Fraction of muons that scatter once by any angle, and their rms angle per plane [mrad].
    """

    reach: np.ndarray
    weight: np.ndarray
    steps: int
    first: float
    ratio: float
    lowest: float
    outlier: float
    outlier_angle: float


@njit(cache=True, nogil=True)
def reach_of(p):
    """Reach [GeV] of momenta [GeV]: p²/(p + a).

    Close to ∫ β^(8/3) dp, for losses a length that go as 1/β^(5/3) below the minimum of ionisation.
    """
    return p * p / (p + REACH)


@njit(cache=True, nogil=True, inline="always")
def _power(reach):
    """Scattering power (p0/βp)² of a reach."""
    p = 0.5 * (reach + math.sqrt(reach * (reach + 4.0 * REACH)))
    square = p * p
    return _REFERENCE2 * (square + _MASS2) / (square * square)


@njit(cache=True, nogil=True, inline="always")
def highland(thickness):
    """Highland's over Rossi's scattering variance for a path in radiation lengths."""
    factor = 13.6 / 15.0 * (1.0 + 0.038 * math.log(min(max(thickness, 1e-3), 1e2)))
    return factor * factor


@njit(cache=True, nogil=True, inline="always")
def _row_of(momenta, loss):
    """Row of a loss in a momentum table, and the share of the next one."""
    if loss < momenta.first:
        return 0, max(loss, 0.0) / momenta.first
    place = 1.0 + math.log(loss / momenta.first) / math.log(momenta.ratio)
    place = min(place, momenta.steps - 1.000001)
    return int(place), place - int(place)


@njit(cache=True, nogil=True, error_model="numpy")
def classes(momenta, row, bins, panels, scale, split, extra, s, incoming, after, powers):
    """Fill each class's elements of S without the box, and its momentum at the box.

    Parameters
    ----------
    momenta : Momenta
    row : int
        First row of the muon.
    bins : ndarray, shape (BINS, 4)
    panels : ndarray, shape (2, 3)
    scale : float
        Highland's factor for the whole path.
    split : float
        Depth of the box in bins.
    extra : float
        What the box takes more than what it replaced [GeV].
    s : ndarray, shape (3, k)
        Receives S.
    incoming : ndarray, shape (k,)
        Receives the incoming reaches.
    after : ndarray, shape (k,)
        Receives the scattering powers in the box.
    powers : ndarray, shape (BINS, k)
        Receives those in the bins.

    Returns
    -------
    int
        Row of the table that was used, for the weights.
    """
    total = extra
    for b in range(BINS):
        total += bins[b, 3]
    step, part = _row_of(momenta, total)
    here = row + step
    count = momenta.reach.shape[1]
    lowest = momenta.lowest
    b_box = min(max(int(split), 0), BINS - 1)
    before_box = (split - b_box) * bins[b_box, 3]
    for b in range(b_box):
        before_box += bins[b, 3]
    for k in range(count):
        p = (1.0 - part) * momenta.reach[here, k] + part * momenta.reach[here + 1, k]
        incoming[k] = p
        q = _power(max(p, lowest))
        s[0, k] = q * panels[0, 0]
        s[1, k] = q * panels[0, 1]
        s[2, k] = q * panels[0, 2]
        entering = _power(max(p - before_box, lowest))
        leaving = _power(max(p - before_box - extra, lowest))
        after[k] = math.sqrt(entering * leaving)
    lost = 0.0
    for b in range(BINS):
        start = lost
        lost += bins[b, 3]
        if b == b_box:
            lost += extra
        saa, sab, sbb = scale * bins[b, 0], scale * bins[b, 1], scale * bins[b, 2]
        for k in range(count):
            one = _power(max(incoming[k] - start, lowest))
            two = _power(max(incoming[k] - lost, lowest))
            q = math.sqrt(one * two)
            powers[b, k] = q
            s[0, k] += q * saa
            s[1, k] += q * sab
            s[2, k] += q * sbb
    for k in range(count):
        q = _power(max(incoming[k] - lost, lowest))
        s[0, k] += q * panels[1, 0]
        s[1, k] += q * panels[1, 1]
        s[2, k] += q * panels[1, 2]
    return here


@njit(cache=True, nogil=True, error_model="numpy")
def box_power(momenta, bins, split, incoming, powers):
    """Fill the scattering powers of the classes at a depth, given in bins."""
    here = min(max(int(split), 0), BINS - 1)
    lost = (split - here) * bins[here, 3]
    for b in range(here):
        lost += bins[b, 3]
    for k in range(incoming.shape[0]):
        powers[k] = _power(max(incoming[k] - lost, momenta.lowest))


@njit(cache=True, nogil=True)
def outlier_density(ways, n, momenta):
    """Density of one muon as an outlier: a single scatter, or two tracks that are not one muon's.

    Both are normal in angle with an even place along the path; the latter, one in five, are
    `_WRONG` times as wide.
    """
    data, noise = ways.data[n], ways.noise[n]
    half = 0.5 * ways.along[n, 1]
    total = 0.0
    for kind in range(2):
        once = momenta.outlier_angle * momenta.outlier_angle * (1.0 if kind == 0 else _WRONG**2)
        once_bb = once * half * half / 3.0
        exponent, volume = 0.0, 1.0
        for plane in range(2):
            a, b = np.float64(data[2 * plane]), np.float64(data[2 * plane + 1])
            aa, ab, bb = noise[3 * plane] + once, noise[3 * plane + 1], noise[3 * plane + 2]
            bb += once_bb
            det = aa * bb - ab * ab
            exponent += 0.5 * (bb * a * a - 2 * ab * a * b + aa * b * b) / det
            volume *= det
        share = 0.8 if kind == 0 else 0.2
        total += share * math.exp(-exponent) / math.sqrt(volume)
    return total


@njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz", "arcp"},
)
def mixture_log_density(data, noise, weight, s, after, aa, ab, bb, single, outlier):
    """Log of the mixture density of one muon, with (2π)⁻² left out.

    Parameters
    ----------
    data, noise : ndarray, shape (4,) and (6,)
        As in `Ways`.
    weight : ndarray, shape (k,)
        Of the classes.
    s, after : ndarray, shape (3, k) and (k,)
        From `classes`.
    aa, ab, bb : float
        Elements of S of the box: those of class k are ``s[:, k] + after[k] (aa, ab, bb)``.
    single, outlier : float
        Density of an outlier, from `outlier_density`, and the fraction of outliers.
    """
    a1, b1, a2, b2 = (
        np.float64(data[0]),
        np.float64(data[1]),
        np.float64(data[2]),
        np.float64(data[3]),
    )
    n0, n1, n2 = np.float64(noise[0]), np.float64(noise[1]), np.float64(noise[2])
    n3, n4, n5 = np.float64(noise[3]), np.float64(noise[4]), np.float64(noise[5])
    total = 0.0
    for k in range(weight.shape[0]):
        q = after[k]
        qaa, qab, qbb = s[0, k] + q * aa, s[1, k] + q * ab, s[2, k] + q * bb
        vaa, vab, vbb = n0 + qaa, n1 + qab, n2 + qbb
        waa, wab, wbb = n3 + qaa, n4 + qab, n5 + qbb
        v_inverse = 1.0 / (vaa * vbb - vab * vab)
        w_inverse = 1.0 / (waa * wbb - wab * wab)
        exponent = 0.5 * v_inverse * (vbb * a1 * a1 - 2.0 * vab * a1 * b1 + vaa * b1 * b1)
        exponent += 0.5 * w_inverse * (wbb * a2 * a2 - 2.0 * wab * a2 * b2 + waa * b2 * b2)
        total += weight[k] * math.sqrt(v_inverse * w_inverse) * exp_minus(exponent)
    return math.log((1.0 - outlier) * total + outlier * single + _LOWEST)


@njit(cache=True, nogil=True)
def base_densities(ways, bins, momenta, rows, values):
    """Fill the log densities of muons in what their bins hold, without any box."""
    k = momenta.reach.shape[1]
    s, incoming, after = np.empty((3, k)), np.empty(k), np.empty(k)
    powers = np.empty((BINS, k))
    for n in rows:
        thickness = 0.0
        for b in range(BINS):
            thickness += bins[n, b, 0]
        here = classes(
            momenta, ways.row[n], bins[n], ways.panels[n], highland(thickness / 25.0),
            0.5 * BINS, 0.0, s, incoming, after, powers,
        )  # fmt: skip
        values[n] = mixture_log_density(
            ways.data[n], ways.noise[n], momenta.weight[here], s, after,
            0.0, 0.0, 0.0, outlier_density(ways, n, momenta), momenta.outlier,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def region_density(ways, bins, momenta, rows, moments, increase, extra):
    """Return the log likelihood of muons with a higher density in a region.

    Parameters
    ----------
    ways, bins, momenta
        See `muscan.kernels.ways`.
    rows : ndarray of int, shape (m,)
        Muons.
    moments : ndarray, shape (m, 4)
        From `crossings`.
    increase : float
        Density above the background's [mrad²/mm].
    extra : float
        Loss above the background's [GeV/mm].
    """
    k = momenta.reach.shape[1]
    s, incoming, after = np.empty((3, k)), np.empty(k), np.empty(k)
    powers = np.empty((BINS, k))
    total = 0.0
    for i in range(rows.shape[0]):
        n = rows[i]
        thickness = increase * moments[i, 0]
        for b in range(BINS):
            thickness += bins[n, b, 0]
        scale = highland(thickness / 25.0)
        here = classes(
            momenta, ways.row[n], bins[n], ways.panels[n], scale,
            moments[i, 3], extra * moments[i, 0], s, incoming, after, powers,
        )  # fmt: skip
        more = scale * increase
        total += mixture_log_density(
            ways.data[n], ways.noise[n], momenta.weight[here], s, after,
            more * moments[i, 0], more * moments[i, 1], more * moments[i, 2],
            outlier_density(ways, n, momenta), momenta.outlier,
        )  # fmt: skip
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def bin_scores(ways, bins, momenta, cells, factors, first, last, gradient):
    """Return the log likelihood with the bins scaled, and add its derivatives in the factors' logs.

    Losses and Highland's factor are those without the factors.

    Parameters
    ----------
    ways, bins, momenta
        See `muscan.kernels.ways`.
    cells : ndarray of int32, shape (n, BINS)
        Which factor holds in each bin.
    factors : ndarray, shape (cells,)
    first, last : int
        Range of muons.
    gradient : ndarray, shape (cells,)
        Receives the sum.
    """
    k = momenta.reach.shape[1]
    s, incoming, after = np.empty((3, k)), np.empty(k), np.empty(k)
    powers, scaled, share = np.empty((BINS, k)), np.empty((BINS, 4)), np.empty((3, k))
    total = 0.0
    for n in range(first, last):
        thickness = 0.0
        for b in range(BINS):
            thickness += bins[n, b, 0]
            for j in range(3):
                scaled[b, j] = factors[cells[n, b]] * bins[n, b, j]
            scaled[b, 3] = bins[n, b, 3]
        scale = highland(thickness / 25.0)
        here = classes(
            momenta, ways.row[n], scaled, ways.panels[n], scale, 0.5 * BINS, 0.0,
            s, incoming, after, powers,
        )  # fmt: skip
        single = outlier_density(ways, n, momenta)
        value = _score(
            ways.data[n], ways.noise[n], momenta.weight[here], s, single, momenta.outlier, share
        )
        total += value
        for b in range(BINS):
            score = 0.0
            for i in range(k):
                score += powers[b, i] * (
                    share[0, i] * scaled[b, 0]
                    + share[1, i] * scaled[b, 1]
                    + share[2, i] * scaled[b, 2]
                )
            gradient[cells[n, b]] += scale * score
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _score(data, noise, weight, s, single, outlier, share):
    """Log density of one muon, and its derivatives in each class's elements of S."""
    a1, b1, a2, b2 = (
        np.float64(data[0]),
        np.float64(data[1]),
        np.float64(data[2]),
        np.float64(data[3]),
    )
    total = outlier * single + _LOWEST
    for k in range(weight.shape[0]):
        vaa, vab, vbb = noise[0] + s[0, k], noise[1] + s[1, k], noise[2] + s[2, k]
        waa, wab, wbb = noise[3] + s[0, k], noise[4] + s[1, k], noise[5] + s[2, k]
        v_inverse = 1.0 / (vaa * vbb - vab * vab)
        w_inverse = 1.0 / (waa * wbb - wab * wab)
        va, vb = (vbb * a1 - vab * b1) * v_inverse, (vaa * b1 - vab * a1) * v_inverse
        wa, wb = (wbb * a2 - wab * b2) * w_inverse, (waa * b2 - wab * a2) * w_inverse
        exponent = 0.5 * (a1 * va + b1 * vb + a2 * wa + b2 * wb)
        part = (1.0 - outlier) * weight[k] * math.sqrt(v_inverse * w_inverse) * exp_minus(exponent)
        total += part
        share[0, k] = 0.5 * part * (va * va - vbb * v_inverse + wa * wa - wbb * w_inverse)
        share[1, k] = part * (va * vb + vab * v_inverse + wa * wb + wab * w_inverse)
        share[2, k] = 0.5 * part * (vb * vb - vaa * v_inverse + wb * wb - waa * w_inverse)
    for k in range(weight.shape[0]):
        for j in range(3):
            share[j, k] /= total
    return math.log(total)
